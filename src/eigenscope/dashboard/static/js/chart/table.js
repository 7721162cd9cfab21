// The table behind a chart: the same points, as text.

import { h } from "../dom.js";
import { count } from "../format.js";
import { written } from "./readout.js";

const MOST_ROWS = 200;

/** @typedef {import("../run.js").Run} Run */

/**
 * @param {string} caption
 * @param {string[]} head
 * @param {(string|Node)[][]} rows the first cell of each is its heading
 * @returns {HTMLTableElement}
 */
export function table(caption, head, rows) {
  const cells = (/** @type {(string|Node)[]} */ row) =>
    row.map((cell, i) => (i ? h("td", null, cell) : h("th", { scope: "row" }, cell)));
  return h(
    "table",
    null,
    h("caption", { text: caption }),
    h("thead", null, h("tr", null, ...head.map((text) => h("th", { scope: "col", text })))),
    h("tbody", null, ...rows.map((row) => h("tr", null, ...cells(row)))),
  );
}

/**
 * The points of a trend inside the window, the newest first.
 * @param {string} title
 * @param {Run[]} runs
 * @param {import("./data.js").Line[]} lines
 * @param {import("../types.js").Span} view
 * @returns {HTMLTableElement}
 */
export function trendTable(title, runs, lines, view) {
  const columns = runs.flatMap((run) => lines.map((line) => ({ line, track: run.track(line.metric) })));
  const steps = new Set(columns.flatMap(({ track: t }) => t.steps.slice(t.indexAt(view.min - 1e-9) + 1, t.indexAt(view.max) + 1)));
  const newest = [...steps].sort((a, b) => b - a).slice(0, MOST_ROWS);
  const heads = runs.flatMap((run) =>
    lines.map((line) => (runs.length > 1 ? `${line.label}, ${run.name}` : line.label)),
  );
  const rows = newest.map((step) => [count(step), ...columns.map(({ line, track }) => cell(line, track, step))]);
  const part =
    newest.length < steps.size
      ? `the newest ${newest.length} of ${count(steps.size)} points`
      : `${count(steps.size)} points`;
  return table(
    `${title}: ${part}, steps ${count(Math.max(0, view.min))} to ${count(view.max)}`,
    ["step", ...heads],
    rows,
  );
}

/** @param {import("./data.js").Line} line @param {import("../track.js").Track} track @param {number} step */
function cell(line, track, step) {
  const i = track.indexAt(step);
  return i >= 0 && track.steps[i] === step ? written(line, track, i) : "";
}
