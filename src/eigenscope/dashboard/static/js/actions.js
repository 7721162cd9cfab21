// What the page says of an action: its state in a word, a shape and a colour, and what changed by it.

import { number } from "./format.js";

/** @typedef {import("./types.js").Action} Action */

/** @type {Record<import("./types.js").ActionState, [level: string, word: string]>} */
const STATES = {
  proposed: ["none", "proposed"],
  applied: ["none", "on trial"],
  kept: ["ok", "kept"],
  undone: ["warning", "undone"],
  failed: ["critical", "failed"],
  refused: ["none", "refused"],
  dismissed: ["none", "dismissed"],
};

/** @param {Action} action @returns {[level: string, word: string]} */
export function stateOf({ state }) {
  return STATES[state] ?? ["none", state];
}

/** @param {Action} action @returns {boolean} it was applied, and is no longer in force */
export function wasUndone({ state }) {
  return state === "undone" || state === "failed";
}

/** @param {Action[]} actions @param {number} step @param {number} reach @returns {Action|null} applied near a step */
export function actionNear(actions, step, reach) {
  const isNear = (/** @type {Action} */ a) => a.applied_at !== null && Math.abs(a.applied_at - step) <= reach;
  return actions.findLast(isNear) ?? null;
}

/** @param {Action} action @returns {string} what, why, and what became of it */
export function inWords(action) {
  const end = action.note ? `${stateOf(action)[1]}: ${action.note}` : stateOf(action)[1];
  return `${action.words}, because ${action.alert.message}; ${end}`;
}

/** @param {unknown} value @param {boolean} [inner] a pair inside a list is a value before and after @returns {string} */
function short(value, inner = false) {
  if (typeof value === "number") return number(value, 3);
  if (Array.isArray(value) && inner && value.length === 2) return value.map((v) => short(v)).join(" → ");
  if (Array.isArray(value))
    return value.slice(0, 4).map((v) => short(v, true)).join(", ") + (value.length > 4 ? " …" : "");
  if (value && typeof value === "object") return changed(/** @type {Record<string, unknown>} */ (value));
  return String(value);
}

/** @param {Record<string, unknown>|null} what @returns {string} what was changed: "lr 0.1, 0.05" */
export function changed(what) {
  return Object.entries(what ?? {})
    .map(([name, value]) => `${name.replaceAll("_", " ")} ${short(value)}`)
    .join("; ");
}

const SHOWN = ["loss", "stability_ratio", "condition_mean", "gradient_norm", "depth_factor"];

/** @param {Action} action @returns {{name: string, before: string, after: string}[]} measured on both sides of it */
export function compared({ alert, before, after }) {
  if (!before || !after) return [];
  const names = [...new Set(["loss", alert.metric, ...SHOWN])];
  const known = names.filter((name) => (before[name] ?? null) !== null && (after[name] ?? null) !== null);
  const text = (/** @type {number|string|null|undefined} */ v) =>
    typeof v === "number" ? number(v, 3) : String(v).replaceAll("_", " ");
  return known.slice(0, 4).map((name) => ({ name, before: text(before[name]), after: text(after[name]) }));
}
