// A note on a chart, beside the mark under the cursor.

import { changed, stateOf } from "../actions.js";
import { h, setAttribute } from "../dom.js";
import { count } from "../format.js";
import { sign } from "../ui/shell.js";

/** @typedef {import("../types.js").Action} Action */

export class Tip {
  /** @param {HTMLElement} host the chart */
  constructor(host) {
    this.host = host;
    this.root = h("div", { class: "tip", role: "note", hidden: true });
    host.append(this.root);
    /** @type {Action|null} */ this.shown = null;
  }

  /** @param {Action|null} action @param {uPlot|null} plot */
  show(action, plot) {
    this.root.hidden = action === null || plot === null;
    if (!action || !plot) return;
    if (action !== this.shown) this.fill(action);
    const x = plot.valToPos(action.applied_at ?? 0, "x") + plot.over.offsetLeft;
    const isRight = x > this.host.clientWidth / 2;
    this.root.style.left = isRight ? "" : `${x + 10}px`;
    this.root.style.right = isRight ? `${this.host.clientWidth - x + 10}px` : "";
  }

  /** @param {Action} action */
  fill(action) {
    this.shown = action;
    const [level, word] = stateOf(action);
    setAttribute(this.root, "data-level", level);
    this.root.replaceChildren(
      h("b", { text: action.words }),
      h("span", { text: `step ${count(action.applied_at)}: ${changed(action.changed) || "applied"}` }),
      h("span", { text: `because ${action.alert.message}` }),
      h("span", null, h("span", { class: "chip", text: `${sign(level)} ${word}` }), action.note && ` ${action.note}`),
    );
  }
}
