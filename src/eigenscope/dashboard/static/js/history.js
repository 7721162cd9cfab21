// What was measured at some of a run's steps, one thing after the other: which of it is shown, and which held when.

/** @typedef {import("./types.js").Span} Span */

/**
 * @template {{step: number}} T
 * @param {T[]} items by step
 * @param {number} step
 * @returns {T|null} the last one measured at or before the step
 */
export function holding(items, step) {
  let found = null;
  for (const item of items) {
    if (item.step > step) break;
    found = item;
  }
  return found;
}

/**
 * @param {{step: number}[]} items
 * @param {Span|null} window the steps that are looked at; null for all
 * @param {number|undefined} end the run's last step
 * @returns {[number, number]} the steps that a picture of them shows: the last one holds as long as one did on average
 */
export function stepsOf(items, window, end) {
  if (window) return [window.min, window.max];
  const [first, last] = [items[0]?.step ?? 0, items[items.length - 1]?.step ?? 1];
  const even = items.length > 1 ? (last - first) / (items.length - 1) : Math.max(10, (end ?? last) - last);
  return [first, last + even];
}

/**
 * The one that is shown: the latest, until the reader chooses another.
 * @template {{step: number}} T
 */
export class Choice {
  /** @param {() => T[]} known by step @param {() => void} onChange */
  constructor(known, onChange) {
    this.known = known;
    this.onChange = onChange;
    /** @type {number|null} null is the latest */ this.step = null;
  }

  /** @param {number|null} step the nearest one is chosen */
  take(step) {
    const known = this.known();
    const away = (/** @type {T} */ item) => Math.abs(item.step - (step ?? 0));
    const nearest = [...known].sort((a, b) => away(a) - away(b))[0];
    this.step = step === null || nearest === known[known.length - 1] ? null : (nearest?.step ?? null);
    this.onChange();
  }

  /** @param {number} by so many later */
  move(by) {
    const known = this.known();
    const at = known.findIndex((item) => item === this.of(known));
    this.take(known[Math.min(Math.max(at + by, 0), known.length - 1)]?.step ?? null);
  }

  /** @param {T[]} items of this run or another @returns {T|null} */
  of(items) {
    const chosen = this.step === null ? null : holding(items, this.step);
    return chosen ?? items[items.length - 1] ?? null;
  }
}
