// What every panel has: a title, its state, a place for figures and charts, and the switch to the tables.

import { h, setAttribute, setText } from "../dom.js";
import { capital } from "../format.js";
import { term } from "./definitions.js";
import { Figure } from "./figure.js";

const SIGNS = { ok: "●", warning: "◆", critical: "▲", none: "○" };

/** @param {string} level @returns {string} the shape that goes with a state, so that colour is never alone */
export function sign(level) {
  return SIGNS[/** @type {keyof typeof SIGNS} */ (level)] ?? SIGNS.none;
}

/** @param {import("../run.js").Run|null} run @returns {string} why it has no reading */
export function unread(run) {
  return run?.hasEnded ? "no check" : "no check yet";
}

export class Shell {
  /** @param {import("../types.js").Panel} panel */
  constructor(panel) {
    const id = `panel-${panel.name}`;
    this.index = h("span", { class: "index", "aria-hidden": "true" });
    this.chip = h("span", { class: "chip" });
    this.aside = h("span", { class: "aside" });
    this.toggle = h("button", { type: "button", class: "quiet", "aria-pressed": "false", text: "Table" });
    this.figures = h("div", { class: "figures" });
    this.body = h("div", { class: "body" });
    this.sentence = h("span");
    /** @type {HTMLElement|undefined} */ this.word = undefined;
    this.foot = h("p", { class: "foot" }, this.sentence);
    this.root = h(
      "section",
      {
        class: panel.wide ? "panel wide" : "panel",
        id,
        tabindex: "-1",
        "aria-labelledby": `${id}-title`,
        "data-panel": panel.name,
        hidden: panel.applies !== undefined, // until a run is known that it applies to
      },
      h(
        "header",
        null,
        h(
          "h2",
          { id: `${id}-title` },
          this.index,
          panel.title,
        ),
        this.chip,
        this.aside,
        this.toggle,
      ),
      this.figures,
      this.body,
      this.foot,
    );
    this.toggle.setAttribute("aria-label", `${panel.title}: show the tables behind the charts`);
    this.toggle.addEventListener("click", () => this.showTables(this.toggle.getAttribute("aria-pressed") !== "true"));
    /** @type {((tables: boolean) => void)[]} */ this.onTables = [];
  }

  /** @param {number} position in the grid, 1 first: the key that leads to it */
  number(position) {
    setText(this.index, String(position));
  }

  /** @param {boolean} tables */
  showTables(tables) {
    setAttribute(this.toggle, "aria-pressed", String(tables));
    setAttribute(this.root, "data-tables", tables ? "" : null);
    for (const listener of this.onTables) listener(tables);
  }

  /** @param {string} name @param {string} label @param {boolean} [large] @returns {Figure} */
  figure(name, label, large) {
    const figure = new Figure(name, label, large);
    this.figures.append(figure.root);
    this.figures.dataset.large = String(this.figures.querySelectorAll(".large").length);
    return figure;
  }

  /** @param {string} level @param {string} text The panel's state, in a word, a shape and a colour. */
  state(level, text) {
    setText(this.chip, text && `${sign(level)} ${text}`);
    setAttribute(this.chip, "data-level", level);
    setAttribute(this.root, "data-level", level);
  }

  /**
   * The state as the run's rules see it: the worst active alert of this panel.
   * @param {import("../run.js").Run|null} run
   * @param {string} panel the name that alerts give it
   */
  stateFromAlerts(run, panel) {
    const worst = this.recommend(run, panel);
    if (worst) this.state(worst.level, worst.level);
    else if (run?.reading) this.state("ok", "ok");
    else this.state("none", unread(run));
  }

  /**
   * Name the one thing to do, as the worst active alert of this panel has it.
   * @param {import("../run.js").Run|null} run
   * @param {string} panel
   * @returns {import("../types.js").Alert|undefined} that alert
   */
  recommend(run, panel) {
    const worst = run?.active(panel)[0];
    setText(this.aside, (worst?.action ?? "").toUpperCase());
    return worst;
  }

  /**
   * One sentence under the panel.
   * @param {string} text
   */
  say(text) {
    setText(this.sentence, text);
    this.foot.hidden = text === "";
  }

  /**
   * One sentence that says what a word means here; the word opens its definition.
   * @param {string} name of the definition
   * @param {string} word
   * @param {string} text
   */
  explain(name, word, text) {
    this.word ??= this.foot.insertBefore(term(name), this.sentence);
    setText(this.word, capital(word.replaceAll("_", " ")));
    this.say(word && (text ? `: ${text}.` : "."));
  }
}
