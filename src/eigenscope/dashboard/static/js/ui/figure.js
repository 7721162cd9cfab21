// A number on a panel: its label (which opens the definition), its value with the error, or why it has none.

import { h, setAttribute, setText } from "../dom.js";
import { count, withError } from "../format.js";
import { term } from "./definitions.js";

/** @typedef {{text: string, unit?: string, note?: string|null, level?: string|null, missing?: boolean}} Shown */

export class Figure {
  /**
   * @param {string} name the metric, for its definition
   * @param {string} label
   * @param {boolean} [large]
   */
  constructor(name, label, large = false) {
    this.main = h("b");
    this.error = h("span", { class: "error" });
    this.value = h("span", { class: "value", "data-figure": name }, this.main, " ", this.error);
    this.unit = h("span", { class: "unit" });
    this.note = h("span", { class: "note" });
    this.label = h("span", { class: "label" }, term(name, label));
    this.root = h(
      "div",
      { class: large ? "figure large" : "figure" },
      this.label,
      h("span", { class: "reading" }, this.value, this.unit),
      this.note,
    );
  }

  /** @param {Shown} shown */
  show({ text, unit = "", note = null, level = null, missing = false }) {
    const cut = text.startsWith("(") ? -1 : text.indexOf(" ± ");
    setText(this.main, cut < 0 ? text : text.slice(0, cut));
    setText(this.error, cut < 0 ? "" : text.slice(cut + 1));
    setText(this.unit, unit);
    setText(this.note, note ?? "");
    setAttribute(this.root, "data-level", level);
    setAttribute(this.root, "data-missing", missing ? "" : null);
  }

  /**
   * An estimate with its error; where it is null, the reason in its place.
   * @param {import("../types.js").Estimate|number|null|undefined} estimate
   * @param {string} [reason] why it is null, where the estimate doesn't say
   * @param {Partial<Shown>} [more]
   */
  estimate(estimate, reason = "not measured", more = {}) {
    const { value, error, standard_error, reason: own } = asEstimate(estimate);
    if (value === null) this.show({ text: own ?? reason, missing: true, ...more, note: more.note ?? null });
    else this.show({ text: withError(value, error ?? standard_error), ...more });
  }
}

/** @param {unknown} given a number, an estimate or nothing @returns {import("../types.js").Estimate} */
export function asEstimate(given) {
  if (typeof given === "number") return { value: given };
  if (given === null || typeof given !== "object") return { value: null };
  return { value: null, .../** @type {object} */ (given) };
}

/**
 * @param {import("../types.js").Reading|null|undefined} reading
 * @returns {string} the step of what comes from the whole spectrum, where it is older than the reading
 */
export function fromStep(reading) {
  const step = reading?.spectrum_step;
  return typeof step === "number" && step !== reading?.step ? `from step ${count(step)}` : "";
}
