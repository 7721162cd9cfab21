// The words around the σ of the blocks: the lines, the block under the cursor, and what the colours stand for.

import { diverging, paintRamp } from "../colormap.js";
import { h, setAttribute, setText } from "../dom.js";
import { inWords, sigma } from "../flow.js";
import { count, number } from "../format.js";
import { term } from "../ui/definitions.js";
import { swatch } from "./readout.js";

/** @typedef {import("../flow.js").Flow} Flow */

export const HINT = "Blocks in the order in which data passes; the band is ½ to 2.";

export class ProfileLegend {
  /** @param {{onLatest(): void, onToggle(): void}} on `onToggle`: the other σ is to be pictured */
  constructor(on) {
    this.max = h("span", { class: "v" });
    this.rms = h("span", { class: "v" });
    this.at = h("span", { class: "at", "data-figure": "flow_step" });
    this.second = h("span", { class: "entry", hidden: true }, swatch("b"), swatch("b", true));
    this.other = h("span");
    this.second.append(this.other);
    this.latest = button("Latest", on.onLatest);
    this.top = h(
      "figcaption",
      { class: "readout" },
      h("span", { class: "entry" }, swatch("a"), term("sigma_max", "σmax"), this.max),
      h("span", { class: "entry" }, swatch("a", true), term("sigma_rms", "σrms"), this.rms),
      this.second,
      this.at,
      this.latest,
    );
    this.pointed = h("p", { class: "pointed", text: HINT });
    this.toggle = button("", on.onToggle);
    this.what = h("span");
    this.low = h("span");
    this.high = h("span");
    this.ramp = h("canvas", { class: "ramp", "aria-hidden": "true" });
    this.bottom = h("div", { class: "legend" }, this.what, this.toggle, this.low, this.ramp, this.high);
  }

  /** @param {boolean} aloud to a screen reader, while the keys move the cursor */
  speak(aloud) {
    for (const node of [this.top, this.pointed]) setAttribute(node, "aria-live", aloud ? "polite" : null);
  }

  /** @param {Flow|null} flow the check under the cursor, else the one that is drawn @param {number|null} block */
  point(flow, block) {
    const known = flow && block !== null && block < flow.names.length;
    setText(this.max, known ? sigma(flow, block, "sigma_max") : "");
    setText(this.rms, known ? sigma(flow, block, "sigma_rms") : "");
    setText(this.at, flow ? `step ${count(flow.step)}` : "");
    const words = known ? inWords(flow, block) : HINT;
    setText(this.pointed, words);
    setAttribute(this.pointed, "title", known ? words : null);
  }

  /** @param {import("../run.js").Run|null} other the run laid over the first @param {boolean} chosen not the latest */
  state(other, chosen) {
    this.second.hidden = !other;
    setText(this.other, other?.name ?? "");
    this.latest.hidden = !chosen;
  }

  /** @param {import("../flow.js").Sigma} which @param {number} reach decades on either side of 1 */
  colours(which, reach) {
    const [name, next] = which === "sigma_max" ? ["σmax", "σrms"] : ["σrms", "σmax"];
    setText(this.what, `${name} by step`);
    setText(this.toggle, `show ${next}`);
    setText(this.low, number(10 ** -reach, 2));
    setText(this.high, number(10 ** reach, 2));
    paintRamp(this.ramp, diverging());
  }
}

/** @param {string} text @param {() => void} click */
function button(text, click) {
  return h("button", { type: "button", class: "quiet", text, on: { click } });
}
