// The points of one metric of one run, by step. NaN in `errors` means that there is none.

const MOST = 6000;

export class Track {
  /** @param {import("./types.js").Points} [points] */
  constructor(points) {
    /** @type {number[]} */ this.steps = points ? [...points.steps] : [];
    /** @type {number[]} NaN is a value here: the run file keeps it */
    this.values = points ? points.values.map((v) => v ?? NaN) : [];
    /** @type {number[]} */ this.errors = points ? points.errors.map((e) => e ?? NaN) : [];
  }

  get length() {
    return this.steps.length;
  }

  /** @returns {boolean} more points than a screen can show: the run should be read again, decimated by the server */
  get crowded() {
    return this.length > MOST;
  }

  /** @param {number} step @returns {number} the index of the last point at or before `step`, -1 where there is none */
  indexAt(step) {
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((this.steps[middle] ?? Infinity) <= step) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** @param {number} step @returns {number} the index of the point nearest to `step`, -1 in an empty track */
  nearest(step) {
    const before = this.indexAt(step);
    const after = Math.min(before + 1, this.length - 1);
    if (before < 0) return after;
    return step - (this.steps[before] ?? 0) <= (this.steps[after] ?? 0) - step ? before : after;
  }

  /**
   * Add a point, or replace the one at this step.
   * @param {number} step
   * @param {number|null} value
   * @param {number|null} error
   */
  put(step, value, error) {
    const at = this.indexAt(step);
    const replace = at >= 0 && this.steps[at] === step ? 1 : 0;
    const index = at + 1 - replace;
    this.steps.splice(index, replace, step);
    this.values.splice(index, replace, value ?? NaN);
    this.errors.splice(index, replace, error ?? NaN);
    if (this.length > 4 * MOST) this.thin();
  }

  /** Keep the least and the greatest of every eight points: the page's memory is bounded, no outlier is lost. */
  thin() {
    const keep = [];
    for (let start = 0; start < this.length; start += 8)
      keep.push(...extremes(this.values, start, Math.min(start + 8, this.length)));
    this.steps = keep.map((i) => this.steps[i] ?? 0);
    this.values = keep.map((i) => this.values[i] ?? NaN);
    this.errors = keep.map((i) => this.errors[i] ?? NaN);
  }

  /**
   * This track with its part from `first` to `last` replaced by a finer one.
   * @param {Track} detail
   * @param {import("./types.js").Span} span
   * @returns {Track}
   */
  refined(detail, span) {
    const from = this.indexAt(span.min - 1e-9) + 1;
    const to = this.indexAt(span.max) + 1;
    const whole = new Track();
    for (const key of /** @type {const} */ (["steps", "values", "errors"])) {
      whole[key] = [...this[key].slice(0, from), ...detail[key], ...this[key].slice(to)];
    }
    return whole;
  }
}

/**
 * @param {number[]} values
 * @param {number} start
 * @param {number} end
 * @returns {number[]} indices, in order; what is not finite stays
 */
function extremes(values, start, end) {
  const odd = [];
  let least = -1;
  let most = -1;
  for (let i = start; i < end; i++) {
    const value = values[i] ?? NaN;
    if (!Number.isFinite(value)) odd.push(i);
    else if (least < 0) least = most = i;
    else if (value < (values[least] ?? 0)) least = i;
    else if (value > (values[most] ?? 0)) most = i;
  }
  return [...new Set([...odd.slice(0, 1), ...(least < 0 ? [] : [least, most])])].sort((a, b) => a - b);
}
