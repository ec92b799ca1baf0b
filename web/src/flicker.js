/** How much landmarks flicker: `Flicker`. */

import { distanceAfterSimilarity } from "./similarity.js";

/**
 * Measures how far the landmarks of faces move from one frame to the next, once the motion of the
 * face as a whole is removed: the mean distance of a landmark from where the best similarity
 * (shift, turn, size) takes it from the frame before, in percent of the distance between the
 * outer corners of the eyes. A frame's value is the mean of its faces. Noise counts, and so does
 * what the face really does: speaking, blinking, turning out of the plane.
 */
export class Flicker {
  /** @param {[number, number]} eyeCorners landmarks between which the distance is taken */
  constructor(eyeCorners) {
    this.eyeCorners = eyeCorners;
    this.restart();
  }

  /** Forgets the last frame, for another film. */
  restart() {
    this.last = new Map();
    this.time = null;
  }

  /**
   * The flicker of the next frame.
   *
   * @param {Map<number, ArrayLike<number>>} faces points by the ids of the faces
   * @param {number} time seconds
   * @returns {number | null} percent; null where no face was in the frame before too
   */
  add(faces, time) {
    const follows = this.time !== null && time > this.time && time - this.time <= 0.5;
    const values = [];
    for (const [id, points] of faces) {
      const before = follows && this.last.get(id);
      if (!before) continue;
      const value = distanceAfterSimilarity(before, points) / this.eyeDistance(points);
      if (Number.isFinite(value)) values.push(100 * value);
    }
    this.last = new Map(faces);
    this.time = time;
    return values.length ? values.reduce((a, b) => a + b) / values.length : null;
  }

  eyeDistance(points) {
    const [a, b] = this.eyeCorners;
    return Math.hypot(points[2 * a] - points[2 * b], points[2 * a + 1] - points[2 * b + 1]);
  }
}
