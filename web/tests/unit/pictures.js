/** What the tests share: a picture by formula, as `make_golden.py` makes it, and the golden file. */

import fs from "node:fs";
import path from "node:path";

export const golden = JSON.parse(fs.readFileSync(path.join(import.meta.dirname, "golden.json")));

export function picture(width, height) {
  const data = new Uint8ClampedArray(4 * width * height).fill(255);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      for (let c = 0; c < 3; c++) {
        data[4 * (y * width + x) + c] = (7 * x + 13 * y + 29 * c + 5 * ((x * y) % 17)) % 256;
      }
    }
  }
  return { data, width, height };
}

/** Numbers in [0, 1), the same in every run. */
export function random(seed) {
  return () => {
    seed = (seed * 1664525 + 1013904223) % 2 ** 32;
    return seed / 2 ** 32;
  };
}
