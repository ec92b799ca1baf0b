/** Boxes [x1, y1, x2, y2] in pixels of a frame, and points as flat arrays x0 y0 x1 y1 ... */

/** The extent of points. */
export function extent(points) {
  const box = [Infinity, Infinity, -Infinity, -Infinity];
  for (let k = 0; k < points.length; k += 2) {
    box[0] = Math.min(box[0], points[k]);
    box[1] = Math.min(box[1], points[k + 1]);
    box[2] = Math.max(box[2], points[k]);
    box[3] = Math.max(box[3], points[k + 1]);
  }
  return box;
}

export const sides = ([x1, y1, x2, y2]) => [x2 - x1, y2 - y1];
export const centre = ([x1, y1, x2, y2]) => [(x1 + x2) / 2, (y1 + y2) / 2];
export const size = (box) => Math.sqrt(sides(box)[0] * sides(box)[1]);
export const shifted = ([x1, y1, x2, y2], [x, y]) => [x1 + x, y1 + y, x2 + x, y2 + y];
export const distance = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);

/** Intersection over union of two boxes. */
export function overlap(a, b) {
  const width = Math.max(0, Math.min(a[2], b[2]) - Math.max(a[0], b[0]));
  const height = Math.max(0, Math.min(a[3], b[3]) - Math.max(a[1], b[1]));
  const both = width * height;
  return both / (size(a) ** 2 + size(b) ** 2 - both);
}

/** Whether two boxes are of one face: the centre of each lies in the other. */
export function sameFace(a, b) {
  const within = ([x, y], box) => box[0] <= x && x <= box[2] && box[1] <= y && y <= box[3];
  return within(centre(a), b) && within(centre(b), a);
}

const SMALLEST_SIDE = 4; // pixels; below that a crop shows a blur
const LARGEST_BOX = 3; // in units of the picture

/**
 * What is wrong with a box of a face in a picture, "" if nothing is.
 *
 * @param {number[]} box
 * @param {{width: number, height: number}} picture
 */
export function boxFault(box, { width, height }) {
  const [w, h] = sides(box);
  if (!box.every(Number.isFinite)) return "must be finite";
  if (!(Math.min(w, h) >= SMALLEST_SIDE)) return "is too small for a face";
  if (box[0] >= width || box[1] >= height || box[2] <= 0 || box[3] <= 0) {
    return "lies outside the picture";
  }
  return Math.max(w, h) > LARGEST_BOX * Math.max(width, height) ? "is too large" : "";
}

/**
 * The crop around a box, as the manifest's rule has it: from its pixels to those of the frame.
 *
 * @param {number[]} box extent of the landmarks
 * @param {{size: number, scale: number}} rule `crop` of the manifest
 * @returns {{step: number, x: number, y: number}}
 */
export function cropAround(box, rule) {
  const step = (rule.scale * Math.max(...sides(box))) / rule.size;
  const [x, y] = centre(box);
  return { step, x: x - (step * rule.size) / 2, y: y - (step * rule.size) / 2 };
}

/** A crop as a matrix frame_from_crop, 9 numbers, row by row. */
export const matrixOf = ({ step, x, y }) => [step, 0, x, 0, step, y, 0, 0, 1];
