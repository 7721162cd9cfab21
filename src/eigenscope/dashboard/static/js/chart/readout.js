// The line over a chart: its legend, with the values under the cursor, or the latest where there is no cursor.

import { h, setAttribute, setText } from "../dom.js";
import { count, percent, withError } from "../format.js";
import { EXACT } from "../run.js";
import { term } from "../ui/definitions.js";
import { drawn } from "./data.js";

/** @typedef {import("./data.js").Line} Line */
/** @typedef {import("../run.js").Run} Run */

/** @param {"a"|"b"} which @param {boolean} [side] @param {boolean} [loose] @returns {HTMLElement} the look of a line */
export function swatch(which, side = false, loose = false) {
  return h("i", { class: "swatch", "data-run": which, "data-side": side, "data-loose": loose, "aria-hidden": "true" });
}

export class Readout {
  /** @param {Line[]} lines @param {boolean} always the latest values too: no figure of the panel shows them */
  constructor(lines, always) {
    this.lines = lines;
    this.always = always;
    this.step = h("span", { class: "at" });
    /** @type {HTMLElement[][]} a value for each line and run */
    this.values = lines.map(() => [h("span", { class: "v" }), h("span", { class: "v" })]);
    this.second = /** @type {HTMLElement[]} */ ([]);
    this.root = h("figcaption", { class: "readout" }, ...lines.map((line, i) => this.entry(line, i)), this.step);
  }

  /** @param {Line} line @param {number} i */
  entry(line, i) {
    const [a, b] = /** @type {[HTMLElement, HTMLElement]} */ (this.values[i]);
    const second = h("span", { class: "second", hidden: true }, swatch("b", line.side, line.loose), b);
    this.second.push(second);
    return h("span", { class: "entry" }, swatch("a", line.side, line.loose), term(line.metric, line.label), a, second);
  }

  /** @param {boolean} aloud to a screen reader, while the keys move the cursor */
  speak(aloud) {
    setAttribute(this.root, "aria-live", aloud ? "polite" : null);
  }

  /** @param {Run[]} runs @param {number|null} at the step under the cursor; null for the latest */
  show(runs, at) {
    let where = -Infinity;
    const withValues = this.always || at !== null || runs.length > 1;
    this.lines.forEach((line, i) => {
      setAttribute(/** @type {HTMLElement} */ (this.second[i]), "hidden", runs.length > 1 ? null : "");
      runs.forEach((run, r) => {
        const track = run.track(line.metric);
        const index = at === null ? track.length - 1 : valueAt(run, line, at);
        if (r === 0 && index >= 0) where = Math.max(where, track.steps[index] ?? 0);
        const node = this.values[i]?.[r];
        if (node)
          setText(
            node,
            !withValues ? "" : index < 0 ? "none" : written(line, track, index),
          );
      });
    });
    setText(this.step, at !== null && Number.isFinite(where) ? `step ${count(where)}` : "");
  }
}

/**
 * @param {Run} run
 * @param {Line} line
 * @param {number} step
 * @returns {number} the index of the nearest point; -1 where the nearest check gave no value
 */
function valueAt(run, line, step) {
  const track = run.track(line.metric);
  const index = track.nearest(step);
  if (!line.breaks || index < 0) return index;
  const checks = run.track(line.breaks);
  const check = checks.steps[checks.nearest(step)] ?? 0;
  return checks.length < EXACT && check !== track.steps[index] ? -1 : index;
}

/** @param {Run|null|undefined} run @returns {string} what an empty chart says */
export function unmeasured(run) {
  return run?.hasEnded ? "no values" : "no values yet";
}

/** @param {Line} line @param {import("../track.js").Track} track @param {number} index @returns {string} one point */
export function written(line, track, index) {
  const [value, error = NaN] = [track.values[index], track.errors[index]];
  if (line.isShare || value === undefined) return percent(value);
  return withError(drawn(line, value), Number.isNaN(error) ? null : error);
}
