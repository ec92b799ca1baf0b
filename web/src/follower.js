/**
 * Faces in frame after frame, each by itself: what looks the model takes, when a face is lost. As
 * `ldeq_jax.inference.follower` and `inference.doubt` have it.
 */

import { boxFault, centre, distance, extent, sameFace, sides, size } from "./boxes.js";

const SMALLEST = 8; // pixels of the longer side of the landmarks
const DISAGREEMENT = 0.12; // most mean distance between two looks, by the face size
const [OTHER_SHIFT, OTHER_SIZE] = [0.1, 1.1]; // of the second crop, by the box's longer side
const CHECK_EVERY = 10; // frames

/**
 * @typedef {object} Follow what is known of a face between frames
 * @property {string} trouble why there is no face in the frame, "" if there is
 * @property {number[] | null} box where it is expected; null if it is lost
 * @property {import("./model.js").Memory | null} memory
 * @property {number} frames since it was found at a box
 */

export class Follower {
  /** @param {import("./model.js").Model} model */
  constructor(model) {
    this.model = model;
  }

  /**
   * The next frame of several faces, whose looks are taken together.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @param {(Follow | null)[]} states what the last frame left; null for a new face
   * @param {(number[] | null)[]} boxes where a detector sees each; null where nobody has looked
   * @param {number} interval seconds since the last frame
   * @param {{recurrence: boolean, strength: number}} how without recurrence every frame is solved
   *   by itself, in a crop that follows the face all the same
   * @returns {Promise<{found: import("./model.js").Found | null, state: Follow}[]>}
   */
  async steps(picture, states, boxes, interval, how) {
    const faces = states.map((state, n) => this.looks(picture, state, boxes[n], interval));
    const results = [];
    let answers = new Map(faces.map((_, n) => [n, undefined]));
    while (answers.size) {
      const wanted = new Map();
      for (const [n, answer] of answers) {
        const { value, done } = faces[n].next(answer);
        if (done) results[n] = value;
        else wanted.set(n, how.recurrence && !value.alone ? value : { box: value.box });
      }
      const found = await this.model.look(picture, [...wanted.values()], how.strength);
      answers = new Map([...wanted.keys()].map((n, row) => [n, found[row]]));
    }
    return results;
  }

  /** One face of one frame, as a generator that asks for looks of the model. */
  *looks(picture, state, given, interval) {
    if (!state?.box || (given && !sameFace(state.box, given))) state = null;
    if (!state && !given) return lost("not found again without a box");
    let where = state ? state.box : given;
    let found = yield { box: where, memory: state?.memory, interval };
    let trouble = this.whyNoFace(found, where, picture);
    if (!state && !trouble) {
      // A box from elsewhere is not quite what crops are taken around: look again.
      where = extent(found.points);
      found = yield { box: where };
      trouble = this.whyNoFace(found, where, picture);
    }
    const frames = state ? state.frames + 1 : 0;
    if (!trouble && !given && frames % CHECK_EVERY === 0) {
      trouble = yield* this.secondLook(picture, found, where);
    }
    if (trouble) return lost(trouble);
    const box = extent(found.points);
    return { found, state: { trouble: "", box, memory: found.memory, frames } };
  }

  /** Why a look through another crop shows no face in the same place, or "". */
  *secondLook(picture, found, box) {
    const longer = Math.max(...sides(box));
    const [x, y] = centre(box).map((value) => value + OTHER_SHIFT * longer);
    const [w, h] = sides(box).map((side) => (OTHER_SIZE * side) / 2);
    const other = [x - w, y - h, x + w, y + h];
    if (boxFault(other, picture)) return `the box of a second look ${boxFault(other, picture)}`;
    const again = yield { box: other, alone: true };
    if (again.confidence < this.model.manifest.lost.least_confidence) return unlikely(again);
    let sum = 0;
    for (let k = 0; k < found.points.length; k += 2) {
      sum += distance(found.points.subarray(k, k + 2), again.points.subarray(k, k + 2));
    }
    const away = sum / (found.points.length / 2);
    const agree = away <= DISAGREEMENT * size(extent(found.points));
    return agree ? "" : "another crop shows it elsewhere";
  }

  /** Why landmarks that were found around a box are not those of a face, or "". */
  whyNoFace(found, box, picture) {
    const { points } = found;
    if (!points.every(Number.isFinite)) return "its landmarks are not finite";
    const { least_confidence, least_extent } = this.model.manifest.lost;
    const [w, h] = sides(extent(points));
    const expected = Math.max(...sides(box));
    if (Math.max(w, h) < Math.max(SMALLEST, least_extent * expected) || Math.min(w, h) < 1) {
      return `its landmarks fall together, to ${w.toFixed(0)} x ${h.toFixed(0)} pixels`;
    }
    let inside = 0;
    for (let k = 0; k < points.length; k += 2) {
      const [x, y] = [points[k], points[k + 1]];
      inside += x >= 0 && y >= 0 && x <= picture.width - 1 && y <= picture.height - 1;
    }
    if (inside < points.length / 4) return "it has left the frame";
    const fault = boxFault(extent(points), picture);
    if (fault) return `the box of its landmarks ${fault}`;
    return found.confidence < least_confidence ? unlikely(found) : "";
  }
}

const lost = (trouble) => {
  return { found: null, state: { trouble, box: null, memory: null, frames: 0 } };
};
const unlikely = ({ confidence }) =>
  `it does not look like a face (confidence ${confidence.toFixed(2)})`;
