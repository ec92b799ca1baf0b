/** What recurrence is compared with: `Alone`. */

import { extent } from "./boxes.js";

/** Each frame of a tracked film by itself, to compare recurrence with. */
export class Alone {
  /** @param {import("./follower.js").Follower} follower */
  constructor(follower) {
    this.follower = follower;
    this.restart();
  }

  /** Forgets all faces. */
  restart() {
    this.states = new Map();
  }

  /**
   * Solves the faces of a frame without the frame before, in crops around their own last landmarks.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @param {import("./tracker.js").Face[]} faces what a tracker found; a face begins around its landmarks
   * @returns {Promise<Map<number, import("./model.js").Found>>} by id, those that are found
   */
  async step(picture, faces) {
    const there = faces.filter(({ found }) => found);
    const states = there.map(({ id }) => this.states.get(id) ?? null);
    const boxes = there.map(({ found }, n) => (states[n]?.box ? null : extent(found.points)));
    const how = { recurrence: false, strength: 0 };
    const answers = await this.follower.steps(picture, states, boxes, 0, how);
    this.states = new Map(there.map(({ id }, n) => [id, answers[n].state]));
    return new Map(
      there.flatMap(({ id }, n) => (answers[n].found ? [[id, answers[n].found]] : [])),
    );
  }
}
