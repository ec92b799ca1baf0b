/** The two programs of an exported model, on the faces of a frame: `Model`. */

import { cropAround, matrixOf } from "./boxes.js";
import { cutOut } from "./resample.js";

/**
 * @typedef {object} Memory what a frame leaves for the next, of one face
 * @property {Float32Array} heatmaps
 * @property {Float32Array} motion
 * @property {number[]} matrix frame_from_crop
 */

/**
 * @typedef {object} Found the landmarks of a face
 * @property {Float64Array} points x0 y0 x1 y1 ... in frame pixels
 * @property {Float64Array} spread of each, frame pixels
 * @property {ArrayLike<number>} probability that each is near where it belongs
 * @property {number} confidence probability that it is a face
 * @property {Memory} memory for the next frame
 */

/** @typedef {{box: number[], memory?: Memory | null, interval?: number, alone?: boolean}} Look */

export class Model {
  /**
   * @param {(program: "first" | "next", inputs: Record<string, [string, any, number[]]>) =>
   *   Promise<Record<string, Float32Array>>} run runs a program; each input is [type, data, shape]
   * @param {object} manifest of the export
   */
  constructor(run, manifest) {
    this.run = run;
    this.manifest = manifest;
    if (!["landmarks", "extent"].includes(manifest.crop.kind)) {
      throw new Error(`crops of the kind ${manifest.crop.kind} are not known here`);
    }
  }

  /**
   * Looks at faces of a frame, all those that follow another frame in one batch, the others too.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @param {Look[]} looks those without a memory, or too late after it, are solved as stills
   * @param {number} strength how firmly the last frame is held
   * @returns {Promise<Found[]>}
   */
  async look(picture, looks, strength) {
    const gap = this.manifest.recurrence.longest_gap;
    const follows = ({ memory, interval }) => Boolean(memory) && interval <= gap;
    const found = [];
    for (const program of ["first", "next"]) {
      const numbers = [...looks.keys()].filter((n) => follows(looks[n]) === (program === "next"));
      if (!numbers.length) continue;
      const chosen = numbers.map((n) => looks[n]);
      const results = await this.batch(program, picture, chosen, strength);
      numbers.forEach((n, row) => (found[n] = results[row]));
    }
    return found;
  }

  async batch(program, picture, looks, strength) {
    const { size } = this.manifest.crop;
    const rows = looks.length;
    const crops = looks.map(({ box }) => cropAround(box, this.manifest.crop));
    const image = new Uint8Array(rows * size * size * 3);
    crops.forEach((crop, row) => image.set(cutOut(picture, crop, size), row * size * size * 3));
    const inputs = { image: ["uint8", image, [rows, size, size, 3]] };
    if (program === "next") {
      const shapes = Object.fromEntries(
        this.manifest.programs.next.inputs.map(({ name, shape }) => [name, shape.slice(1)]),
      );
      const put = (name, parts) => {
        const data = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
        parts.forEach((part, row) => data.set(part, (row * data.length) / rows));
        inputs[name] = ["float32", data, [rows, ...shapes[name]]];
      };
      put("frame_from_crop", crops.map(matrixOf));
      put(
        "interval",
        looks.map(({ interval }) => [interval]),
      );
      put(
        "strength",
        looks.map(() => [strength]),
      );
      put(
        "previous_heatmaps",
        looks.map(({ memory }) => memory.heatmaps),
      );
      put(
        "previous_motion",
        looks.map(({ memory }) => memory.motion),
      );
      put(
        "previous_frame_from_crop",
        looks.map(({ memory }) => memory.matrix),
      );
    }
    const found = await this.run(program, inputs);
    return crops.map((crop, row) => {
      const of = (name) => {
        const count = found[name].length / rows;
        return found[name].slice(row * count, (row + 1) * count);
      };
      const points = Float64Array.from(of("landmarks"), (value, k) => {
        return crop.step * value + (k % 2 ? crop.y : crop.x);
      });
      return {
        points,
        spread: Float64Array.from(of("spread"), (value) => crop.step * value),
        probability: of("probability"),
        confidence: of("confidence")[0],
        memory: { heatmaps: of("heatmaps"), motion: of("motion"), matrix: matrixOf(crop) },
      };
    });
  }
}
