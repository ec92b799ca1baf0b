/** Similarities of the plane: a turn, a change of size and a shift. */

/**
 * The least-squares similarity from points to others.
 *
 * @param {ArrayLike<number>} points x0 y0 x1 y1 ...
 * @param {ArrayLike<number>} targets the same
 * @returns {{a: number, b: number, x: number, y: number}} (px, py) goes to
 *   (a px - b py + x, b px + a py + y)
 */
export function fitSimilarity(points, targets) {
  const count = points.length / 2;
  const mean = (array, axis) => {
    let sum = 0;
    for (let k = axis; k < array.length; k += 2) sum += array[k];
    return sum / count;
  };
  const [px, py, qx, qy] = [mean(points, 0), mean(points, 1), mean(targets, 0), mean(targets, 1)];
  let [along, across, spread] = [0, 0, 0];
  for (let k = 0; k < points.length; k += 2) {
    const [dx, dy] = [points[k] - px, points[k + 1] - py];
    const [ex, ey] = [targets[k] - qx, targets[k + 1] - qy];
    along += dx * ex + dy * ey;
    across += dx * ey - dy * ex;
    spread += dx * dx + dy * dy;
  }
  const [a, b] = spread > 0 ? [along / spread, across / spread] : [1, 0];
  return { a, b, x: qx - a * px + b * py, y: qy - b * px - a * py };
}

/** Mean distance of points from others after the best similarity. */
export function distanceAfterSimilarity(points, targets) {
  const { a, b, x, y } = fitSimilarity(points, targets);
  let sum = 0;
  for (let k = 0; k < points.length; k += 2) {
    const [px, py] = [points[k], points[k + 1]];
    sum += Math.hypot(a * px - b * py + x - targets[k], b * px + a * py + y - targets[k + 1]);
  }
  return sum / (points.length / 2);
}
