/** What is said to the visitor when something does not work, in whole sentences. */

/** An error whose message is for the visitor. */
export class VisibleError extends Error {}

/**
 * Why the camera cannot be used.
 *
 * @param {Error} error of getUserMedia
 * @param {boolean} file whether the page was opened from a file
 */
export function cameraMessage(error, file) {
  const again = "Then press Camera again, or open a film.";
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return file
        ? "The camera was not allowed. Some browsers refuse it to pages that are opened as files: " +
            `serve the folder instead, for example with “python3 -m http.server”. ${again}`
        : `The camera was not allowed. Allow it beside the page's address. ${again}`;
    case "NotFoundError":
    case "OverconstrainedError":
    case "DevicesNotFoundError":
      return `No camera was found. Connect one. ${again}`;
    case "NotReadableError":
    case "AbortError":
      return `The camera does not start; another program may be using it. Close that. ${again}`;
    default:
      return `The camera cannot be used: ${error.message}.`;
  }
}

/** Why there is no camera at all, where the browser has no way to ask for one. */
export function noCameraMessage(file) {
  return file
    ? "This browser allows no camera to pages that are opened as files. Serve the folder instead, " +
        "for example with “python3 -m http.server”, or open a film."
    : "This browser allows the camera only to pages from https or localhost. Open a film instead.";
}

export const NO_SIMD =
  "This browser cannot run the model: it lacks WebAssembly with SIMD. All browsers since 2023 have " +
  "it (Chrome, Firefox, Safari 16.4); please try a newer one.";

/** Why a file cannot be shown. */
export const fileMessage = (name) =>
  `“${name}” is no film or picture that this browser can read. It reads MP4, MOV, WebM, MKV, and ` +
  "pictures such as JPEG and PNG.";
export const soundMessage = (name) =>
  `“${name}” holds sound but no picture. Choose a film or a picture.`;
export const codecMessage = (name, codec) =>
  `This browser cannot decode “${name}”${codec ? ` (${codec})` : ""}. Convert it to H.264, for ` +
  "example with “ffmpeg -i film -c:v libx264 film.mp4”.";
export const brokenMessage = (name, count) =>
  count
    ? `“${name}” is damaged after frame ${count}. What was found until there is kept.`
    : `“${name}” is damaged: none of its frames can be decoded.`;
export const shortMessage = (name, seconds, whole) =>
  `“${name}” is cut short: ${seconds.toFixed(1)} of ${whole.toFixed(1)} seconds are there.`;
