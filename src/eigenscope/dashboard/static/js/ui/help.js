// The keys, and what the marks mean: a dialog behind the question mark. Digits go to the panels.

import { byId } from "../dom.js";

export function startHelp() {
  const dialog = /** @type {HTMLDialogElement} */ (byId("help"));
  byId("help-button").addEventListener("click", () => dialog.showModal());
  byId("help-close").addEventListener("click", () => dialog.close());
  addEventListener("keydown", (event) => {
    const typing = event.target instanceof HTMLInputElement;
    if (typing || event.ctrlKey || event.metaKey || event.altKey || dialog.open) return;
    if (event.key === "?") dialog.showModal();
    else if (/^[1-9]$/.test(event.key)) goTo(Number(event.key));
  });
  byId("skip").addEventListener("click", (event) => (event.preventDefault(), goTo(1)));
}

/** @param {number} position of a panel, 1 first */
function goTo(position) {
  const panel = document.querySelectorAll("#panels > .panel:not([hidden])")[position - 1];
  if (!(panel instanceof HTMLElement)) return;
  panel.focus();
  panel.scrollIntoView({ block: "nearest" });
}
