// Spectral densities as the page keeps them: looked up by step, and by eigenvalue.

/** @typedef {import("./types.js").Density} Density */

/**
 * A density between its extreme eigenvalues: the smoothed curve has tails beyond, where there is no eigenvalue.
 * @param {Density} density
 * @returns {Density}
 */
export function trimmed(density) {
  const { grid, bulk, outliers } = density;
  const found = [...(bulk ?? []), ...outliers.map((o) => o.value)].filter(Number.isFinite);
  const [first, last] = [grid[0], grid[grid.length - 1]];
  if (!found.length || first === undefined || last === undefined) return density;
  const least = Math.max(first, Math.min(...found));
  const most = Math.min(last, Math.max(...found));
  if (least >= most) return density;
  const kept = [least, ...grid.filter((x) => x > least && x < most), most];
  return { ...density, grid: kept, values: kept.map((x) => densityAt(density, x)) };
}

/** @param {Density} density @param {number} value @returns {number} by linear interpolation; NaN outside the grid */
export function densityAt(density, value) {
  const { grid, values } = density;
  let low = 0;
  let high = grid.length - 1;
  if (!(value >= (grid[0] ?? Infinity) && value <= (grid[high] ?? -Infinity))) return NaN;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if ((grid[middle] ?? 0) <= value) low = middle;
    else high = middle;
  }
  const [x0, x1, y0, y1] = [grid[low] ?? 0, grid[high] ?? 0, values[low] ?? 0, values[high] ?? 0];
  return x1 > x0 ? y0 + ((y1 - y0) * (value - x0)) / (x1 - x0) : y0;
}
