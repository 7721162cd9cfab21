// Axis scales: how a value becomes a place on the axis, and which values are written beside it.

/** @typedef {{key: string, forward(value: number): number, backward(place: number): number,
 *   ticks(min: number, max: number, most: number): number[]}} Scale */

/** @param {number} min @param {number} max @param {number} most @returns {number[]} round values, evenly spaced */
export function evenTicks(min, max, most) {
  const rough = (max - min) / Math.max(1, most);
  if (!(rough > 0)) return [min];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999) ?? 10 * power;
  const ticks = [];
  for (let i = Math.ceil(min / step - 1e-9); i * step <= max + step * 1e-9; i++)
    ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** @type {Scale} */
export const linear = { key: "linear", forward: (v) => v, backward: (p) => p, ticks: evenTicks };

/**
 * @param {number} min
 * @param {number} max
 * @param {number[]} mantissas
 * @param {number} every so many decades
 * @param {number} [anchor] the exponent of one that is taken
 * @returns {number[]}
 */
function decades(min, max, mantissas, every, anchor = 0) {
  const ticks = [];
  for (let e = Math.floor(Math.log10(min)); e <= Math.ceil(Math.log10(max)); e++) {
    if ((e - anchor) % every !== 0) continue;
    for (const m of mantissas) ticks.push(Number((m * 10 ** e).toPrecision(12)));
  }
  return ticks.filter((t) => t >= min * (1 - 1e-9) && t <= max * (1 + 1e-9));
}

/** @type {[number[], number][]} the densest that fits is taken */
const LOG_CHOICES = [
  [[1, 2, 3, 4, 5, 6, 7, 8, 9], 1],
  [[1, 2, 5], 1],
  [[1, 3], 1],
  [[1], 1],
  [[1], 2],
  [[1], 3],
  [[1], 5],
  [[1], 10],
  [[1], 50],
];

/** @param {number} min @param {number} max @param {number} most @returns {number[]} */
function logTicks(min, max, most) {
  const fitting = LOG_CHOICES.map(([m, every]) => decades(min, max, m, every)).find((t) => t.length <= most) ?? [];
  if (fitting.length >= 3 || max / min > 30) return fitting;
  const even = evenTicks(min, max, most);
  return even.length >= 2 ? even : evenTicks(min, max, most + 2);
}

/** @type {Scale} Values at or below 0 fall far below the axis; a chart that holds any takes `asinh` instead. */
export const log = {
  key: "log",
  forward: (v) => Math.log10(v > 0 ? v : 1e-300),
  backward: (p) => 10 ** p,
  ticks: logTicks,
};

/**
 * Linear within ± `threshold`, logarithmic beyond, for values of either sign.
 * @param {number} threshold in the unit of the axis
 * @returns {Scale}
 */
export function asinh(threshold) {
  return {
    key: `asinh ${threshold}`,
    forward: (v) => Math.asinh(v / threshold),
    backward: (p) => Math.sinh(p) * threshold,
    ticks: (min, max, most) => asinhTicks(min, max, most, threshold),
  };
}

/** @param {number} min @param {number} max @param {number} most @param {number} threshold @returns {number[]} */
function asinhTicks(min, max, most, threshold) {
  const largest = Math.max(max, -min);
  if (largest <= threshold) return evenTicks(min, max, most);
  if (min > threshold) return logTicks(min, max, most);
  if (max < -threshold) return mirrored(logTicks(-max, -min, most));
  const outermost = Math.floor(Math.log10(largest));
  for (const [mantissas, every] of LOG_CHOICES.slice(2)) {
    const side = (/** @type {number} */ end) =>
      end > threshold ? decades(threshold * 0.999, end, mantissas, every, outermost) : [];
    const ticks = [...mirrored(side(-min)), ...(min <= 0 && max >= 0 ? [0] : []), ...side(max)];
    if (ticks.length <= most) return ticks;
  }
  return [0];
}

/** @param {number[]} ticks @returns {number[]} on the other side of 0, in order */
function mirrored(ticks) {
  return ticks.map((t) => -t).reverse();
}

/**
 * The range that shows [min, max] with a margin, at least `least` wide in the scale's own measure.
 * @param {Scale} scale
 * @param {number} min
 * @param {number} max
 * @param {number} [least]
 * @returns {[number, number]}
 */
export function padded(scale, min, max, least = 0.1) {
  const low = scale.forward(min);
  const high = scale.forward(max);
  const margin = Math.max((high - low) * 0.08, (least - (high - low)) / 2);
  return [scale.backward(low - margin), scale.backward(high + margin)];
}
