// The spectral density at one step: logarithmic height over a signed asinh axis, every outlier marked.

import uPlot from "../../vendor/uplot/uPlot.js";
import { h, setAttribute } from "../dom.js";
import { count, number } from "../format.js";
import { linear, log } from "../scales.js";
import { palette } from "../theme.js";
import { inside } from "./marks.js";
import { cursor, eigenvalueAxis, fitted, keys, selected, valueAxis, wheelAndTouch } from "./plot.js";

/** @typedef {import("../types.js").Density} Density */

/**
 * The least density that is told apart: a tenth of an eigenvalue a unit, within three to six decades of the greatest.
 * @param {number} ceiling
 * @returns {number}
 */
export function floorOf(ceiling) {
  return Math.min(ceiling / 1e3, Math.max(0.1, ceiling / 1e6));
}

/** @typedef {{scale: import("../scales.js").Scale, range: [number, number], noise: number|null,
 *   densities: Density[], empty: string}} Spectra: one density a shown run, on a common axis; `noise` is τ; `empty` is
 *   said where there is none */

export class Spectrum {
  /** @param {HTMLElement} body @param {import("./plot.js").Gestures} gestures @param {() => void} onCursor */
  constructor(body, gestures, onCursor) {
    this.gestures = gestures;
    this.onCursor = onCursor;
    /** @type {uPlot|null} */ this.plot = null;
    /** @type {Spectra} */ this.now = { scale: linear, range: [-1, 1], noise: null, densities: [], empty: "" };
    this.built = "";
    this.host = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": "Spectral density" });
    body.append(this.host);
    keys(this.host, () => this.plot, gestures);
    fitted(this.host, () => this.plot);
  }

  /** @param {Spectra} spectra */
  show(spectra) {
    this.now = spectra;
    const shape = `${spectra.scale.key} ${spectra.densities.length}`;
    if (shape !== this.built) this.build(shape);
    this.plot?.setData(this.data(), false);
    const [min, max] = spectra.range;
    this.plot?.batch(() => this.plot?.setScale("x", { min, max }));
    setAttribute(this.host, "aria-label", this.summary());
    setAttribute(this.host, "data-empty", spectra.densities.length ? null : spectra.empty);
  }

  /** @returns {uPlot.AlignedData} */
  data() {
    const floor = floorOf(this.ceiling()) / 10; // out of sight
    const tables = this.now.densities.map(
      (d) => /** @type {uPlot.AlignedData} */ ([d.grid, d.values.map((v) => Math.max(v, floor))]),
    );
    return tables.length ? uPlot.join(tables) : [[], []];
  }

  /** @returns {number} the greatest density that is shown */
  ceiling() {
    let most = 0;
    for (const { values } of this.now.densities) for (const v of values) if (v > most && v < Infinity) most = v;
    return most || 1;
  }

  /** @param {string} shape */
  build(shape) {
    this.built = shape;
    this.plot?.destroy();
    const { scale } = this.now;
    const height = () => /** @type {[number, number]} */ ([floorOf(this.ceiling()), this.ceiling() * 2]);
    const path = uPlot.paths.linear?.();
    const series = this.now.densities.map((_, run) => ({
      auto: false,
      width: 1.5,
      points: { show: false },
      dash: run ? [7, 4] : [],
      ...(path && { paths: path }),
      stroke: () => palette[run ? "run-b" : "run-a"],
      ...(run ? {} : { fill: () => palette["run-a-band"], fillTo: () => height()[0] }),
    }));
    this.plot = new uPlot(
      {
        width: this.host.clientWidth || 300,
        height: this.host.clientHeight || 110,
        padding: [12, 16, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false, distr: 100, fwd: scale.forward, bwd: scale.backward },
          y: { distr: 100, fwd: log.forward, bwd: log.backward, range: height },
        },
        axes: [eigenvalueAxis(() => this.now.scale, false), valueAxis(() => log)],
        series: [{}, ...series],
        cursor: cursor(this.gestures, "eigenvalues"),
        hooks: {
          setCursor: [this.onCursor],
          setSelect: [(u) => selected(u, this.gestures)],
          drawAxes: [(u) => this.drawNoise(u)],
          draw: [(u) => this.drawOutliers(u)],
        },
      },
      this.data(),
      this.host,
    );
    wheelAndTouch(this.plot, this.gestures);
  }

  /** @param {uPlot} u What can't be told from 0: |λ| < τ. */
  drawNoise(u) {
    const { noise } = this.now;
    if (!noise) return;
    const left = u.valToPos(-noise, "x", true);
    inside(u, () => {
      u.ctx.fillStyle = palette.noise;
      u.ctx.fillRect(left, u.bbox.top, Math.max(1, u.valToPos(noise, "x", true) - left), u.bbox.height);
    });
  }

  /** @param {uPlot} u At each outlier a stem with a head and a whisker for the error: see `Lane`. */
  drawOutliers(u) {
    this.now.densities.forEach((density, run) =>
      inside(u, () => {
        u.ctx.strokeStyle = palette[run ? "run-b" : "run-a"];
        u.ctx.fillStyle = palette[run ? "panel" : "run-a"];
        u.ctx.lineWidth = uPlot.pxRatio;
        const lane = laneOf(u, run);
        for (const { value, error } of density.outliers) {
          u.ctx.setLineDash([]);
          whisker(u, value, error ?? 0, lane.head);
          pin(u, u.valToPos(value, "x", true), lane);
        }
      }),
    );
  }

  /** @returns {number|null} the eigenvalue under the cursor */
  cursorValue() {
    const left = this.plot?.cursor.left ?? -1;
    return left >= 0 && this.plot ? this.plot.posToVal(left, "x") : null;
  }

  /** @returns {string} */
  summary() {
    const [density] = this.now.densities;
    if (!density) return "Spectral density: not measured yet.";
    const [low, high] = density.bulk ?? [null, null];
    const outliers = density.outliers.map((o) => number(o.value)).join(", ") || "none";
    const bulk = `bulk from ${number(low)} to ${number(high)}`;
    return `Spectral density at step ${count(density.step)}: ${bulk}; outliers: ${outliers}.`;
  }
}

/** @typedef {{head: number, foot: number, side: 1|-1, dash: number[]}} Lane: where a run's marks stand, in device px;
 *  `side` is where the head's tip points: 1 down */

/** @param {uPlot} u @param {number} run @returns {Lane} the first run's hang from above, the second's stand below */
function laneOf({ bbox: { top, height } }, run) {
  const px = uPlot.pxRatio;
  const [high, low] = [top + 6 * px, top + height - 6 * px];
  return run
    ? { head: low, foot: top + height * 0.45, side: -1, dash: [3 * px, 2 * px] }
    : { head: high, foot: top + height, side: 1, dash: [] };
}

/** @param {uPlot} u @param {number} x @param {Lane} lane A full head for the first run, a hollow one for the second. */
function pin({ ctx }, x, { head, foot, side, dash }) {
  const px = uPlot.pxRatio;
  ctx.setLineDash(dash);
  ctx.beginPath();
  ctx.moveTo(x, head);
  ctx.lineTo(x, foot);
  ctx.stroke();
  ctx.setLineDash([]);
  ctx.beginPath();
  ctx.moveTo(x, head + side * 5 * px);
  for (const way of [-3.5, 3.5]) ctx.lineTo(x + way * px, head - side * 2 * px);
  ctx.closePath();
  ctx.fill();
  ctx.stroke();
}

/** @param {uPlot} u @param {number} value @param {number} error @param {number} y */
function whisker(u, value, error, y) {
  const left = u.valToPos(value - error, "x", true);
  const right = u.valToPos(value + error, "x", true);
  if (right - left < 2 * uPlot.pxRatio) return;
  u.ctx.beginPath();
  u.ctx.moveTo(left, y);
  u.ctx.lineTo(right, y);
  u.ctx.stroke();
}
