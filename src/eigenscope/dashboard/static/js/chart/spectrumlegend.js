// The words around the spectral density: what the marks are, what is under the cursor, what the colours stand for.

import { paintRamp } from "../colormap.js";
import { densityAt } from "../density.js";
import { h, setText } from "../dom.js";
import { count, number } from "../format.js";
import { term } from "../ui/definitions.js";
import { swatch } from "./readout.js";
import { floorOf } from "./spectrum.js";

/** @typedef {import("../types.js").Density} Density */
/** @typedef {import("../run.js").Run} Run */

export class SpectrumLegend {
  /** @param {() => void} onLatest */
  constructor(onLatest) {
    this.at = h("span", { class: "at", "data-figure": "density_step" });
    this.under = h("span", { class: "v" });
    this.noise = h("span", { class: "v" });
    this.other = h("span");
    this.outliers = h("span");
    this.latest = h("button", {
      type: "button",
      class: "quiet",
      text: "Latest",
      hidden: true,
      on: { click: onLatest },
    });
    this.history = h("span");
    const mark = (/** @type {string} */ kind, /** @type {"a"|"b"} */ run = "a") =>
      h("i", { class: `swatch ${kind}`, "data-run": run, "aria-hidden": "true" });
    this.second = h("span", { class: "entry", hidden: true }, swatch("b"), mark("outlier", "b"), this.other);
    this.top = h(
      "figcaption",
      { class: "readout" },
      h("span", { class: "entry" }, swatch("a"), term("density", "density"), this.under),
      h("span", { class: "entry" }, mark("outlier"), this.outliers),
      this.second,
      h("span", { class: "entry" }, mark("noise"), term("noise_floor", "|λ| < τ"), this.noise),
      this.at,
      this.latest,
    );
    this.ramp = h("canvas", { class: "ramp", "aria-hidden": "true" });
    this.low = h("span");
    this.high = h("span");
    this.bottom = h(
      "div",
      { class: "legend" },
      this.history,
      this.low,
      this.ramp,
      this.high,
    );
  }

  /**
   * @param {Density|null} density the one under the cursor, else the one that is drawn
   * @param {number|null} value the eigenvalue under the cursor
   */
  point(density, value) {
    setText(
      this.under,
      value === null || !density ? "" : `${number(densityAt(density, value), 2)} at λ ${number(value, 3)}`,
    );
    setText(this.at, density ? `step ${count(density.step)}` : "");
  }

  /**
   * @param {number|null} noise τ
   * @param {Run|null} run
   * @param {Run|null} other the one laid over it
   * @param {boolean} chosen a step other than the latest is shown
   */
  state(noise, run, other, chosen) {
    setText(this.noise, noise === null ? "" : number(noise, 2));
    setText(this.outliers, other && run ? `outlier, ${run.name}` : "outlier");
    setText(this.other, other ? `density, outlier, ${other.name}` : "");
    setText(this.history, `history${other && run ? ` of ${run.name}` : ""}: eigenvalues per unit`);
    this.second.hidden = !other;
    this.latest.hidden = !chosen;
  }

  /** @param {number} ceiling the greatest density of the history; 0 where there is none */
  colours(ceiling) {
    this.bottom.hidden = ceiling === 0;
    paintRamp(this.ramp);
    setText(this.low, `≤ ${number(floorOf(ceiling), 1)}`);
    setText(this.high, number(ceiling, 1));
  }
}
