// From the tracks of runs to the columns that uPlot draws, and the range that shows them.

import { EXACT } from "../run.js";

/** @typedef {import("../track.js").Track} Track */

/** @typedef {{metric: string, label: string, side?: boolean, loose?: boolean, stepped?: boolean, breaks?: string,
 *   isShare?: boolean, isLog10?: boolean}} Line:
 *  `side` is drawn lighter, `loose` dotted; where `breaks`, another metric, has points but this one has none, its line is
 *  broken; `isShare` is written in per cent; `isLog10`: the metric is the logarithm of what is drawn */

/** @typedef {{steps: number[], low: (number|null)[], value: (number|null)[], high: (number|null)[]}} Columns */

const BEYOND = 1e300; // an unbounded error reaches past any axis

/** @param {Line} line @param {number} value of its metric @returns {number} what is drawn and written of it */
export function drawn(line, value) {
  return line.isLog10 && Number.isFinite(value) ? 10 ** Math.min(value, 300) : value;
}

/**
 * A track as columns: what is not finite is left out here and marked on the chart's edge instead.
 * @param {Track} track
 * @param {Track|null} breaks
 * @param {Line} [line]
 * @returns {Columns}
 */
export function columns(track, breaks, line) {
  const cols = /** @type {Columns} */ ({ steps: [], low: [], value: [], high: [] });
  for (let i = 0; i < track.length; i++) {
    const step = track.steps[i] ?? 0;
    if (breaks && i > 0) breakAt(cols, gap(breaks, track.steps[i - 1] ?? 0, step));
    const value = track.values[i] ?? NaN;
    push(cols, step, line ? drawn(line, value) : value, track.errors[i] ?? NaN);
  }
  if (breaks && track.length) breakAt(cols, gap(breaks, track.steps[track.length - 1] ?? 0, Infinity));
  return cols;
}

/** @param {Columns} cols @param {number} step @param {number} value @param {number} error */
function push(cols, step, value, error) {
  const drawn = Number.isFinite(value) ? value : null;
  const reach = Number.isFinite(error) ? error : BEYOND;
  const hasBand = drawn !== null && !Number.isNaN(error);
  cols.steps.push(step);
  cols.value.push(drawn);
  cols.low.push(hasBand ? drawn - reach : null);
  cols.high.push(hasBand ? drawn + reach : null);
}

/** @param {Columns} cols @param {number|null} step */
function breakAt(cols, step) {
  if (step === null) return;
  cols.steps.push(step);
  for (const key of /** @type {const} */ (["low", "value", "high"])) cols[key].push(null);
}

/**
 * The step of a check between two points that has no value of its own. In a decimated track neighbouring blocks leave
 * up to four points of the other metric in between without any being missing.
 * @param {Track} breaks
 * @param {number} from
 * @param {number} to
 * @returns {number|null}
 */
function gap(breaks, from, to) {
  const first = breaks.indexAt(from) + 1;
  const between = breaks.indexAt(to - 1e-9) - first + 1;
  const allowed = breaks.length < EXACT ? 0 : 4;
  return between > allowed ? (breaks.steps[first] ?? null) : null;
}

/**
 * Least and greatest value in a window, error bands included; on a logarithmic axis as far as a decade.
 * @param {Columns[]} all
 * @param {{min: number, max: number}} view
 * @param {boolean} positive the axis is logarithmic
 * @returns {[number, number]|null} null where nothing is in the window
 */
export function bounds(all, view, positive) {
  let least = Infinity;
  let most = -Infinity;
  const take = (/** @type {Columns} */ cols, /** @type {number} */ i) => {
    const value = cols.value[i];
    if (value === null || value === undefined || (positive && value <= 0)) return;
    const [low, high] = [cols.low[i] ?? value, cols.high[i] ?? value];
    least = Math.min(least, positive ? Math.max(low, value / 10) : low > -BEYOND / 2 ? low : value);
    most = Math.max(most, positive ? Math.min(high, value * 10) : high < BEYOND / 2 ? high : value);
  };
  for (const cols of all) {
    for (let i = 0; i < cols.steps.length; i++) {
      const step = cols.steps[i] ?? 0;
      const crosses =
        step < view.min ? (cols.steps[i + 1] ?? -Infinity) >= view.min : (cols.steps[i - 1] ?? Infinity) <= view.max;
      if ((step >= view.min && step <= view.max) || crosses) take(cols, i);
    }
  }
  return least <= most ? [least, most] : null;
}

/** @param {Columns[]} all @returns {number|null} the least positive value if any value is 0 or negative, else null */
export function needsAsinh(all) {
  let least = Infinity;
  let needs = false;
  for (const { value } of all) {
    for (const v of value) {
      if (v === null) continue;
      if (v <= 0) needs = true;
      if (v !== 0) least = Math.min(least, Math.abs(v));
    }
  }
  if (!needs) return null;
  return Number.isFinite(least) ? 10 ** Math.floor(Math.log10(least)) : 1;
}
