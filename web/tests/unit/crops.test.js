import assert from "node:assert/strict";
import test from "node:test";
import { cropAround, matrixOf } from "../../src/boxes.js";
import { isCut } from "../../src/cuts.js";
import { cutOut, reduced } from "../../src/resample.js";
import { golden, picture } from "./pictures.js";

for (const { name, box, frame_from_crop, pixels } of golden.crops) {
  test(`a crop is that of Python: ${name}`, () => {
    const crop = cropAround(box, golden.crop_rule);
    matrixOf(crop).forEach((value, n) => assert.ok(Math.abs(value - frame_from_crop[n]) < 1e-9));
    const found = cutOut(picture(70, 50), crop, golden.crop_rule.size);
    const away = pixels.map((value, n) => Math.abs(value - found[n]));
    assert.ok(Math.max(...away) <= 1, `${Math.max(...away)}`);
    assert.ok(away.reduce((a, b) => a + b) / away.length < 0.3);
  });
}

test("a crop keeps a flat picture, and is black beyond it", () => {
  const flat = { data: new Uint8ClampedArray(4 * 40 * 40).fill(200), width: 40, height: 40 };
  for (const step of [0.3, 1, 1.7, 3.5, 6]) {
    const within = cutOut(flat, { step: step / 4, x: 12, y: 12 }, 8);
    assert.deepEqual(new Set(within), new Set([200]));
    const beyond = cutOut(flat, { step, x: -90, y: 0 }, 8);
    assert.equal(beyond[0], 0);
  }
});

test("a crop moves on smoothly where it passes over to another halving", () => {
  const image = picture(300, 300);
  for (const step of [2, 3, 4, 8]) {
    const [before, after] = [-1e-6, 1e-6].map((d) =>
      cutOut(image, { step: step + d, x: 5, y: 5 }, 16),
    );
    before.forEach((value, n) => assert.ok(Math.abs(value - after[n]) <= 1));
  }
});

test("a picture is reduced as OpenCV does it", () => {
  const found = reduced(picture(70, 50), 20, 14);
  golden.reduced.forEach((value, n) => assert.ok(Math.abs(value - found[n]) <= 1));
  assert.deepEqual(Array.from(reduced(picture(4, 2), 4, 2).slice(3, 6)), [7, 36, 65]);
});

test("a cut is found where Python finds it", () => {
  const image = picture(70, 50);
  const turned = picture(70, 50);
  for (let y = 0; y < 50; y++)
    turned.data.set(image.data.subarray(280 * y, 280 * y + 280), 280 * (49 - y));
  const [none, scene] = isCut(image, null);
  assert.equal(none, false);
  const [cut, after] = isCut(turned, scene);
  assert.equal(cut, golden.cuts.cut);
  assert.ok(Math.abs(after.change - golden.cuts.change) < 0.05, `${after.change}`);
  assert.equal(isCut(image, scene)[0], false);
});
