/** All that is computed of a frame: `Engine`. It knows no page, so it runs in a worker or in node. */

import { Alone } from "./alone.js";
import { Follower } from "./follower.js";
import { Model } from "./model.js";
import { Network } from "./network.js";
import { Tracker } from "./tracker.js";
import { Detector } from "./yunet.js";

/**
 * @typedef {object} How
 * @property {"rwr" | "alone" | "both"} show with recurrence, each frame alone, or both
 * @property {number} strength factor of the model's time constants
 */

export class Engine {
  /**
   * @param {Uint8Array} detector YuNet's ONNX file
   * @param {object} limits see `tracker.LIMITS`
   */
  static async load(detector, limits = {}) {
    return new Engine(await Network.load(detector), limits);
  }

  constructor(detector, limits) {
    this.detector = detector;
    this.limits = limits;
    this.spent = { detector: 0 };
  }

  /**
   * Takes a model, and forgets all faces.
   *
   * @param {{manifest: object, first: Uint8Array, next: Uint8Array, weights: Uint8Array}} files
   */
  async use(files) {
    const before = this.programs;
    this.programs = {
      first: await Network.load(files.first, files.weights),
      next: await Network.load(files.next, files.weights),
    };
    for (const network of Object.values(before ?? {})) await network.release();
    this.manifest = files.manifest;
    this.model = new Model((name, inputs) => this.programs[name].run(inputs), files.manifest);
    const yunet = async (data, width, height) =>
      this.detector.run({ input: ["float32", data, [1, 3, height, width]] });
    const detector = new Detector(yunet, files.manifest.detector);
    const detect = async (picture) => {
      const start = performance.now();
      const found = await detector.detect(picture);
      this.spent.detector += performance.now() - start;
      return found;
    };
    this.tracker = new Tracker(new Follower(this.model), detect, this.limits);
    this.alone = new Alone(new Follower(this.model));
  }

  /** Forgets all faces, for another film. */
  restart() {
    this.tracker.restart();
    this.alone.restart();
  }

  /**
   * The faces of the next frame.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @param {number} time seconds
   * @param {How} how
   */
  async step(picture, time, how) {
    const start = performance.now();
    this.spent.detector = 0;
    const { faces, cut, looked } = await this.tracker.step(picture, time, {
      recurrence: how.show !== "alone",
      strength: how.strength,
    });
    if (how.show !== "both") this.alone.restart();
    const alone = how.show === "both" ? await this.alone.step(picture, faces) : new Map();
    const spent = performance.now() - start;
    return {
      faces: faces.map((face) => {
        const { memory: _, ...found } = face.found ?? {};
        return { ...face, found: face.found && found, alone: alone.get(face.id)?.points ?? null };
      }),
      cut,
      milliseconds: { detector: looked ? this.spent.detector : null, all: spent },
    };
  }

  /** Milliseconds of the program of a frame that follows another, on one face; the median of 5. */
  async timed() {
    const picture = { data: new Uint8Array(4 * 64 * 64), width: 64, height: 64 };
    const box = [8, 8, 56, 56];
    let [{ memory }] = await this.model.look(picture, [{ box }], 1);
    const times = [];
    for (let n = 0; n < 8; n++) {
      const start = performance.now();
      [{ memory }] = await this.model.look(picture, [{ box, memory, interval: 0.04 }], 1);
      times.push(performance.now() - start);
    }
    return times.slice(3).sort((a, b) => a - b)[2];
  }
}
