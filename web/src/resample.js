/**
 * Pictures on another grid: the crops that the model sees, and reduced pictures for the detector.
 *
 * A picture is {data, width, height}: RGBA bytes, as ImageData has them. Pixel centres lie at whole
 * numbers. Every filter here works on rows and columns apart, so it is two lists of weights: an
 * axis says, for each pixel of the result, which pixels of the picture count and how much.
 */

/**
 * @typedef {object} Axis
 * @property {Int32Array} start the first pixel that counts, for each pixel of the result
 * @property {Int32Array} count how many do
 * @property {Float64Array} weights of them, `most` for each pixel of the result
 * @property {number} most
 */

/**
 * The axis of a crop: bilinear samples, of a picture that is smoothed before where it is reduced.
 *
 * The smoothing is a triangle that falls to 0 at `step` pixels. A frame that is reduced by more
 * than 4 is halved first, as often as it takes.
 *
 * @param {number} step pixels of the picture per pixel of the crop
 * @param {number} origin of the crop's pixel 0, in the picture
 * @param {number} size pixels of the crop
 * @param {number} length pixels of the picture; those beyond are black
 * @param {number} halvings how often pairs of pixels are averaged before
 * @returns {Axis}
 */
export function cropAxis(step, origin, size, length, halvings = 0) {
  const scale = 2 ** halvings;
  const width = Math.max(1, step / scale);
  const reach = Math.ceil(width) - 1;
  const taps = [];
  for (let j = -reach; j <= reach; j++) taps.push(Math.max(0, 1 - Math.abs(j) / width));
  const sum = taps.reduce((a, b) => a + b);
  const axis = makeAxis(size, (taps.length + 1) * scale);
  for (let i = 0; i < size; i++) {
    // Pixel n of a picture that is halved is the mean of `scale` pixels from n * scale on.
    const place = (step * i + origin - (scale - 1) / 2) / scale;
    const low = Math.floor(place);
    const part = place - low;
    for (let n = 0; n <= taps.length; n++) {
      const weight = ((1 - part) * (taps[n] ?? 0) + part * (taps[n - 1] ?? 0)) / sum / scale;
      for (let k = 0; k < scale; k++) put(axis, i, (low - reach + n) * scale + k, weight, length);
    }
  }
  return axis;
}

/**
 * The axis of a reduced picture: means over the pixels that each of its pixels covers.
 *
 * @param {number} size pixels of the result, at most `length`
 * @param {number} length pixels of the picture
 * @returns {Axis}
 */
export function areaAxis(size, length) {
  const step = length / size;
  const axis = makeAxis(size, Math.ceil(step) + 1);
  for (let i = 0; i < size; i++) {
    const [low, high] = [i * step, (i + 1) * step];
    for (let k = Math.floor(low); k < Math.min(length, Math.ceil(high - 1e-9)); k++) {
      put(axis, i, k, (Math.min(high, k + 1) - Math.max(low, k)) / step, length);
    }
  }
  return axis;
}

/**
 * A picture on other rows and columns.
 *
 * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
 * @param {Axis} across
 * @param {Axis} down
 * @returns {Float32Array} rows x columns x 3, RGB, 0..255, not rounded
 */
export function resample(picture, across, down) {
  const { data, width } = picture;
  const [columns, rows] = [across.start.length, down.start.length];
  const line = 3 * columns;
  let first = picture.height;
  let last = 0;
  for (let i = 0; i < rows; i++) {
    if (!down.count[i]) continue;
    first = Math.min(first, down.start[i]);
    last = Math.max(last, down.start[i] + down.count[i]);
  }
  const narrow = new Float32Array(Math.max(0, last - first) * line);
  for (let y = first, to = 0; y < last; y++, to += line)
    row(data, 4 * y * width, across, narrow, to);
  const result = new Float32Array(rows * line);
  for (let i = 0; i < rows; i++) {
    for (let w = 0; w < down.count[i]; w++) {
      const from = (down.start[i] + w - first) * line;
      add(narrow, from, down.weights[i * down.most + w], result, i * line, line);
    }
  }
  return result;
}

/** One row of a picture, on other columns. */
function row(data, from, { start, count, weights, most }, result, to) {
  for (let i = 0; i < start.length; i++, to += 3) {
    let red = 0;
    let green = 0;
    let blue = 0;
    let pixel = from + 4 * start[i];
    const end = i * most + count[i];
    for (let w = i * most; w < end; w++, pixel += 4) {
      const weight = weights[w];
      red += weight * data[pixel];
      green += weight * data[pixel + 1];
      blue += weight * data[pixel + 2];
    }
    result[to] = red;
    result[to + 1] = green;
    result[to + 2] = blue;
  }
}

/** Adds a row, times a weight, to another. */
function add(rows, from, weight, result, to, length) {
  for (let k = 0; k < length; k++) result[to + k] += weight * rows[from + k];
}

/**
 * The crop of a face: as `ldeq_jax.face.geometry.warp` cuts it out.
 *
 * @param {{data: ArrayLike<number>, width: number, height: number}} picture RGBA
 * @param {{step: number, x: number, y: number}} crop pixel (0, 0) of the crop lies at (x, y) of the
 *   picture, the next ones `step` further
 * @param {number} size pixels of the crop's sides
 * @returns {Uint8Array} size x size x 3, RGB
 */
export function cutOut(picture, crop, size) {
  const { step, x, y } = crop;
  const at = (halvings) =>
    resample(
      picture,
      cropAxis(step, x, size, picture.width, halvings),
      cropAxis(step, y, size, picture.height, halvings),
    );
  const halvings = Math.max(0, Math.floor(Math.log2(Math.max(step, 1))) - 1);
  const result = at(halvings);
  // From 3 to 4 the crop passes over to one halving more: a switch would make it jump.
  const passing = step > 1 ? Math.max(0, step / 2 ** halvings - 3) : 0;
  if (passing) {
    const coarse = at(halvings + 1);
    for (let i = 0; i < result.length; i++) result[i] += passing * (coarse[i] - result[i]);
  }
  const bytes = new Uint8Array(result.length);
  for (let i = 0; i < result.length; i++) bytes[i] = result[i] + 0.5; // whole part, at most 255
  return bytes;
}

/** A picture reduced to a size, by the means of the pixels that are covered; RGB, whole numbers. */
export function reduced(picture, width, height) {
  const result = new Float32Array(3 * width * height);
  if (width === picture.width && height === picture.height) {
    for (let to = 0, from = 0; to < result.length; from++) {
      for (let c = 0; c < 3; c++) result[to++] = picture.data[from++];
    }
    return result;
  }
  result.set(resample(picture, areaAxis(width, picture.width), areaAxis(height, picture.height)));
  for (let i = 0; i < result.length; i++) result[i] = Math.round(result[i]);
  return result;
}

function makeAxis(size, most) {
  return {
    start: new Int32Array(size),
    count: new Int32Array(size),
    weights: new Float64Array(size * most),
    most,
  };
}

/** Adds a pixel to those that count for pixel i, in rising order, unless it lies beyond. */
function put(axis, i, pixel, weight, length) {
  if (pixel < 0 || pixel >= length || (weight === 0 && !axis.count[i])) return;
  if (!axis.count[i]) axis.start[i] = pixel;
  axis.weights[i * axis.most + axis.count[i]++] = weight;
}
