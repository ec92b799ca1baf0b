/**
 * Several faces in a film, each with an id that stays: `Tracker`, as `ldeq_jax.inference.tracker`.
 *
 * A detector says which faces there are: every few frames, and in every frame while one is lost.
 * What it detects is matched to the faces that are followed by the overlap of their boxes, to those
 * that are lost by their place, and else is a new face.
 */

import { assign } from "./assignment.js";
import { boxFault, centre, distance, overlap, sameFace, shifted, size } from "./boxes.js";
import { isCut } from "./cuts.js";

const MATCH = 0.3; // overlap of a detected box and that of a face that is followed
const SAME = 0.5; // overlap of two faces that are one
const [REACH, SPREADING] = [1, 1]; // of a lost face, in face sizes, and per second
const SIZES = 2; // ratio up to which a lost face may have changed its size
const STEADY = 0.5; // weight of what is known of the velocity against a new difference
const STALE = 2; // seconds; a velocity that is older says nothing

/** Which faces are tracked, and for how long; `ldeq_jax.inference.tracker.Limits` explains each. */
export const LIMITS = {
  detectEvery: 5, // frames
  minScore: 0.8, // of the detector, for a new face
  minSize: 12, // pixels, of a new face
  maxFaces: 16,
  keepSeconds: 2, // that a lost face keeps its id
  unseenSeconds: 3, // after which a face that the detector misses is lost
  cuts: true, // whether all ids end where the scene is cut
};

/**
 * @typedef {object} Face a face of a frame
 * @property {number} id
 * @property {"detected" | "tracked" | "lost"} status
 * @property {import("./model.js").Found | null} found null where it is lost
 * @property {number | null} score of the detector, where it is detected
 * @property {string} trouble why it is lost
 */

export class Tracker {
  /**
   * @param {import("./follower.js").Follower} follower
   * @param {(picture: object) => Promise<{box: number[], score: number}[]>} detect
   * @param {Partial<typeof LIMITS>} limits
   */
  constructor(follower, detect, limits = {}) {
    this.follower = follower;
    this.detect = detect;
    this.limits = { ...LIMITS, ...limits };
    this.restart();
  }

  /** Forgets all faces, for another film. */
  restart() {
    this.people = [];
    this.nextId = 0;
    this.index = 0;
    this.time = null;
    this.scene = null;
  }

  /**
   * Finds the faces of the next frame.
   *
   * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
   * @param {number} time seconds, later than that of the frame before
   * @param {{recurrence: boolean, strength: number}} how see `Follower.steps`
   * @returns {Promise<{faces: Face[], cut: boolean, looked: boolean}>} lost ones too, by their ids
   */
  async step(picture, time, how) {
    const interval = this.time === null ? 0 : time - this.time;
    if (this.time !== null && !(interval > 0)) throw new Error("frames must come in their order");
    let cut = false;
    if (this.limits.cuts) [cut, this.scene] = isCut(picture, this.scene);
    const step = new Step(this, picture, time, interval, how);
    step.begin(cut);
    const someLost = () => step.known.some(isLost);
    let looked = this.index % this.limits.detectEvery === 0 || cut || someLost();
    if (looked) await step.match();
    await step.follow();
    if (!looked && someLost()) {
      looked = true;
      await step.match();
      await step.follow();
    }
    this.people = step.known;
    this.nextId = step.nextId;
    this.index += 1;
    this.time = time;
    return { faces: step.known.map(({ id }) => step.results.get(id)), cut, looked };
  }
}

const isLost = (person) => !person.state.box;

/** Where a face is expected at a time, at constant velocity from where it was last found. */
const expected = (person, time) =>
  shifted(
    person.box,
    person.velocity.map((v) => v * (time - person.found)),
  );

/** The same from where it was last found apart from others, unless that is too long ago. */
const expectedApart = (person, time) =>
  person.found - person.apart > STALE
    ? person.box
    : shifted(
        person.place,
        person.velocity.map((v) => v * (time - person.apart)),
      );

/** One frame of a tracker, from the faces of the frame before to those of this one. */
class Step {
  constructor({ limits, follower, detect, people, nextId }, picture, time, interval, how) {
    Object.assign(this, { limits, follower, detect, nextId, picture, time, interval, how });
    this.before = people;
    this.known = [];
    this.results = new Map(); // of the faces that are done with
    this.boxes = new Map(); // detected box and score, by id
    this.begun = new Set(); // ids that are new in this frame
    this.fresh = [];
  }

  /** Takes over the faces of the frame before, but for those that end. */
  begin(cut) {
    const { keepSeconds } = this.limits;
    const ends = (person) => cut || (isLost(person) && this.time - person.found > keepSeconds);
    this.known = this.before.filter((person) => !ends(person));
  }

  /** Detects faces, and matches them to those that are known and not done with. */
  async match() {
    const detected = await this.detect(this.picture);
    const found = detected.filter(({ box }) => !boxFault(box, this.picture));
    const followed = this.known.filter((person) => !isLost(person));
    const same = found.map(({ box }) =>
      followed.map((person) => overlap(box, expected(person, this.time))),
    );
    const gain = same.map((row) => row.map((value) => (value >= MATCH ? value : -Infinity)));
    const taken = new Set();
    for (const [row, column] of assign(gain)) {
      taken.add(row);
      const person = followed[column];
      const face = this.results.get(person.id);
      if (face) {
        const { score } = found[row];
        this.keep({ ...person, detected: this.time }, { ...face, status: "detected", score });
      } else {
        this.boxes.set(person.id, found[row]);
      }
    }
    const near = same.map((row) => row.some((value) => value >= MATCH));
    const free = [...found.keys()].filter((row) => !taken.has(row) && !near[row]);
    const lost = this.known.filter(isLost);
    const away = free.map((row) => lost.map((person) => -this.away(found[row].box, person)));
    for (const [row, column] of assign(away)) {
      taken.add(free[row]);
      this.boxes.set(lost[column].id, found[free[row]]);
      this.results.delete(lost[column].id);
    }
    const counted = this.known.filter((person) => this.boxes.has(person.id) || !isLost(person));
    let room = this.limits.maxFaces - counted.length;
    for (const row of free) {
      const { box, score } = found[row];
      const fits = score >= this.limits.minScore && size(box) >= this.limits.minSize;
      if (taken.has(row) || !fits || room <= 0) continue;
      this.fresh.push(found[row]);
      room -= 1;
    }
  }

  /** Finds the landmarks of all faces that are not done with. */
  async follow() {
    const people = this.known.filter((person) => !this.results.has(person.id));
    const looked = people.filter((person) => !isLost(person) || this.boxes.has(person.id));
    const given = [...looked.map(({ id }) => this.boxes.get(id)), ...this.fresh];
    const states = given.map((_, n) => looked[n]?.state ?? null);
    const boxes = given.map((one) => one?.box ?? null);
    const answers = await this.follower.steps(this.picture, states, boxes, this.interval, this.how);
    this.fresh = [];
    answers.forEach(({ found, state }, n) => {
      if (looked[n] || found) this.update(looked[n], given[n]?.score ?? null, found, state);
    });
    for (const person of people) {
      if (!looked.includes(person)) this.lose(person, person.state.trouble);
    }
    this.part();
    this.settle();
  }

  update(person, score, found, state) {
    if (!person) {
      const { time } = this;
      const place = { box: state.box, place: state.box, velocity: [0, 0] };
      person = { id: this.nextId++, state, found: time, detected: time, apart: time, ...place };
      this.known.push(person);
      this.begun.add(person.id);
    }
    const seen = score !== null;
    const detected = seen ? this.time : person.detected;
    if (!found) {
      this.lose({ ...person, state }, state.trouble);
      return;
    }
    if (this.time - detected > this.limits.unseenSeconds) {
      this.lose(person, `not detected for more than ${this.limits.unseenSeconds} s`);
      return;
    }
    if (isLost(person)) {
      // Its way here is not known.
      person = { ...person, place: state.box, apart: this.time, velocity: [0, 0] };
    }
    person = { ...person, state, box: state.box, found: this.time, detected };
    const status = seen ? "detected" : "tracked";
    this.keep(person, { id: person.id, status, found, score, trouble: "" });
  }

  lose(person, trouble) {
    const state = { trouble, box: null, memory: null, frames: 0 };
    const face = { id: person.id, status: "lost", found: null, score: null, trouble };
    this.keep({ ...person, state }, face);
  }

  keep(person, face) {
    this.results.set(person.id, face);
    this.known = this.known.map((other) => (other.id === person.id ? person : other));
  }

  /** Of two that have come to be one face, the one is lost that was expected elsewhere. */
  part() {
    const found = this.seen();
    for (let i = 0; i < found.length; i++) {
      for (let j = i + 1; j < found.length; j++) {
        const pair = [found[i], found[j]];
        if (pair.some(({ id }) => this.results.get(id)?.status === "lost")) continue;
        const [one, other] = pair.map(({ box }) => box);
        if (!(overlap(one, other) > SAME) || !sameFace(one, other)) continue;
        const [loser] = pair.sort((a, b) => this.surprise(b, a));
        if (this.begun.has(loser.id)) {
          this.known = this.known.filter(({ id }) => id !== loser.id); // nobody has heard of it
        }
        this.lose(loser, "its landmarks have moved onto another face");
      }
    }
  }

  /** Which of two faces is farther from where it was expected; a newer one is. */
  surprise(a, b) {
    const rank = (person) => {
      const away = distance(centre(person.box), centre(expectedApart(person, this.time)));
      return [Number(this.begun.has(person.id)), Math.round(1000 * away), person.id];
    };
    const [x, y] = [rank(a), rank(b)];
    const first = x.findIndex((value, n) => value !== y[n]);
    return x[first] - y[first];
  }

  /** Notes place and velocity of the faces that are apart from others. */
  settle() {
    const found = this.seen();
    for (const person of found) {
      const touches = found.some((other) => other !== person && overlap(other.box, person.box) > 0);
      if (touches || !(this.time > person.apart)) continue;
      const [now, then] = [centre(person.box), centre(person.place)];
      const seconds = this.time - person.apart;
      const velocity = person.velocity.map(
        (known, axis) => STEADY * known + ((1 - STEADY) * (now[axis] - then[axis])) / seconds,
      );
      const settled = { ...person, place: person.box, apart: this.time, velocity };
      this.keep(settled, this.results.get(person.id));
    }
  }

  /** The faces that are found in this frame. */
  seen() {
    return this.known.filter(({ id }) => this.results.get(id).status !== "lost");
  }

  /** From a box to the place of a lost face, infinite where it cannot be that face. */
  away(box, person) {
    const [one, other] = [size(box), size(person.place)];
    if (Math.max(one, other) > SIZES * Math.min(one, other)) return Infinity;
    const places = [person.box, expectedApart(person, this.time)];
    const nearest = Math.min(...places.map((place) => distance(centre(place), centre(box))));
    const reach = REACH + SPREADING * (this.time - person.found);
    return nearest / other <= reach ? nearest / other : Infinity;
  }
}
