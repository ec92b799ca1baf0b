/** The face detector YuNet: what it takes, and what its numbers mean, as OpenCV has it. */

import { boxFault, overlap, size } from "./boxes.js";
import { reduced } from "./resample.js";

const STRIDES = [8, 16, 32];
// Boxes of faces that fill what YuNet sees are off, and right again in half of its size.
const LARGE = 0.45;
const LEAST_SCORE = 0.6; // of a face that is known

/** Detects the faces of pictures. */
export class Detector {
  /**
   * @param {(input: Float32Array, width: number, height: number) =>
   *   Promise<Record<string, Float32Array>>} network runs YuNet on (3, height, width) BGR 0..255
   * @param {object} rule `detector` of the manifest
   */
  constructor(network, rule) {
    this.network = network;
    this.rule = rule;
  }

  /**
   * The faces of a picture, the largest first.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @returns {Promise<{box: number[], score: number}[]>} the boxes are the extent of the landmarks
   */
  async detect(picture) {
    const side = this.rule.longer_side;
    let faces = await this.look(picture, side);
    const large = LARGE * Math.max(picture.width, picture.height);
    const longer = (face) => Math.max(face.w, face.h);
    if (faces.some((face) => longer(face) > large)) {
      const again = (await this.look(picture, side / 2)).filter((f) => longer(f) > 0.8 * large);
      const others = faces.filter((face) => longer(face) <= large);
      if (again.length) {
        const apart = (one) =>
          again.every((other) => overlap(corners(one), corners(other)) < this.rule.most_overlap);
        faces = [...again, ...others.filter(apart)];
      }
    }
    return faces
      .map((face) => ({ box: landmarkExtent(face, this.rule), score: face.score }))
      .filter(({ box }) => !boxFault(box, picture))
      .sort((a, b) => size(b.box) - size(a.box));
  }

  /** The faces of a picture that is reduced until its longer side has so many pixels. */
  async look(picture, side) {
    const zoom = Math.min(1, side / Math.max(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((length) =>
      zoom < 1 ? Math.max(1, Math.round(zoom * length)) : length,
    );
    const input = makeInput(picture, width, height);
    const found = await this.network(input.data, input.width, input.height);
    const faces = decode(found, input.width, input.height, LEAST_SCORE, this.rule.most_overlap);
    return faces.map(({ x, y, w, h, score }) => {
      return { x: x / zoom, y: y / zoom, w: w / zoom, h: h / zoom, score };
    });
  }
}

/** What YuNet takes: (3, height, width) BGR 0..255, with black added up to multiples of 32. */
export function makeInput(picture, width, height) {
  const small = reduced(picture, width, height);
  const [columns, rows] = [width, height].map((length) => 32 * Math.ceil(length / 32));
  const plane = rows * columns;
  const data = new Float32Array(3 * plane);
  for (let y = 0, from = 0; y < height; y++) {
    for (let to = y * columns; to < y * columns + width; to++) {
      data[to + 2 * plane] = small[from++];
      data[to + plane] = small[from++];
      data[to] = small[from++];
    }
  }
  return { data, width: columns, height: rows };
}

/**
 * The faces in YuNet's numbers.
 *
 * @param {Record<string, Float32Array>} found by the names of its outputs, cls_8 and so on
 * @param {number} width of its input, a multiple of 32
 * @param {number} height
 * @param {number} leastScore
 * @param {number} mostOverlap of two boxes; of more, that of the better score counts
 * @returns {{x: number, y: number, w: number, h: number, score: number}[]} the surest first
 */
export function decode(found, width, height, leastScore, mostOverlap) {
  const faces = [];
  const unit = (value) => Math.min(1, Math.max(0, value));
  for (const stride of STRIDES) {
    const columns = width / stride;
    const [cls, obj, bbox] = ["cls", "obj", "bbox"].map((name) => found[`${name}_${stride}`]);
    for (let k = 0; k < columns * (height / stride); k++) {
      const score = Math.sqrt(unit(cls[k]) * unit(obj[k]));
      if (score < leastScore) continue;
      const [w, h] = [bbox[4 * k + 2], bbox[4 * k + 3]].map((v) => Math.exp(v) * stride);
      const x = ((k % columns) + bbox[4 * k]) * stride - w / 2;
      const y = (Math.floor(k / columns) + bbox[4 * k + 1]) * stride - h / 2;
      faces.push({ x, y, w, h, score });
    }
  }
  faces.sort((a, b) => b.score - a.score);
  const kept = [];
  for (const face of faces) {
    const box = wholePixels(face); // OpenCV compares boxes of whole pixels
    if (kept.every((other) => overlap(box, wholePixels(other)) <= mostOverlap)) kept.push(face);
  }
  return kept;
}

/** The extent of the landmarks of a face that YuNet has found. */
export function landmarkExtent({ x, y, w, h }, rule) {
  const [cx, cy] = [x + w / 2, y + h / 2 + rule.box_down * Math.sqrt(w * h)];
  const [a, b] = [(rule.box_scale * w) / 2, (rule.box_scale * h) / 2];
  return [cx - a, cy - b, cx + a, cy + b];
}

const corners = ({ x, y, w, h }) => [x, y, x + w, y + h];
const wholePixels = ({ x, y, w, h }) => {
  const [left, top] = [Math.trunc(x), Math.trunc(y)];
  return [left, top, left + Math.trunc(w), top + Math.trunc(h)];
};
