// The history of the spectrum as a picture: eigenvalues across (the axis of the density above), steps upwards.

import uPlot from "../../vendor/uplot/uPlot.js";
import { ramp } from "../colormap.js";
import { densityAt, holding } from "../density.js";
import { h, setAttribute } from "../dom.js";
import { count, stepTick } from "../format.js";
import { evenTicks, linear } from "../scales.js";
import { palette } from "../theme.js";
import { inside } from "./marks.js";
import { cursor, eigenvalueAxis, fitted, selected, valueAxis, wheelAndTouch } from "./plot.js";
import { floorOf } from "./spectrum.js";

/** @typedef {import("../types.js").Density} Density */

/** @typedef {{scale: import("../scales.js").Scale, range: [number, number], steps: [number, number], densities: Density[],
 *   ceiling: number, chosen: number, key: string}} History: `chosen` is the step whose density is shown above */

export class Waterfall {
  /** @param {HTMLElement} body @param {import("./plot.js").Gestures} gestures
   *  @param {{onCursor(): void, onChoose(step: number): void, onMove(by: number): void, onLatest(): void}} on */
  constructor(body, gestures, on) {
    this.gestures = gestures;
    this.on = on;
    /** @type {uPlot|null} */ this.plot = null;
    this.built = "";
    this.painted = "";
    /** @type {History} */ this.now = {
      scale: linear,
      range: [-1, 1],
      steps: [0, 1],
      densities: [],
      ceiling: 1,
      chosen: 0,
      key: "",
    };
    this.image = document.createElement("canvas");
    this.host = h("div", {
      class: "plot history",
      tabindex: "0",
      role: "img",
      "aria-label": "History of the spectral density",
    });
    this.host.addEventListener("keydown", (event) => this.onKey(event));
    body.append(this.host);
    fitted(this.host, () => this.plot);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (event.key === "ArrowUp" || event.key === "ArrowRight") this.on.onMove(1);
    else if (event.key === "ArrowDown" || event.key === "ArrowLeft") this.on.onMove(-1);
    else if (event.key === "Escape" || event.key === "0") this.on.onLatest();
    else return;
    event.preventDefault();
  }

  /** @param {History} history */
  show(history) {
    this.now = history;
    if (history.scale.key !== this.built) this.build();
    const [min, max] = history.range;
    this.plot?.batch(() => {
      this.plot?.setScale("x", { min, max });
      this.plot?.setScale("y", { min: history.steps[0], max: history.steps[1] });
    });
    this.plot?.redraw(false, false);
    setAttribute(this.host, "aria-label", this.summary());
    this.host.hidden = history.densities.length === 0;
  }

  build() {
    const { scale } = this.now;
    this.built = scale.key;
    this.plot?.destroy();
    const steps = {
      ...valueAxis(() => linear),
      grid: { show: false },
      values: (/** @type {uPlot} */ _, /** @type {number[]} */ s) => s.map(stepTick),
    };
    this.plot = new uPlot(
      {
        width: this.host.clientWidth || 300,
        height: this.host.clientHeight || 110,
        padding: [8, 16, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false, distr: 100, fwd: scale.forward, bwd: scale.backward },
          y: { auto: false, range: () => this.now.steps },
        },
        axes: [
          { ...eigenvalueAxis(() => this.now.scale, true), grid: { show: false } },
          {
            ...steps,
            splits: (u, _, min, max) =>
              evenTicks(min, max, Math.max(2, u.bbox.height / uPlot.pxRatio / 26)).filter(Number.isInteger),
          },
        ],
        series: [{}, { auto: false, points: { show: false } }],
        cursor: { ...cursor(this.gestures, "eigenvalues"), y: true, points: { show: false } },
        hooks: {
          setCursor: [this.on.onCursor],
          setSelect: [(u) => selected(u, this.gestures)],
          drawAxes: [(u) => this.paint(u)],
        },
      },
      [
        [-1, 1],
        [null, null],
      ],
      this.host,
    );
    wheelAndTouch(this.plot, this.gestures);
    this.plot.over.addEventListener("click", (event) => this.on.onChoose(this.plot?.posToVal(event.offsetY, "y") ?? 0));
  }

  /** @param {uPlot} u */
  paint(u) {
    const { left, top, width, height } = u.bbox;
    const key = [this.now.key, this.now.range, this.now.steps, width, height].join(" ");
    if (key !== this.painted) this.render(u, Math.round(width), Math.round(height));
    this.painted = key;
    if (this.image.width > 0) u.ctx.drawImage(this.image, left, top);
    this.drawChosen(u);
  }

  /** @param {uPlot} u A line at the step whose density is shown above. */
  drawChosen(u) {
    if (!this.now.densities.length) return;
    const y = Math.round(u.valToPos(this.now.chosen, "y", true)) + 0.5;
    inside(u, () => {
      u.ctx.strokeStyle = palette.ink;
      u.ctx.lineWidth = uPlot.pxRatio;
      u.ctx.beginPath();
      u.ctx.moveTo(u.bbox.left, y);
      u.ctx.lineTo(u.bbox.left + u.bbox.width, y);
      u.ctx.stroke();
    });
  }

  /** @param {uPlot} u @param {number} width @param {number} height The picture: each density holds until the next. */
  render(u, width, height) {
    Object.assign(this.image, { width, height });
    const context = this.image.getContext("2d");
    const { densities, steps } = this.now;
    if (!context || !densities.length || !width || !height) return;
    const values = Array.from({ length: width }, (_, x) => u.posToVal(u.bbox.left + x + 0.5, "x", true));
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    /** @type {Map<Density, Uint32Array>} */ const rows = new Map();
    const colours = ramp();
    for (let y = 0; y < height; y++) {
      const density = holding(densities, steps[1] - ((y + 0.5) / height) * (steps[1] - steps[0]));
      if (!density) continue;
      const row = rows.get(density) ?? rowOf(density, values, colours, this.now.ceiling);
      rows.set(density, row);
      pixels.set(row, y * width);
    }
    context.putImageData(image, 0, 0);
  }

  /** @returns {{value: number, density: Density|null}|null} the eigenvalue and the density under the cursor */
  underCursor() {
    const { left = -1, top = -1 } = this.plot?.cursor ?? {};
    if (!this.plot || left < 0 || top < 0) return null;
    return { value: this.plot.posToVal(left, "x"), density: holding(this.now.densities, this.plot.posToVal(top, "y")) };
  }

  /** @returns {string} */
  summary() {
    const { densities } = this.now;
    if (!densities.length) return "History of the spectral density: nothing measured yet.";
    const [first, last] = [densities[0], densities[densities.length - 1]];
    const steps = `from step ${count(first?.step)} to ${count(last?.step)}`;
    const keys = "Arrow keys choose the step shown above.";
    return `History of the spectral density: ${densities.length} densities ${steps}. ${keys}`;
  }
}

/**
 * @param {Density} density
 * @param {number[]} values
 * @param {Uint32Array} colours
 * @param {number} ceiling
 * @returns {Uint32Array}
 */
function rowOf(density, values, colours, ceiling) {
  const row = new Uint32Array(values.length);
  const top = colours.length - 1;
  const decades = Math.log10(ceiling / floorOf(ceiling));
  for (let x = 0; x < values.length; x++) {
    const height = densityAt(density, values[x] ?? 0) / ceiling;
    if (Number.isNaN(height)) continue; // beyond the extreme eigenvalues the paper shows
    const level = height > 0 ? 1 + Math.log10(height) / decades : 0;
    row[x] = colours[Math.round(top * Math.min(1, Math.max(0, level)))] ?? 0;
  }
  for (const { value } of density.outliers) {
    const x = values.findIndex((v) => v >= value);
    for (const place of density.outliers.length > 20 ? [x] : [x - 1, x]) if (place >= 0) row[place] = colours[top] ?? 0;
  }
  return row;
}
