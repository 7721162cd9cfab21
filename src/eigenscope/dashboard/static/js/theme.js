// Light, dark or the system's choice; and the palette that the canvases read from the style sheet.

import { byId, setAttribute } from "./dom.js";

const KEY = "eigenscope-theme";
const NAMES = /** @type {const} */ ([
  "ink",
  "ink-2",
  "ink-3",
  "grid",
  "edge",
  "panel",
  "run-a",
  "run-b",
  "run-a-side",
  "run-b-side",
  "run-a-band",
  "run-b-band",
  "ok",
  "warning",
  "critical",
  "critical-wash",
  "noise",
  "select",
]);

/** @typedef {Record<typeof NAMES[number], string>} Palette */

/** Set by `startTheme`, before anything is drawn. */
export let palette = /** @type {Palette} */ ({});

/** @returns {Palette} the style sheet's colours as the browser resolves them for the theme in force */
function readPalette() {
  const probes = NAMES.map(() => document.createElement("span"));
  NAMES.forEach((name, i) => probes[i]?.style.setProperty("color", `var(--${name})`));
  document.body.append(...probes); // all at once: the browser works out its styles once
  const entries = NAMES.map((name, i) => [name, getComputedStyle(/** @type {Element} */ (probes[i])).color]);
  for (const probe of probes) probe.remove();
  return Object.fromEntries(entries);
}

/** @returns {boolean} */
export function isDark() {
  const choice = document.documentElement.dataset.theme;
  return choice ? choice === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** @param {import("./app.js").App} app Wire the toggle; the system's changes count until the reader chooses. */
export function startTheme(app) {
  const button = byId("theme");
  const refresh = () => {
    palette = readPalette();
    app.theme += 1;
    const label = `Switch to the ${isDark() ? "light" : "dark"} theme`;
    setAttribute(button, "aria-label", label);
    setAttribute(button, "title", label);
    app.touched();
  };
  button.addEventListener("click", () => {
    const choice = isDark() ? "light" : "dark";
    document.documentElement.dataset.theme = choice;
    localStorage.setItem(KEY, choice);
    refresh();
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", refresh);
  refresh();
}
