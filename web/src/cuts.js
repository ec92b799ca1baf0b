/**
 * Cuts between the scenes of a film, as `ldeq_jax.media.cuts` finds them: how far hue, saturation
 * and brightness of a small picture change from a frame to the next, against the usual change.
 */

import { resample, areaAxis } from "./resample.js";

const [WIDTH, HEIGHT] = [64, 36];
const [LEAST, TIMES] = [15, 3]; // a cut's change, in levels of 255, and against the usual change
const SAMPLES = 4; // of each pixel of the small picture, each way
const WEIGHT = 0.2; // of a new frame in the usual change

/**
 * Whether a frame begins a new scene.
 *
 * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
 * @param {{hsv: Float32Array, change: number} | null} scene of the last frame; null in a first one
 * @returns {[boolean, {hsv: Float32Array, change: number}]} and the scene for the next frame
 */
export function isCut(picture, scene) {
  const hsv = smallHsv(picture);
  if (!scene) return [false, { hsv, change: 0 }];
  let sum = 0;
  for (let i = 0; i < hsv.length; i += 3) {
    const hue = Math.abs(hsv[i] - scene.hsv[i]);
    sum += Math.min(hue, 180 - hue); // half degrees, on a circle
    sum += Math.abs(hsv[i + 1] - scene.hsv[i + 1]) + Math.abs(hsv[i + 2] - scene.hsv[i + 2]);
  }
  const mean = sum / hsv.length;
  const cut = mean >= Math.max(LEAST, TIMES * scene.change);
  return [cut, { hsv, change: scene.change + WEIGHT * (mean - scene.change) }];
}

function smallHsv(picture) {
  const { width, height } = picture;
  const fits = Math.min(Math.floor(width / WIDTH), Math.floor(height / HEIGHT));
  const thin = Math.max(1, Math.floor(fits / SAMPLES));
  const small = thin === 1 ? picture : thinned(picture, thin);
  const [columns, rows] = [Math.min(WIDTH, small.width), Math.min(HEIGHT, small.height)];
  const hsv = resample(small, areaAxis(columns, small.width), areaAxis(rows, small.height));
  for (let i = 0; i < hsv.length; i += 3) {
    const [r, g, b] = [hsv[i], hsv[i + 1], hsv[i + 2]].map(Math.round);
    const most = Math.max(r, g, b);
    const range = most - Math.min(r, g, b);
    let hue = 0;
    if (range && most === r) hue = (60 * (g - b)) / range;
    else if (range && most === g) hue = 120 + (60 * (b - r)) / range;
    else if (range) hue = 240 + (60 * (r - g)) / range;
    hsv[i] = Math.round((hue < 0 ? hue + 360 : hue) / 2) % 180;
    hsv[i + 1] = most ? Math.round((255 * range) / most) : 0;
    hsv[i + 2] = most;
  }
  return hsv;
}

/** Every so many pixels of a picture, each way. */
function thinned({ data, width, height }, thin) {
  const [columns, rows] = [Math.ceil(width / thin), Math.ceil(height / thin)];
  const result = new Uint8ClampedArray(4 * columns * rows);
  for (let y = 0, to = 0; y < height; y += thin) {
    for (let x = 0; x < width; x += thin, to += 4) {
      const from = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) result[to + c] = data[from + c];
    }
  }
  return { data: result, width: columns, height: rows };
}
