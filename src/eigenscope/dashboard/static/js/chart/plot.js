// What all uPlot charts of the page share: axes, cursor, gestures, keys and size.

import uPlot from "../../vendor/uplot/uPlot.js";
import { stepTick, tick } from "../format.js";
import { evenTicks } from "../scales.js";
import { palette } from "../theme.js";

export const GUTTER = 50; // px left of the plotting area, the same everywhere so that charts line up
const FONT = '11px "Inter", "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial, sans-serif';

/** @typedef {import("../scales.js").Scale} Scale */

/** @returns {uPlot.Axis} what the axes have in common */
function plain() {
  return {
    font: FONT,
    stroke: () => palette["ink-2"],
    grid: { stroke: () => palette.grid, width: 1 },
    ticks: { show: false },
    border: { show: true, stroke: () => palette.edge, width: 1 },
  };
}

/**
 * Ticks that have room for their labels: 0 first, then the outermost.
 * @param {uPlot} u
 * @param {number[]} ticks
 * @param {string} key
 * @param {number} room px
 * @returns {number[]} in order
 */
function roomy(u, ticks, key, room) {
  /** @type {number[]} */ const kept = [];
  for (const tick of [...ticks].sort((a, b) => Number(b === 0) - Number(a === 0) || Math.abs(b) - Math.abs(a))) {
    const place = u.valToPos(tick, key);
    if (kept.every((other) => Math.abs(u.valToPos(other, key) - place) >= room)) kept.push(tick);
  }
  return kept.sort((a, b) => a - b);
}

/** @param {boolean} labelled @returns {uPlot.Axis} the steps */
export function stepAxis(labelled) {
  return {
    ...plain(),
    show: true,
    size: labelled ? 22 : 5,
    gap: 5,
    splits: (u, _, min, max) =>
      evenTicks(min, max, Math.max(2, u.bbox.width / uPlot.pxRatio / 90)).filter(Number.isInteger),
    values: (_, splits) => splits.map((s) => (labelled ? stepTick(s) : "")),
  };
}

/** @param {() => Scale} scale @param {string} key @returns {uPlot.Axis} values on the left */
export function valueAxis(scale, key = "y") {
  return {
    ...plain(),
    scale: key,
    side: 3,
    size: GUTTER,
    gap: 6,
    splits: (u, _, min, max) =>
      roomy(u, scale().ticks(min, max, Math.max(2, Math.floor(u.bbox.height / uPlot.pxRatio / 22))), key, 15),
    values: (_, splits) => splits.map(tick),
    filter: (_, splits) => splits,
  };
}

/** @param {() => Scale} scale @param {boolean} labelled @returns {uPlot.Axis} eigenvalues below */
export function eigenvalueAxis(scale, labelled) {
  return {
    ...stepAxis(labelled),
    splits: (u, _, min, max) =>
      roomy(u, scale().ticks(min, max, Math.max(3, Math.floor(u.bbox.width / uPlot.pxRatio / 32))), "x", 40),
    values: (_, splits) => splits.map((s) => (labelled ? tick(s) : "")),
    filter: (_, splits) => splits,
  };
}

/** @typedef {{zoomTo(min: number, max: number): void, panBy(share: number): void,
 *   zoomBy(factor: number, at?: number): void,
 *   reset(): void}} Gestures */

/**
 * Drag to zoom, shift-drag to pan, double-click for everything.
 * @param {Gestures} to
 * @param {string} group charts whose cursors move together
 * @returns {uPlot.Cursor}
 */
export function cursor(to, group) {
  return {
    y: false,
    drag: { x: true, y: false, setScale: false, dist: 4 },
    sync: {
      key: group,
      setSeries: false,
      scales: ["x", null],
      filters: { pub: (type) => type === "mousemove" || type === "mouseleave" },
    },
    points: { size: 6, width: 1.5, fill: () => palette.panel },
    bind: {
      mousedown: (u, _, handler) => (event) => {
        if (event.button !== 0) return null;
        if (event.shiftKey) panWithMouse(u, event, to);
        else handler(event);
        return null;
      },
      dblclick: () => () => (to.reset(), null),
    },
  };
}

/** @param {uPlot} u @param {Gestures} to A finished drag: look at what was selected. */
export function selected(u, to) {
  const { left, width } = u.select;
  if (width < 4) return;
  u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
  to.zoomTo(u.posToVal(left, "x"), u.posToVal(left + width, "x"));
}

/** @param {uPlot} u @param {MouseEvent} start @param {Gestures} to */
function panWithMouse(u, start, to) {
  let x = start.clientX;
  const stop = new AbortController();
  const move = (/** @type {MouseEvent} */ event) => {
    to.panBy((x - event.clientX) / u.over.clientWidth);
    x = event.clientX;
  };
  addEventListener("mousemove", move, { signal: stop.signal });
  addEventListener("mouseup", () => stop.abort(), { signal: stop.signal });
}

/**
 * Wheel and touch: sideways pans, with Ctrl or ⌘ zooms at the pointer; an upright wheel scrolls the page as ever.
 * @param {uPlot} u
 * @param {Gestures} to
 */
export function wheelAndTouch(u, to) {
  u.over.addEventListener(
    "wheel",
    (event) => {
      const along = event.shiftKey ? event.deltaY || event.deltaX : event.deltaX;
      if (event.ctrlKey || event.metaKey) to.zoomBy(1.0015 ** event.deltaY, u.posToVal(event.offsetX, "x"));
      else if (Math.abs(along) > Math.abs(event.shiftKey ? 0 : event.deltaY)) to.panBy(along / u.over.clientWidth);
      else return;
      event.preventDefault();
    },
    { passive: false },
  );
  let x = 0;
  u.over.addEventListener("pointerdown", (event) => (x = event.clientX));
  u.over.addEventListener("pointermove", (event) => {
    if (event.pointerType !== "touch") return;
    to.panBy((x - event.clientX) / u.over.clientWidth);
    x = event.clientX;
  });
}

/**
 * Keys of a focused chart: arrows move the cursor, with Shift they pan; + and − zoom; 0 and Escape show everything.
 * @param {HTMLElement} host
 * @param {() => uPlot|null} plot
 * @param {Gestures} to
 */
export function keys(host, plot, to) {
  host.addEventListener("keydown", (event) => {
    const u = plot();
    const sideways = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!u || event.ctrlKey || event.metaKey || event.altKey) return;
    if (sideways && event.shiftKey) to.panBy(sideways * 0.1);
    else if (sideways) moveCursor(u, sideways);
    else if (event.key === "+" || event.key === "=") to.zoomBy(0.7);
    else if (event.key === "-") to.zoomBy(1 / 0.7);
    else if (event.key === "0" || event.key === "Escape") to.reset();
    else return;
    event.preventDefault();
  });
}

/** @param {uPlot} u @param {number} by points of the data, to the right */
export function moveCursor(u, by) {
  const steps = u.data[0];
  const at = u.cursor.idx ?? (by < 0 ? steps.length : -1);
  const index = Math.min(Math.max(at + by, 0), steps.length - 1);
  const step = steps[index];
  if (step === undefined) return;
  u.setCursor({ left: u.valToPos(step, "x"), top: u.over.clientHeight / 2 });
}

/** @param {HTMLElement} host @param {() => uPlot|null} plot Keep the chart as large as its place. */
export function fitted(host, plot) {
  new ResizeObserver(() => {
    const { clientWidth: width, clientHeight: height } = host;
    const u = plot();
    if (u && width > 0 && height > 0 && (u.width !== width || u.height !== height)) u.setSize({ width, height });
  }).observe(host);
}
