/** Networks in the browser: onnxruntime-web, on the CPU, with all threads that the page may use. */

import * as ort from "onnxruntime-web/wasm";

/**
 * Prepares onnxruntime.
 *
 * @param {ArrayBuffer} wasm its program
 * @param {string | undefined} folder address of the folder with its loader, for threads
 */
export function prepare(wasm, folder) {
  // Threads share memory, which a page may do only where its server isolates it from others.
  const threads = globalThis.crossOriginIsolated ? navigator.hardwareConcurrency : 1;
  ort.env.wasm.numThreads = Math.min(4, threads || 1);
  ort.env.wasm.wasmBinary = wasm;
  if (folder) ort.env.wasm.wasmPaths = folder;
  ort.env.logLevel = "error";
  return ort.env.wasm.numThreads;
}

/** A network that is loaded. */
export class Network {
  /**
   * @param {Uint8Array} graph an ONNX file
   * @param {Uint8Array} [weights] that it keeps in a file of their own, weights.bin
   */
  static async load(graph, weights) {
    const files = weights ? [{ path: "weights.bin", data: weights }] : [];
    return new Network(await ort.InferenceSession.create(graph, { externalData: files }));
  }

  constructor(session) {
    this.session = session;
  }

  /**
   * Runs it.
   *
   * @param {Record<string, [string, any, number[]]>} inputs type, data and shape of each
   * @returns {Promise<Record<string, Float32Array>>}
   */
  async run(inputs) {
    const feeds = Object.entries(inputs).map(([name, input]) => [name, new ort.Tensor(...input)]);
    const found = await this.session.run(Object.fromEntries(feeds));
    return Object.fromEntries(Object.entries(found).map(([name, { data }]) => [name, data]));
  }

  /** Gives its memory back. */
  release() {
    return this.session.release();
  }
}
