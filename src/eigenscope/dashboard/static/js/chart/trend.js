// A metric (or two) over the steps, of one run or two, with error bands and nothing smoothed.

import uPlot from "../../vendor/uplot/uPlot.js";
import { actionNear } from "../actions.js";
import { changes, h, setAttribute } from "../dom.js";
import { count, number, percent } from "../format.js";
import { asinh, linear, log, padded } from "../scales.js";
import { palette } from "../theme.js";
import { bounds, columns, drawn, needsAsinh } from "./data.js";
import { actionLines, alertLines, crosses, references, washes } from "./marks.js";
import { cursor, fitted, keys, selected, stepAxis, valueAxis, wheelAndTouch } from "./plot.js";
import { Readout, unmeasured } from "./readout.js";
import { trendTable } from "./table.js";
import { Tip } from "./tip.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("./data.js").Line} Line */
/** @typedef {import("./data.js").Columns} Columns */

/**
 * @typedef {object} TrendOptions
 * @property {string} title
 * @property {Line[]} lines
 * @property {"log"|"asinh"|"count"|"score"|"share"} scale of the value axis; a share ends at 1
 * @property {() => number} [threshold] of an asinh axis: linear below it
 * @property {import("./marks.js").Mark[]} [marks]
 * @property {[number, number]} [between] two of the lines: what they bound lies in the tinted band between them
 * @property {(alert: import("../types.js").Alert) => boolean} [alerts] which alerts are marked on it
 * @property {boolean} [stepLabels] false where a chart below it has them
 * @property {boolean} [alone] no figure of the panel shows the latest values
 * @property {(step: number|null, reach: number) => void} [onCursor] `reach` is how many steps six pixels are
 */

export class Trend {
  /** @param {import("../types.js").Shell} shell @param {App} app @param {TrendOptions} options */
  constructor(shell, app, options) {
    this.app = app;
    this.options = options;
    /** @type {uPlot|null} */ this.plot = null;
    /** @type {Columns[]} */ this.columns = [];
    this.scale = linear;
    this.tables = false;
    this.readout = new Readout(options.lines, options.alone ?? false);
    this.host = h("div", { class: "plot", tabindex: "0", role: "img", "aria-label": options.title });
    this.table = h("div", {
      class: "table",
      tabindex: "0",
      hidden: true,
      role: "region",
      "aria-label": `${options.title}: table`,
    });
    this.tip = new Tip(this.host);
    shell.body.append(h("figure", { class: "chart" }, this.readout.root, this.host, this.table));
    shell.onTables.push((tables) => this.showTables(tables));
    this.gestures = gesturesOf(app);
    keys(this.host, () => this.plot, this.gestures);
    this.host.addEventListener("focus", () => this.readout.speak(this.host.matches(":focus-visible")));
    this.host.addEventListener("blur", () => this.readout.speak(false));
    fitted(this.host, () => this.plot);
    this.dataChanged = changes();
    this.viewChanged = changes();
    this.shapeChanged = changes();
  }

  /** @param {boolean} tables */
  showTables(tables) {
    this.tables = tables;
    this.host.hidden = tables;
    this.table.hidden = !tables;
    if (tables) this.drawTable();
  }

  draw() {
    const runs = this.app.shown();
    const { min, max } = this.app.view();
    const versions = runs.flatMap((run) => [run, run.seen.series, run.seen.alerts, run.seen.actions, run.hasEnded]);
    const data = this.dataChanged(...versions, this.app.theme);
    const view = this.viewChanged(min, max);
    if (!data && !view) return;
    if (data) this.columns = this.collect(runs);
    const scale = this.chooseScale();
    if (this.shapeChanged(scale.key, runs.length)) this.build(scale, runs.length);
    if (data) this.plot?.setData(this.aligned(), false);
    this.plot?.batch(() => this.plot?.setScale("x", { min, max }));
    this.report(runs);
  }

  /** @param {import("../run.js").Run[]} runs */
  report(runs) {
    this.readout.show(runs, this.cursorStep());
    setAttribute(this.host, "aria-label", this.summary());
    setAttribute(this.host, "data-empty", this.columns.some((c) => c.steps.length) ? null : unmeasured(runs[0]));
    if (this.tables) this.drawTable();
  }

  drawTable() {
    const { title, lines } = this.options;
    this.table.replaceChildren(trendTable(title, this.app.shown(), lines, this.app.view()));
  }

  onCursor() {
    const step = this.cursorStep();
    const { min, max } = this.app.view();
    this.readout.show(this.app.shown(), step);
    const reach = ((max - min) * 6) / (this.host.clientWidth || 1);
    this.options.onCursor?.(step, reach);
    const isHere = this.host.matches(":hover, :focus"); // cursors move together, the note is on one chart
    this.tip.show(isHere && step !== null ? actionNear(this.app.primary?.actions ?? [], step, reach) : null, this.plot);
  }

  /** @returns {number|null} */
  cursorStep() {
    const left = this.plot?.cursor.left ?? -1;
    return left >= 0 && this.plot ? this.plot.posToVal(left, "x") : null;
  }

  /** @param {import("../run.js").Run[]} runs @returns {Columns[]} run by run, line by line */
  collect(runs) {
    return runs.flatMap((run) =>
      this.options.lines.map((line) => columns(run.track(line.metric), line.breaks ? run.track(line.breaks) : null, line)),
    );
  }

  chooseScale() {
    const { scale, threshold } = this.options;
    if (scale === "score") return linear;
    if (scale === "count") return asinh(1);
    if (scale === "asinh") return asinh(threshold?.() ?? 1);
    const least = needsAsinh(this.columns);
    return least === null ? log : asinh(least);
  }

  /**
   * @returns {uPlot.AlignedData} the columns on common steps: undefined where a line has no point, null where it is broken
   */
  aligned() {
    const tables = this.columns.map((c) => /** @type {uPlot.AlignedData} */ ([c.steps, c.low, c.value, c.high]));
    return tables.some((t) => t[0].length)
      ? uPlot.join(tables)
      : /** @type {any} */ ([[], ...tables.flatMap(() => [[], [], []])]);
  }

  /** @param {import("../scales.js").Scale} scale @param {number} runs */
  build(scale, runs) {
    this.plot?.destroy();
    this.scale = scale;
    const { lines, stepLabels = true } = this.options;
    const looks = [...Array(runs).keys()].flatMap((run) => lines.map((line) => ({ run, line })));
    this.plot = new uPlot(
      {
        width: this.host.clientWidth || 300,
        height: this.host.clientHeight || 130,
        padding: [6, 16, 0, 0],
        legend: { show: false },
        scales: {
          x: { time: false },
          y: { distr: 100, fwd: scale.forward, bwd: scale.backward, range: () => this.range() },
        },
        axes: [stepAxis(stepLabels), this.valueAxis()],
        series: [{}, ...looks.flatMap(({ run, line }) => seriesOf(run, line))],
        bands: this.bands(runs),
        cursor: cursor(this.gestures, "steps"),
        hooks: {
          setCursor: [() => this.onCursor()],
          setSelect: [(u) => selected(u, this.gestures)],
          drawAxes: [(u) => washes(u, this.options.marks ?? [])],
          draw: [(u) => this.drawMarks(u)],
        },
      },
      this.aligned(),
      this.host,
    );
    wheelAndTouch(this.plot, this.gestures);
  }

  /** @param {number} runs @returns {uPlot.Band[]} the error of each line, and what lies between two of them */
  bands(runs) {
    const { lines, between } = this.options;
    return [...Array(runs).keys()].flatMap((run) => {
      const value = (/** @type {number} */ line) => 3 * (run * lines.length + line) + 2;
      const fill = () => palette[run ? "run-b-band" : "run-a-band"];
      const errors = lines.map((_, i) => /** @type {uPlot.Band} */ ({ series: [value(i) + 1, value(i) - 1], fill }));
      return between ? [...errors, { series: [value(between[0]), value(between[1])], fill }] : errors;
    });
  }

  /** @returns {uPlot.Axis} */
  valueAxis() {
    const axis = valueAxis(() => this.scale);
    /** @type {Partial<Record<TrendOptions["scale"], (value: number) => string>>} */
    const labels = { count: (s) => (Number.isInteger(s) ? count(s) : ""), share: percent };
    const label = labels[this.options.scale];
    return label ? { ...axis, values: (_, splits) => splits.map(label) } : axis;
  }

  /** @param {uPlot} u */
  drawMarks(u) {
    const { marks = [], alerts } = this.options;
    const [run] = this.app.shown();
    references(u, marks);
    if (run && alerts) alertLines(u, run.history.filter(alerts));
    if (run) actionLines(u, run.actions);
    if (run) crosses(u, this.oddPoints(run));
  }

  /** @param {import("../run.js").Run} run @returns {{step: number, value: number}[]} */
  oddPoints(run) {
    return this.options.lines.flatMap(({ metric }) => {
      const { steps, values } = run.track(metric);
      return values.flatMap((value, i) => (Number.isFinite(value) ? [] : [{ step: steps[i] ?? 0, value }]));
    });
  }

  /** @returns {[number, number]} of the value axis */
  range() {
    if (this.options.scale === "score") return [0, 100];
    const found = bounds(this.columns, this.app.view(), this.scale === log);
    if (!found) return this.scale === log ? [0.1, 10] : [-1, 1];
    const marks = (this.options.marks ?? []).map((mark) => mark.value()).filter((v) => typeof v === "number");
    const [least, most] = [Math.min(found[0], ...marks), Math.max(found[1], ...marks)];
    const [low, high] = padded(this.scale, least, most, this.scale === log ? 0.3 : 0.8);
    if (this.options.scale === "count") return [-0.3, Math.max(high, 1.5)];
    return this.options.scale === "share" ? [Math.max(low, 0), Math.min(high, 1)] : [low, high];
  }

  /** @returns {string} the chart in words */
  summary() {
    const [run] = this.app.shown();
    const parts = this.options.lines.map((line) => {
      const { metric, label } = line;
      const { steps, values, length } = run?.track(metric) ?? { steps: [], values: [], length: 0 };
      if (!length) return `${label}: ${unmeasured(run)}`;
      const point = (/** @type {number} */ i) => `${number(drawn(line, values[i] ?? NaN))} at step ${count(steps[i])}`;
      return `${label}: ${point(0)}, ${point(length - 1)}`;
    });
    return `${this.options.title}. ${parts.join(". ")}.`;
  }
}

/** @param {App} app @returns {import("./plot.js").Gestures} on the steps that all trends share */
function gesturesOf(app) {
  return {
    zoomTo: (min, max) => app.look({ min, max }),
    panBy: (share) => app.pan(share),
    zoomBy: (factor, at) => app.zoom(factor, at),
    reset: () => app.look(null),
  };
}

/**
 * @param {number} run
 * @param {Line} line
 * @returns {uPlot.Series[]} the lower edge of the band, the line, the upper edge
 */
function seriesOf(run, line) {
  const paths = line.stepped ? uPlot.paths.stepped?.({ align: 1 }) : uPlot.paths.linear?.();
  const edge = { auto: false, stroke: "transparent", width: 0, points: { show: false }, ...(paths && { paths }) };
  const stroke = () => palette[run ? (line.side ? "run-b-side" : "run-b") : line.side ? "run-a-side" : "run-a"];
  const dash = line.loose ? [2, 3] : run ? [6, 3] : [];
  const points = { show: fewPoints, filter: lonePoints, size: 4, width: 1, fill: stroke, dash: [] };
  return [edge, { auto: false, stroke, width: line.side ? 1.25 : 1.5, dash, points, ...(paths && { paths }) }, edge];
}

/**
 * @param {uPlot} u
 * @param {number} series
 * @param {number} from
 * @param {number} to
 * @returns {boolean} room for a dot at each point
 */
function fewPoints(u, series, from, to) {
  let points = 0;
  const values = u.data[series] ?? [];
  for (let i = from; i <= to; i++) if (typeof values[i] === "number") points += 1;
  return points < u.over.clientWidth / 20;
}

/**
 * @param {uPlot} u
 * @param {number} series
 * @param {boolean} shown
 * @returns {number[]|null} points without a neighbour: no line shows them
 */
function lonePoints(u, series, shown) {
  if (shown) return null;
  const values = u.data[series] ?? [];
  const known = [...values.keys()].filter((i) => values[i] !== undefined);
  return known.filter(
    (i, k) => values[i] !== null && values[known[k - 1] ?? -1] == null && values[known[k + 1] ?? -1] == null,
  );
}
