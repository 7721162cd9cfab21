// A plot: axes, a grid, and what is drawn between them.
"use strict";

const MARGIN = { left: 46, right: 18, top: 12, bottom: 34 };
const HEIGHT = 240;

/**
 * Ticks on a linear axis, about six.
 * @param {number} low
 * @param {number} high
 */
function linearTicks(low, high) {
  const rough = (high - low) / 6;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = unit * ([1, 2, 5, 10].find((factor) => factor * unit >= rough) ?? 10);
  const first = Math.ceil(low / step);
  return Array.from({ length: Math.floor(high / step) - first + 1 }, (_, i) => Number(((first + i) * step).toPrecision(12)));
}

/**
 * Ticks on a log axis: powers of ten, and 2 and 5 between them where there are few.
 * @param {number} low
 * @param {number} high
 */
function logTicks(low, high) {
  if (high < 8 * low) return linearTicks(low, high);
  const first = Math.ceil(Math.log10(low) - 1e-9);
  const last = Math.floor(Math.log10(high) + 1e-9);
  const every = Math.max(1, Math.ceil((last - first) / 6));
  const ticks = [];
  for (let exponent = first - 1; exponent <= last; exponent++) {
    const factors = last - first < 2 ? [1, 2, 5] : [1];
    if ((exponent - first) % every === 0 || last - first < 2)
      for (const factor of factors) ticks.push(Number((factor * 10 ** exponent).toPrecision(6)));
  }
  const inside = ticks.filter((tick) => tick >= low * 0.999999 && tick <= high * 1.000001);
  return inside.length > 1 ? inside : linearTicks(low, high);
}

/**
 * @param {import("./types").Axis} axis
 * @param {number} from
 * @param {number} to
 */
function scale(axis, from, to) {
  const [low, high] = axis.log ? [Math.log(axis.low), Math.log(axis.high)] : [axis.low, axis.high];
  const span = high - low || 1;
  return (/** @type {number} */ value) => {
    const at = axis.log ? Math.log(Math.max(value, axis.low)) : value;
    return Number((from + ((at - low) / span) * (to - from)).toFixed(2));
  };
}

/**
 * An SVG that is drawn as wide as its place is, and again when that changes.
 * @param {string} label
 * @param {import("./types").Axis} across
 * @param {import("./types").Axis} up
 * @param {(plot: import("./types").Plot) => void} draw
 * @param {(share: number) => string} [told] what stands at a share of the width
 */
function chart(label, across, up, draw, told) {
  const svg = /** @type {SVGSVGElement} */ (drawn("svg", { role: "img", "aria-label": label }));
  const readout = element("span", { "aria-hidden": "true" });
  let width = 0;
  new ResizeObserver(() => {
    if (svg.clientWidth === width || svg.clientWidth === 0) return;
    width = svg.clientWidth;
    const x = scale(across, MARGIN.left, width - MARGIN.right);
    const y = scale(up, HEIGHT - MARGIN.bottom, MARGIN.top);
    svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    svg.replaceChildren(axes(across, up, x, y, width));
    draw({ svg, x, y, left: MARGIN.left, right: width - MARGIN.right, top: MARGIN.top, bottom: HEIGHT - MARGIN.bottom });
  }).observe(svg);
  if (told) pointed(svg, readout, told);
  return { svg, readout };
}

/**
 * A line that follows the pointer, and what is there in words.
 * @param {SVGSVGElement} svg
 * @param {HTMLElement} readout
 * @param {(share: number) => string} told
 */
function pointed(svg, readout, told) {
  const line = drawn("line", { class: "cross", y1: MARGIN.top, y2: HEIGHT - MARGIN.bottom });
  svg.addEventListener("pointermove", (event) => {
    const at = event.clientX - svg.getBoundingClientRect().left;
    const share = (at - MARGIN.left) / (svg.clientWidth - MARGIN.left - MARGIN.right);
    if (share < 0 || share > 1) return;
    line.setAttribute("x1", `${at}`);
    line.setAttribute("x2", `${at}`);
    svg.append(line);
    readout.textContent = told(share);
  });
  svg.addEventListener("pointerleave", () => {
    line.remove();
    readout.textContent = "";
  });
}

/**
 * @param {import("./types").Axis} across
 * @param {import("./types").Axis} up
 * @param {(value: number) => number} x
 * @param {(value: number) => number} y
 * @param {number} width
 */
function axes(across, up, x, y, width) {
  const bottom = HEIGHT - MARGIN.bottom;
  const group = drawn("g");
  for (const tick of up.ticks ?? (up.log ? logTicks(up.low, up.high) : linearTicks(up.low, up.high))) {
    group.append(drawn("line", { class: "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(tick), y2: y(tick) }));
    group.append(drawn("text", { x: MARGIN.left - 5, y: y(tick) + 4, "text-anchor": "end" }, up.format(tick)));
  }
  let last = -Infinity;
  const ticks = across.log ? logTicks(across.low, across.high) : linearTicks(across.low, across.high);
  for (const tick of across.whole ? ticks.filter(Number.isInteger) : ticks) {
    group.append(drawn("line", { class: "grid", x1: x(tick), x2: x(tick), y1: MARGIN.top, y2: bottom }));
    if (x(tick) - last < 34) continue;
    last = x(tick);
    group.append(drawn("text", { x: last, y: bottom + 14, "text-anchor": "middle" }, across.format(tick)));
  }
  group.append(drawn("text", { x: width - MARGIN.right, y: HEIGHT - 4, "text-anchor": "end" }, across.title));
  return group;
}

/**
 * A path through points.
 * @param {import("./types").Plot} plot
 * @param {number[]} xs
 * @param {number[]} ys
 */
function path(plot, xs, ys) {
  return xs.map((value, i) => `${i ? "L" : "M"}${plot.x(value)},${plot.y(ys[i] ?? 0)}`).join("");
}

/**
 * A straight line across or up the plot, with its name.
 * @param {import("./types").Plot} plot
 * @param {string} style
 * @param {string} name
 * @param {{ x?: number, y?: number, below?: boolean, row?: number }} at
 */
function marked(plot, style, name, { x, y, below = false, row = 0 }) {
  if (y !== undefined) {
    plot.svg.append(
      drawn("line", { class: style, x1: plot.left, x2: plot.right, y1: plot.y(y), y2: plot.y(y) }),
      drawn("text", { class: `${style}-label halo`, x: plot.right - 2, y: plot.y(y) + (below ? 12 : -4), "text-anchor": "end" }, name),
    );
  } else if (x !== undefined) {
    const at = plot.x(x);
    const left = at > (plot.left + plot.right) / 2;
    plot.svg.append(
      drawn("line", { class: style, x1: at, x2: at, y1: plot.top, y2: plot.bottom }),
      drawn("text", { class: `${style}-label halo`, x: at + (left ? -4 : 4), y: plot.top + 10 + 14 * row, "text-anchor": left ? "end" : "start" }, name),
    );
  }
}
