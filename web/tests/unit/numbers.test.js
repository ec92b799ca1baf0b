import assert from "node:assert/strict";
import test from "node:test";
import { assign } from "../../src/assignment.js";
import { boxFault, overlap, sameFace } from "../../src/boxes.js";
import { Flicker } from "../../src/flicker.js";
import { distanceAfterSimilarity, fitSimilarity } from "../../src/similarity.js";
import { Table, header, lines } from "../../src/table.js";
import { golden, random } from "./pictures.js";

const near = (a, b, by = 1e-9) => assert.ok(Math.abs(a - b) < by, `${a} ${b}`);

function permutations(list) {
  if (!list.length) return [[]];
  return list.flatMap((one, n) => permutations(list.toSpliced(n, 1)).map((rest) => [one, ...rest]));
}

test("an assignment has the greatest gain of all", () => {
  const next = random(3);
  for (const [rows, columns] of [
    [1, 1],
    [3, 3],
    [2, 4],
    [4, 2],
    [4, 4],
  ]) {
    for (let trial = 0; trial < 20; trial++) {
      const gain = Array.from({ length: rows }, () => Array.from({ length: columns }, next));
      const pairs = assign(gain);
      assert.equal(pairs.length, Math.min(rows, columns));
      const found = pairs.reduce((sum, [r, c]) => sum + gain[r][c], 0);
      const long = [...Array(Math.max(rows, columns)).keys()];
      const best = permutations(long).map((order) =>
        order.reduce((sum, c, r) => sum + (gain[r]?.[c] ?? 0), 0),
      );
      near(found, Math.max(...best));
    }
  }
});

test("pairs that are not allowed are left out", () => {
  assert.deepEqual(
    assign([
      [-Infinity, 0.4],
      [-Infinity, 0.9],
    ]),
    [[1, 1]],
  );
  assert.deepEqual(assign([[-Infinity]]), []);
  assert.deepEqual(assign([]), []);
  assert.deepEqual(assign([[], []]), []);
});

test("overlap, and whether two boxes are of one face", () => {
  near(overlap([0, 0, 10, 10], [5, 0, 15, 10]), 1 / 3);
  assert.equal(overlap([0, 0, 10, 10], [10, 0, 20, 10]), 0);
  assert.equal(sameFace([0, 0, 10, 10], [4, 0, 14, 10]), true);
  assert.equal(sameFace([0, 0, 10, 10], [6, 0, 16, 10]), false);
});

test("boxes of no use", () => {
  const frame = { width: 100, height: 50 };
  assert.equal(boxFault([-20, 10, 30, 60], frame), "");
  for (const box of [
    [0, 0, 3, 9],
    [9, 0, 0, 9],
    [100, 0, 110, 9],
    [0, -9, 9, 0],
    [-200, 0, 150, 90],
  ]) {
    assert.notEqual(boxFault(box, frame), "");
  }
  assert.notEqual(boxFault([0, 0, NaN, 9], frame), "");
});

const FACE = Float64Array.from([0, 0, 10, 1, 4, 12, 9, 8, -3, 5]);
const moved = ({ a, b, x, y }) =>
  FACE.map((_, k) => {
    const [px, py] = [FACE[k & ~1], FACE[k | 1]];
    return k % 2 ? b * px + a * py + y : a * px - b * py + x;
  });

test("a similarity is found again", () => {
  const motion = { a: 1.2 * Math.cos(0.3), b: 1.2 * Math.sin(0.3), x: -7, y: 11 };
  const found = fitSimilarity(FACE, moved(motion));
  for (const name of ["a", "b", "x", "y"]) near(found[name], motion[name]);
  near(distanceAfterSimilarity(FACE, moved(motion)), 0);
});

test("flicker is 0 of a face that moves as a whole, and the part of the eye distance that is left", () => {
  const flicker = new Flicker([0, 1]);
  assert.equal(flicker.add(new Map([[0, FACE]]), 0), null);
  near(flicker.add(new Map([[0, moved({ a: 1.1, b: 0.2, x: 30, y: 2 })]]), 0.04), 0);
  // Opposite points of a cross that swap nothing but their distance: the fit cannot follow.
  const cross = Float64Array.from([10, 0, -10, 0, 0, 10, 0, -10]);
  const wide = Float64Array.from([11, 0, -11, 0, 0, 9, 0, -9]);
  const other = new Flicker([0, 1]);
  other.add(new Map([[4, cross]]), 0);
  near(other.add(new Map([[4, wide]]), 0.04), 100 / 22);
  assert.equal(other.add(new Map([[5, wide]]), 0.08), null); // another face
  assert.equal(other.add(new Map([[5, wide]]), 2), null); // too late
});

const FOUND = {
  points: [1.5, 20, 10, 2.25],
  spread: [0.5, 1.25],
  probability: [1, 0.125],
  confidence: 0.75,
};

test("a table has the columns and numbers of ldeq track", () => {
  const face = { id: 1, status: "detected", found: FOUND, score: 0.9 };
  assert.deepEqual([header(2), ...lines(3, 0.24, [face], 2)], golden.table);
});

test("every line of a table has as many cells, also where there is no face", () => {
  const table = new Table(2, 100);
  table.add(0, 0, []);
  table.add(1, 0.04, [{ id: 7, status: "lost", found: null, score: null }]);
  table.add(2, 0.08, [{ id: 7, status: "tracked", found: FOUND, score: null }]);
  const rows = table
    .text()
    .trimEnd()
    .split("\r\n")
    .map((line) => line.split(","));
  assert.deepEqual(
    rows.map((row) => row.length),
    [18, 18, 18, 18],
  );
  assert.deepEqual(
    rows.map((row) => row[3]),
    ["status", "none", "lost", "tracked"],
  );
  assert.deepEqual(rows[3].slice(8, 10), ["", "0.750"]);
});

test("a long table keeps its last lines", () => {
  const table = new Table(2, 10);
  for (let n = 0; n < 40; n++) table.add(n, n / 25, []);
  assert.ok(table.rows.length <= 11);
  assert.equal(table.rows.length + table.dropped, 40);
  assert.ok(table.rows.at(-1).startsWith("39,"));
});
