// The singular values of each block's Jacobian, in the order in which data passes, around the line σ = 1.

import uPlot from "../../vendor/uplot/uPlot.js";
import { h, setAttribute } from "../dom.js";
import { ending, inWords, shortNames, worstOf } from "../flow.js";
import { count, number } from "../format.js";
import { log, padded } from "../scales.js";
import { palette } from "../theme.js";
import { crosses, inside, references } from "./marks.js";
import { cursor, fitted, keys, selected, stepAxis, valueAxis, wheelAndTouch } from "./plot.js";

/** @typedef {import("../flow.js").Flow} Flow */
/** @typedef {import("../flow.js").Sigma} Sigma */

/** @typedef {{flows: Flow[], range: [number, number], level: "warning"|"critical", empty: string}} Profiles: one a shown
 *  run; `range` is that of the blocks' axis; layers at fault are marked as the `level` is; `empty` is said where there is
 *  none */

export const BAND = /** @type {const} */ ([0.5, 2]); // what a depth of a few blocks forgives
const SIGMAS = /** @type {const} */ (["sigma_max", "sigma_rms"]);
const LABEL = 10; // characters of a block's name on the axis

/** @param {() => string[]} names of the blocks @param {boolean} labelled @returns {uPlot.Axis} */
export function blockAxis(names, labelled) {
  return {
    ...stepAxis(labelled),
    grid: { show: false },
    splits: (u, _, min, max) => blockTicks(names(), min, max, u.bbox.width / uPlot.pxRatio),
    values: (_, splits) => (labelled ? splits.map((i) => shortNames(names(), LABEL)[i] ?? "") : splits.map(() => "")),
    filter: (_, splits) => splits,
  };
}

/**
 * @param {string[]} names
 * @param {number} min
 * @param {number} max
 * @param {number} width px
 * @returns {number[]} the blocks that there is room to name
 */
function blockTicks(names, min, max, width) {
  const longest = Math.max(1, ...shortNames(names, LABEL).map((name) => name.length));
  const room = Math.max(2, Math.floor(width / (longest * 6.5 + 14)));
  const [first, last] = [Math.max(0, Math.ceil(min)), Math.min(names.length - 1, Math.floor(max))];
  const every = [1, 2, 5, 10, 20, 50, 100, 200, 500].find((k) => (last - first + 1) / k <= room) ?? 1000;
  const ticks = [];
  for (let i = Math.ceil(first / every) * every; i <= last; i += every) ticks.push(i);
  return ticks;
}

export class Profile {
  /** @param {HTMLElement} body @param {import("./plot.js").Gestures} gestures @param {() => void} onCursor */
  constructor(body, gestures, onCursor) {
    this.gestures = gestures;
    this.onCursor = onCursor;
    /** @type {uPlot|null} */ this.plot = null;
    /** @type {Profiles} */ this.now = { flows: [], range: [-0.5, 0.5], level: "warning", empty: "" };
    this.built = -1;
    this.host = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": "Jacobian σ by layer" });
    body.append(this.host);
    keys(this.host, () => this.plot, gestures);
    fitted(this.host, () => this.plot);
  }

  /** @param {Profiles} profiles */
  show(profiles) {
    this.now = profiles;
    if (profiles.flows.length !== this.built) this.build();
    this.plot?.setData(this.data(), false);
    const [min, max] = profiles.range;
    this.plot?.batch(() => this.plot?.setScale("x", { min, max }));
    setAttribute(this.host, "aria-label", this.summary());
    setAttribute(this.host, "data-empty", profiles.flows.length ? null : profiles.empty);
  }

  /** @returns {uPlot.AlignedData} */
  data() {
    const blocks = [...Array(Math.max(0, ...this.now.flows.map((flow) => flow.names.length))).keys()];
    const drawn = (/** @type {Flow} */ flow, /** @type {Sigma} */ name) =>
      blocks.map((i) => (isDrawn(flow[name][i] ?? null) ? (flow[name][i] ?? null) : null));
    return [blocks, ...this.now.flows.flatMap((flow) => SIGMAS.map((name) => drawn(flow, name)))];
  }

  build() {
    this.built = this.now.flows.length;
    this.plot?.destroy();
    const path = uPlot.paths.linear?.();
    const series = this.now.flows.flatMap((_, run) =>
      SIGMAS.map((name) => ({
        auto: false,
        width: name === "sigma_max" ? 1.5 : 1.25,
        points: { show: false },
        dash: run ? [6, 3] : [],
        ...(path && { paths: path }),
        stroke: () => palette[colourOf(name, run)],
      })),
    );
    this.plot = new uPlot(
      {
        width: this.host.clientWidth || 300,
        height: this.host.clientHeight || 110,
        padding: [14, 16, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false },
          y: { distr: 100, fwd: log.forward, bwd: log.backward, range: () => this.range() },
        },
        axes: [blockAxis(() => [], false), valueAxis(() => log)],
        series: [{}, ...series],
        cursor: cursor(this.gestures, "blocks"),
        hooks: {
          setCursor: [this.onCursor],
          setSelect: [(u) => selected(u, this.gestures)],
          drawAxes: [(u) => this.drawPaper(u)],
          draw: [(u) => this.drawMarks(u)],
        },
      },
      this.data(),
      this.host,
    );
    wheelAndTouch(this.plot, this.gestures);
  }

  /** @returns {[number, number]} of the axis of σ: the band is always on it */
  range() {
    const shown = this.now.flows.flatMap((flow) => SIGMAS.flatMap((name) => flow[name])).filter(isDrawn);
    return padded(log, Math.min(BAND[0], ...shown), Math.max(BAND[1], ...shown));
  }

  /** @param {uPlot} u The band around 1, and the places of blocks without numbers. */
  drawPaper(u) {
    const { left, top, width, height } = u.bbox;
    const [flow] = this.now.flows;
    inside(u, () => {
      u.ctx.fillStyle = palette.noise;
      const [high, low] = [u.valToPos(BAND[1], "y", true), u.valToPos(BAND[0], "y", true)];
      u.ctx.fillRect(left, high, width, low - high);
      flow?.reasons.forEach((reason, i) => {
        if (reason === null) return;
        const [from, to] = [u.valToPos(i - 0.5, "x", true), u.valToPos(i + 0.5, "x", true)];
        u.ctx.fillStyle = palette.grid;
        for (let x = from; x < to; x += 4 * uPlot.pxRatio) u.ctx.fillRect(x, top, uPlot.pxRatio, height);
      });
    });
    references(u, [{ value: () => 1, label: "" }]);
  }

  /** @param {uPlot} u Each block's points with their errors; those at fault; what is no number or beyond the axis. */
  drawMarks(u) {
    const [flow] = this.now.flows;
    if (!flow) return;
    const room = u.valToPos(1, "x", true) - u.valToPos(0, "x", true);
    const radius = Math.max(0.8 * uPlot.pxRatio, Math.min(2.5 * uPlot.pxRatio, room / 3));
    inside(u, () => {
      for (const name of [...SIGMAS].reverse()) {
        const colour = palette[colourOf(name, 0)];
        flow[name].forEach((value, i) => {
          const fault = name === "sigma_max" && flow.faults.has(flow.names[i] ?? "");
          if (value === null || !isDrawn(value)) return;
          u.ctx.fillStyle = u.ctx.strokeStyle = fault ? palette[this.now.level] : colour;
          whisker(u, i, value, flow[`${name}_error`][i] ?? 0, room > 8 * uPlot.pxRatio);
          dot(u, i, value, fault ? Math.max(radius * 1.4, 1.8 * uPlot.pxRatio) : radius);
        });
      }
      this.nameFault(u, flow);
    });
    crosses(u, oddPoints(flow));
  }

  /** @param {uPlot} u @param {Flow} flow The first layer at fault has its name over it. */
  nameFault(u, flow) {
    const first = flow.names.findIndex((name) => flow.faults.has(name));
    const place = u.valToPos(first, "x", true);
    const { left, top, width } = u.bbox;
    if (first < 0 || place < left || place > left + width) return;
    const name = `block ${ending(flow.names[first] ?? "", 24)}`;
    const px = uPlot.pxRatio;
    u.ctx.fillStyle = u.ctx.strokeStyle = palette[this.now.level];
    u.ctx.lineWidth = px;
    u.ctx.setLineDash([2 * px, 2 * px]);
    u.ctx.beginPath();
    u.ctx.moveTo(place, top);
    u.ctx.lineTo(place, u.valToPos(flow.sigma_max[first] ?? 1, "y", true));
    u.ctx.stroke();
    u.ctx.setLineDash([]);
    u.ctx.font = `600 ${10.5 * px}px "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif`;
    u.ctx.textAlign = place > left + width * 0.7 ? "right" : "left";
    u.ctx.fillText(name, place + (u.ctx.textAlign === "right" ? -4 : 4) * px, top + 10 * px);
  }

  /** @returns {number|null} the block under the cursor */
  cursorBlock() {
    const { left = -1 } = this.plot?.cursor ?? {};
    const last = (this.plot?.data[0].length ?? 0) - 1;
    if (!this.plot || left < 0 || last < 0) return null;
    return Math.min(Math.max(Math.round(this.plot.posToVal(left, "x")), 0), last);
  }

  /** @returns {string} the chart in words */
  summary() {
    const [flow] = this.now.flows;
    if (!flow) return "Jacobian σ by layer: not measured yet.";
    const worst = worstOf(flow);
    const missing = flow.reasons.filter((reason) => reason !== null).length;
    return [
      `Jacobian σ of ${count(flow.names.length)} blocks at step ${count(flow.step)}: ${flow.verdict}`,
      worst < 0 ? null : `worst σmax ${number(flow.sigma_max[worst], 3)} in ${inWords(flow, worst)}`,
      flow.faults.size ? `at fault: ${[...flow.faults].slice(0, 3).join(", ")}` : null,
      missing ? `${count(missing)} not measured` : null,
    ]
      .filter(Boolean)
      .join("; ")
      .concat(". Arrow keys go from block to block.");
  }
}

/** @param {number|null} value @returns {value is number} a place on a logarithmic axis */
function isDrawn(value) {
  return value !== null && value > 0 && value < Infinity;
}

/** @param {Sigma} name @param {number} run @returns {"run-a"|"run-b"|"run-a-side"|"run-b-side"} */
function colourOf(name, run) {
  const side = name === "sigma_max" ? "" : "-side";
  return /** @type {any} */ (`run-${run ? "b" : "a"}${side}`);
}

/** @param {Flow} flow @returns {{step: number, value: number}[]} σ that is NaN or infinite; 0 is below the axis */
function oddPoints(flow) {
  return SIGMAS.flatMap((name) =>
    flow[name].flatMap((value, i) =>
      value === null || isDrawn(value) ? [] : [{ step: i, value: value === 0 ? -Infinity : value }],
    ),
  );
}

/** @param {uPlot} u @param {number} i @param {number} value @param {number} radius */
function dot(u, i, value, radius) {
  u.ctx.beginPath();
  u.ctx.arc(u.valToPos(i, "x", true), u.valToPos(value, "y", true), radius, 0, 2 * Math.PI);
  u.ctx.fill();
}

/** @param {uPlot} u @param {number} i @param {number} value @param {number} error @param {boolean} ends */
function whisker(u, i, value, error, ends) {
  if (!(error > 0)) return;
  const x = u.valToPos(i, "x", true);
  const foot = Math.max(value - error, value / 1e3);
  const head = Math.min(value + error, value * 1e3);
  const [low, high] = [u.valToPos(foot, "y", true), u.valToPos(head, "y", true)];
  u.ctx.lineWidth = uPlot.pxRatio;
  u.ctx.beginPath();
  u.ctx.moveTo(x, low);
  u.ctx.lineTo(x, high);
  const arm = 2.5 * uPlot.pxRatio;
  for (const y of ends ? [low, high] : []) {
    u.ctx.moveTo(x - arm, y);
    u.ctx.lineTo(x + arm, y);
  }
  u.ctx.stroke();
}

