// Every number's definition, one click away: a label that opens it.

import { byId, h, setText } from "../dom.js";

/** @typedef {import("../types.js").Definition} Definition */

/** @type {Record<string, Definition>} */
let definitions = {};

/** @param {Record<string, Definition>} all */
export function setDefinitions(all) {
  definitions = all;
}

/** @param {string} name @returns {boolean} */
export function isDefined(name) {
  return name in definitions;
}

/**
 * A label that opens the definition of what it names.
 * @param {string} name the metric
 * @param {string} [text] the label where it is shorter than the definition's own
 * @returns {HTMLButtonElement}
 */
export function term(name, text) {
  const label = text ?? definitions[name]?.label ?? name.replaceAll("_", " ");
  const button = h("button", {
    type: "button",
    class: "term",
    "data-term": name,
    "aria-haspopup": "dialog",
    text: label,
  });
  button.addEventListener("click", () => open(name, button));
  return button;
}

/** @param {string} name @param {HTMLElement} anchor */
function open(name, anchor) {
  const box = byId("definition");
  const found = definitions[name];
  setText(byId("definition-title"), found?.label ?? name.replaceAll("_", " "));
  byId("definition-body").replaceChildren(
    h("p", { text: found?.definition ?? "The server gave no definition of this quantity." }),
    h(
      "dl",
      null,
      ...row("Name", h("code", { text: name })),
      ...row("Unit", found?.unit),
      ...row("Source", found?.source),
    ),
  );
  if (box.matches(":popover-open")) box.hidePopover();
  box.showPopover();
  place(box, anchor);
  box.focus(); // closing it gives the focus back to the label: that is the popover's own doing
}

/** @param {string} label @param {string|Node|null|undefined} value @returns {Node[]} */
function row(label, value) {
  return value ? [h("dt", { text: label }), h("dd", null, value)] : [];
}

/**
 * Below the label where there is room, above it otherwise; inside the window.
 * @param {HTMLElement} box
 * @param {HTMLElement} anchor
 */
function place(box, anchor) {
  const at = anchor.getBoundingClientRect();
  const { width, height } = box.getBoundingClientRect();
  const left = Math.max(8, Math.min(at.left, innerWidth - width - 8));
  const below = at.bottom + 6;
  const top = below + height + 8 <= innerHeight ? below : Math.max(8, at.top - height - 6);
  box.style.left = `${left}px`;
  box.style.top = `${top}px`;
}
