/** The numbers below the picture: `Readout`. */

import { colour } from "./view.js";

const EVERY = 250; // milliseconds; nobody reads faster
const KEPT = 30; // frames of which speeds are taken

const $ = (id) => document.getElementById(id);
const number = (value, digits = 0) => (value === null ? "–" : value.toFixed(digits));

/** How many faces, in words. */
export const inWords = (count) => (count === 1 ? "1 face" : `${count || "no"} faces`);

export class Readout {
  /** @param {import("./meter.js").Meter} meter */
  constructor(meter) {
    this.meter = meter;
    this.written = 0;
    this.waiting = null;
    this.restart();
  }

  /** Forgets how fast it was. */
  restart() {
    this.times = [];
    this.computing = [];
    this.latency = null;
  }

  /**
   * Counts a frame.
   *
   * @param {number} computing milliseconds that the model and all around it took
   * @param {number} latency milliseconds from the frame to its landmarks
   */
  count(computing, latency) {
    this.times.push(performance.now());
    this.computing.push(computing);
    for (const list of [this.times, this.computing]) if (list.length > KEPT) list.shift();
    this.latency = this.latency === null ? latency : 0.9 * this.latency + 0.1 * latency;
  }

  /**
   * Writes the numbers, now or a little later.
   *
   * @param {{frames: number | null, skipped: number | null, model: string | null,
   *   faces: object[]}} now
   */
  write(now) {
    clearTimeout(this.later);
    this.waiting = now;
    const early = this.written + EVERY - performance.now();
    if (early > 0 && now.frames !== null) this.later = setTimeout(() => this.flush(), early);
    else this.flush();
  }

  /** Writes what waits, if anything does. */
  flush() {
    clearTimeout(this.later);
    const now = this.waiting;
    if (!now) return;
    this.waiting = null;
    this.written = performance.now();
    const { times, computing } = this;
    const seconds = (times.at(-1) - times[0]) / 1000;
    const median = [...computing].sort((a, b) => a - b)[computing.length >> 1];
    $("rate").textContent = number(times.length > 1 ? (times.length - 1) / seconds : null, 1);
    $("computing").textContent = number(median ?? null);
    $("latency").textContent = number(this.latency);
    $("frames").textContent = now.frames ?? "–";
    $("skipped").textContent = now.skipped ?? "–";
    $("used").textContent = now.model ?? "–";
    this.writeFlicker();
    this.writeFaces(now.faces);
  }

  writeFlicker() {
    const [ours, others] = ["rwr", "alone"].map((name) => this.meter.mean(name).value);
    const percent = (value) => (value === null ? "–" : `${value.toFixed(2)} %`);
    $("flicker-rwr").textContent = percent(ours);
    $("flicker-alone").textContent = percent(others);
    const share = ours !== null && others ? Math.round(100 * (ours / others - 1)) : null;
    const words = share > 0 ? `${share} % more` : `${-share} % less`;
    $("flicker-gain").textContent = share === null ? "" : `${words} with recurrence`;
  }

  writeFaces(faces) {
    const cell = (text) => Object.assign(document.createElement("td"), { textContent: text });
    const rows = faces.map((face) => {
      const row = document.createElement("tr");
      const sure = face.found ? `${Math.round(100 * face.found.confidence)} %` : "";
      row.append(cell(face.id), cell(face.status), cell(sure));
      const dot = Object.assign(document.createElement("span"), { className: "dot" });
      dot.style.background = colour(face.id);
      row.firstChild.prepend(dot);
      return row;
    });
    if (!rows.length) {
      const none = Object.assign(cell("none"), { colSpan: 3 });
      rows.push(document.createElement("tr"));
      rows[0].append(none);
    }
    $("faces").replaceChildren(...rows);
  }
}
