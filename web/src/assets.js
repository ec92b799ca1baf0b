/**
 * The files that the page needs: from its server, or, in the page that is one file, from within.
 */

const within = (name) => document.getElementById(`file:${name}`);

/** Whether this is the page that is one file. */
export const standalone = () => Boolean(within("worker.js"));

/**
 * A file.
 *
 * @param {string} name its path beside the page
 * @param {(bytes: number) => void} [progress] is told of the bytes that have come
 * @returns {Promise<Uint8Array>}
 */
export async function asset(name, progress = () => {}) {
  const element = within(name);
  if (element) {
    const text = element.textContent.trim();
    element.remove();
    const bytes = Uint8Array.fromBase64?.(text) ?? decoded(text);
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }
  const response = await fetch(new URL(name, document.baseURI));
  if (!response.ok) throw new Error(`${name} cannot be loaded (${response.status})`);
  const parts = [];
  for (let reader = response.body.getReader(); ;) {
    const { done, value } = await reader.read();
    if (done) break;
    parts.push(value);
    progress(value.length);
  }
  return new Uint8Array(await new Blob(parts).arrayBuffer());
}

/** The thread that computes. */
export function startWorker() {
  const source = within("worker.js");
  if (!source) return new Worker(new URL("worker.js", document.baseURI), { type: "module" });
  const address = URL.createObjectURL(new Blob([source.textContent], { type: "text/javascript" }));
  return new Worker(address);
}

function decoded(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) bytes[i] = letters.charCodeAt(i);
  return bytes;
}
