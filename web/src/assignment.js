/**
 * Pairs of a row and a column, each used once at most, of the greatest total gain.
 *
 * @param {number[][]} gain rows of numbers; -Infinity for a pair that is not allowed
 * @returns {[number, number][]}
 */
export function assign(gain) {
  const [rows, columns] = [gain.length, gain[0]?.length ?? 0];
  if (!rows || !columns) return [];
  if (rows > columns) {
    const turned = gain[0].map((_, column) => gain.map((row) => row[column]));
    return assign(turned).map(([column, row]) => [row, column]);
  }
  const worst = 1e6; // cost of a pair that is not allowed
  const cost = gain.map((row) => row.map((value) => (value === -Infinity ? worst : -value)));
  // The Hungarian method with potentials; row and column 0 stand for none.
  const ofRow = new Float64Array(rows + 1);
  const ofColumn = new Float64Array(columns + 1);
  const rowAt = new Int32Array(columns + 1);
  const before = new Int32Array(columns + 1);
  for (let row = 1; row <= rows; row++) {
    const least = new Float64Array(columns + 1).fill(Infinity);
    const used = new Uint8Array(columns + 1);
    let column = 0;
    rowAt[0] = row;
    do {
      used[column] = 1;
      let next = 0;
      let delta = Infinity;
      for (let j = 1; j <= columns; j++) {
        if (used[j]) continue;
        const current = cost[rowAt[column] - 1][j - 1] - ofRow[rowAt[column]] - ofColumn[j];
        if (current < least[j]) [least[j], before[j]] = [current, column];
        if (least[j] < delta) [delta, next] = [least[j], j];
      }
      for (let j = 0; j <= columns; j++) {
        if (used[j]) {
          ofRow[rowAt[j]] += delta;
          ofColumn[j] -= delta;
        } else {
          least[j] -= delta;
        }
      }
      column = next;
    } while (rowAt[column]);
    for (; column; column = before[column]) rowAt[column] = rowAt[before[column]];
  }
  const pairs = [];
  for (let j = 1; j <= columns; j++) {
    if (rowAt[j] && gain[rowAt[j] - 1][j - 1] > -Infinity) pairs.push([rowAt[j] - 1, j - 1]);
  }
  return pairs.sort(([a], [b]) => a - b);
}
