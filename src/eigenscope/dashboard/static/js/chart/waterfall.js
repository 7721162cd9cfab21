// A history as a picture: across, the axis of the chart above it; upwards, the steps. Each row holds until the next.

import uPlot from "../../vendor/uplot/uPlot.js";
import { h, setAttribute } from "../dom.js";
import { count, stepTick } from "../format.js";
import { holding } from "../history.js";
import { evenTicks, linear } from "../scales.js";
import { palette } from "../theme.js";
import { inside } from "./marks.js";
import { cursor, fitted, selected, valueAxis, wheelAndTouch } from "./plot.js";

/** @typedef {import("../scales.js").Scale} Scale */

/** @typedef {{title: string, things: string, group: string, axis(scale: () => Scale): uPlot.Axis}} Look: what it is a
 *  history of, in words; `group` is that of the charts whose cursors move together */

/**
 * @template {{step: number}} T
 * @typedef {{scale: Scale, range: [number, number], steps: [number, number], items: T[], chosen: number, key: string,
 *   row(item: T, places: number[]): Uint32Array}} History: `chosen` is the step that is shown above; `row` gives the
 *   pixels of a row at these places of the axis; `key` changes whenever the picture does
 */

/** @typedef {{onCursor(): void, onChoose(step: number): void, onMove(by: number): void, onLatest(): void,
 *   onAcross?(by: number): void}} Events: without `onAcross` the keys to the left and right move through the steps too */

/** @template {{step: number}} T */
export class Waterfall {
  /** @param {HTMLElement} body @param {Look} look @param {import("./plot.js").Gestures} gestures @param {Events} on */
  constructor(body, look, gestures, on) {
    this.look = look;
    this.gestures = gestures;
    this.on = on;
    /** @type {uPlot|null} */ this.plot = null;
    this.built = "";
    this.painted = "";
    /** @type {History<T>} */ this.now = {
      scale: linear,
      range: [-1, 1],
      steps: [0, 1],
      items: [],
      chosen: 0,
      key: "",
      row: () => new Uint32Array(),
    };
    this.image = document.createElement("canvas");
    this.host = h("div", { class: "plot history", tabindex: "0", role: "img", "aria-label": look.title });
    this.host.addEventListener("keydown", (event) => this.onKey(event));
    body.append(this.host);
    fitted(this.host, () => this.plot);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    const across = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    const along = { ArrowDown: -1, ArrowUp: 1 }[event.key] ?? (this.on.onAcross ? undefined : across);
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (along) this.on.onMove(along);
    else if (across) this.on.onAcross?.(across);
    else if (event.key === "Escape" || event.key === "0") this.on.onLatest();
    else return;
    event.preventDefault();
  }

  /** @param {History<T>} history */
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
    this.host.hidden = history.items.length === 0;
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
          { ...this.look.axis(() => this.now.scale), grid: { show: false } },
          {
            ...steps,
            splits: (u, _, min, max) =>
              evenTicks(min, max, Math.max(2, u.bbox.height / uPlot.pxRatio / 26)).filter(Number.isInteger),
          },
        ],
        series: [{}, { auto: false, points: { show: false } }],
        cursor: { ...cursor(this.gestures, this.look.group), y: true, points: { show: false } },
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

  /** @param {uPlot} u A line at the step that is shown above. */
  drawChosen(u) {
    if (!this.now.items.length) return;
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

  /** @param {uPlot} u @param {number} width @param {number} height */
  render(u, width, height) {
    Object.assign(this.image, { width, height });
    const context = this.image.getContext("2d");
    const { items, steps, row } = this.now;
    if (!context || !items.length || !width || !height) return;
    const places = Array.from({ length: width }, (_, x) => u.posToVal(u.bbox.left + x + 0.5, "x", true));
    const image = context.createImageData(width, height);
    const pixels = new Uint32Array(image.data.buffer);
    /** @type {Map<T, Uint32Array>} */ const rows = new Map();
    for (let y = 0; y < height; y++) {
      const item = holding(items, steps[1] - ((y + 0.5) / height) * (steps[1] - steps[0]));
      if (!item) continue;
      const painted = rows.get(item) ?? row(item, places);
      rows.set(item, painted);
      pixels.set(painted, y * width);
    }
    context.putImageData(image, 0, 0);
  }

  /** @returns {{value: number, item: T|null}|null} the place on the axis and the row under the cursor */
  underCursor() {
    const { left = -1, top = -1 } = this.plot?.cursor ?? {};
    if (!this.plot || left < 0 || top < 0) return null;
    return { value: this.plot.posToVal(left, "x"), item: holding(this.now.items, this.plot.posToVal(top, "y")) };
  }

  /** @returns {string} */
  summary() {
    const { items } = this.now;
    const { title, things } = this.look;
    if (!items.length) return `${title}: nothing measured yet.`;
    const steps = `from step ${count(items[0]?.step)} to ${count(items[items.length - 1]?.step)}`;
    return `${title}: ${items.length} ${things} ${steps}. Arrow keys choose the step shown above.`;
  }
}
