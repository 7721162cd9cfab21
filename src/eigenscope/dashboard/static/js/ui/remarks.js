// Sentences below a panel, each behind a word that opens its definition.

import { h } from "../dom.js";
import { term } from "./definitions.js";

/** @typedef {[name: string, word: string, text: string]} Remark */

export class Remarks {
  constructor() {
    this.root = h("ul", { class: "remarks", hidden: true });
  }

  /** @param {Remark[]} remarks those without a text are left out */
  show(remarks) {
    const said = remarks.filter(([, , text]) => text);
    this.root.hidden = said.length === 0;
    this.root.replaceChildren(...said.map(([name, word, text]) => h("li", null, term(name, word), `: ${text}`)));
  }
}

/** @param {string} text @returns {string} with a full stop */
export function sentence(text) {
  return !text || /[.!?]$/.test(text) ? text : `${text}.`;
}
