/** The thread that computes, so that the page stays quick; `client.js` is its other end. */

import { Engine } from "./engine.js";
import { prepare } from "./network.js";

let engine;
let canvas;

/** The pixels of a picture as they are, without scaling. */
function pixels(image, width, height) {
  if (canvas?.canvas.width !== width || canvas.canvas.height !== height) {
    const options = { willReadFrequently: true, colorSpace: "srgb" };
    canvas = new OffscreenCanvas(width, height).getContext("2d", options);
  }
  canvas.drawImage(image, 0, 0, width, height);
  return canvas.getImageData(0, 0, width, height);
}

const tasks = {
  async load({ wasm, folder, detector }) {
    const threads = prepare(wasm, folder);
    engine = await Engine.load(detector);
    return { threads };
  },
  async use({ files }) {
    await engine.use(files);
    return { milliseconds: await engine.timed() };
  },
  async step({ image, width, height, time, how }) {
    const picture = pixels(image, width, height);
    const result = await engine.step(picture, time, how);
    return { result, image };
  },
  restart() {
    engine.restart();
  },
};

let last = Promise.resolve();
self.onmessage = ({ data: { number, task, ...given } }) => {
  last = last.then(async () => {
    try {
      const answer = (await tasks[task](given)) ?? {};
      self.postMessage({ number, answer }, answer.image ? [answer.image] : []);
    } catch (error) {
      given.image?.close();
      self.postMessage({ number, error: error?.message ?? String(error) });
    }
  });
};
