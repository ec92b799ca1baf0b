/** What was found, as a table: the columns of `ldeq track`'s .csv files. */

/**
 * The first line of a table.
 *
 * @param {number} count number of landmarks
 */
export function header(count) {
  const numbers = [...Array(count).keys()];
  return [
    ...["frame", "time", "face", "status", "left", "top", "right", "bottom", "score", "confidence"],
    ...numbers.flatMap((k) => [`x${k}`, `y${k}`]),
    ...numbers.map((k) => `spread${k}`),
    ...numbers.map((k) => `probability${k}`),
  ].join(",");
}

/**
 * The lines of a frame: one for each face, and one where there is none.
 *
 * @param {number} index number of the frame, from 0
 * @param {number} time seconds
 * @param {import("./tracker.js").Face[]} faces
 * @param {number} count number of landmarks
 * @returns {string[]}
 */
export function lines(index, time, faces, count) {
  const start = `${index},${time.toFixed(6)}`;
  const nothing = ",".repeat(5 + 4 * count);
  if (!faces.length) return [`${start},,none,${nothing}`];
  return faces.map(({ id, status, found, score }) => {
    if (!found) return `${start},${id},${status},${nothing}`;
    const { points, spread, probability, confidence } = found;
    const xs = points.filter((_, k) => k % 2 === 0);
    const ys = points.filter((_, k) => k % 2 === 1);
    const box = [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)];
    const numbers = [...box, score, confidence, ...points, ...spread, ...probability];
    const cells = numbers.map((number) => (number === null ? "" : number.toFixed(3)));
    return [start, id, status, ...cells].join(",");
  });
}

/** A table that grows by frames, and keeps the last ones where there are very many. */
export class Table {
  /**
   * @param {number} count number of landmarks
   * @param {number} most lines that are kept
   */
  constructor(count, most = 50000) {
    this.count = count;
    this.most = most;
    this.rows = [];
    this.dropped = 0;
  }

  /** Adds a frame, see `lines`. */
  add(index, time, faces) {
    this.rows.push(...lines(index, time, faces, this.count));
    if (this.rows.length > 1.1 * this.most) {
      const surplus = this.rows.length - this.most;
      this.rows.splice(0, surplus);
      this.dropped += surplus;
    }
  }

  /** The whole table as text. */
  text() {
    return [header(this.count), ...this.rows].map((row) => `${row}\r\n`).join("");
  }
}
