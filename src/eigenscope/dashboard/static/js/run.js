// One run as the page knows it: read from the server, then kept current by its messages.

import { api, Refused } from "./api.js";
import { trimmed } from "./density.js";
import { Track } from "./track.js";

/** @typedef {import("./types.js").Alert} Alert */
/** @typedef {import("./types.js").Action} Action */
/** @typedef {import("./types.js").Measurement} Measurement */
/** @typedef {import("./types.js").Span} Span */

const RANK = { ok: 0, warning: 1, critical: 2 };
const MOST_ROWS = 400; // of a history that the page keeps
const MOST_TRANSITIONS = 400;
const EMPTY = new Track();
export const EXACT = 500; // a series with fewer points than this was not decimated

/** @param {Alert} a @param {Alert} b @returns {number} the worst first, of those the cause, then the newest */
export function worseFirst(a, b) {
  return RANK[b.level] - RANK[a.level] || (b.cause ?? 0) - (a.cause ?? 0) || b.step - a.step;
}

/**
 * @template T
 * @param {T[]} items
 * @returns {T[]} every second one, the last among them, where they are too many
 */
function bounded(items) {
  return items.length > MOST_ROWS ? items.filter((_, i) => (items.length - i) % 2 === 1) : items;
}

export class Run {
  /**
   * @param {string} id
   * @param {string[]} metrics the series that the page's panels draw
   * @param {import("./types.js").History[]} [histories] and what they draw of measurements
   */
  constructor(id, metrics, histories = []) {
    this.id = id;
    this.metrics = metrics;
    this.histories = histories;
    /** @type {import("./types.js").RunInfo|null} null until the server has answered */ this.info = null;
    /** @type {string|null} why it can't be shown */ this.problem = null;
    this.refused = false; // the server knows no such run, or can't open it: asking again won't help
    /** @type {Map<string, Track>} the whole run, decimated */ this.tracks = new Map();
    /** @type {{span: Span, tracks: Map<string, Track>}|null} the window that is looked at */ this.detail = null;
    /** @type {Map<string, {version: number, track: Track}>} `tracks` with `detail` in them */ this.joined = new Map();
    /** @type {import("./types.js").Density[]} */ this.densities = [];
    /** @type {Map<string, {step: number}[]>} the history of each kind of measurement */ this.rows = new Map();
    /** @type {Alert[]} transitions, the newest last */ this.history = [];
    /** @type {Map<string, Alert>} the active alert of each rule */ this.standing = new Map();
    /** @type {Action[]} in their last state, by key */ this.actions = [];
    /** Counters that say what changed since a part last drew. */
    this.seen = { series: 0, reading: 0, densities: 0, measurements: 0, alerts: 0, actions: 0 };
    /** @type {import("./types.js").Message[]|null} what arrives while the run is being read */ this.waiting = null;
    /** @type {AbortController|null} */ this.refining = null;
  }

  get reading() {
    return this.info?.reading ?? null;
  }

  get name() {
    return this.info?.name ?? this.id;
  }

  /** @param {string} kind @returns {Measurement|null} */
  latest(kind) {
    return this.info?.measurements[kind] ?? null;
  }

  /** Read the run from the server; what arrives meanwhile is applied after it. */
  async load() {
    if (this.waiting) return;
    this.waiting = [];
    try {
      const info = await api.run(this.id);
      const names = this.metrics.filter((name) => info.names.includes(name));
      const known = this.histories.filter(({ kind }) => kind in info.measurements);
      const [series, densities, ...histories] = await Promise.all([
        names.length ? api.series(this.id, names, null) : {},
        api.densities(this.id),
        ...known.map((history) => api.measurements(this.id, history)),
      ]);
      this.rows = new Map(known.map(({ kind, row }, i) => [kind, (histories[i] ?? []).map(row)]));
      this.take(info, series, densities);
    } catch (error) {
      this.fail(error);
    }
    const waited = this.waiting ?? [];
    this.waiting = null;
    for (const message of waited) this.apply(message);
  }

  /** Ask only whether the server still knows it. */
  async look() {
    try {
      await api.run(this.id);
    } catch (error) {
      this.fail(error);
    }
  }

  /** @param {unknown} error */
  fail(error) {
    this.refused = error instanceof Refused && error.status >= 400 && error.status < 500;
    if (this.refused || !this.info) this.problem = error instanceof Error ? error.message : String(error);
  }

  /**
   * @param {import("./types.js").RunInfo} info
   * @param {Record<string, import("./types.js").Points>} series
   * @param {import("./types.js").Density[]} densities
   */
  take(info, series, densities) {
    this.problem = null;
    this.refused = false;
    this.info = info;
    this.tracks = new Map(Object.entries(series).map(([name, points]) => [name, new Track(points)]));
    this.densities = densities.map(trimmed);
    this.history = [...info.history].sort((a, b) => a.step - b.step || (a.id ?? 0) - (b.id ?? 0));
    this.standing = new Map(info.alerts.map((alert) => [alert.rule, alert]));
    this.actions = [...(info.actions ?? [])];
    for (const key of /** @type {(keyof Run["seen"])[]} */ (Object.keys(this.seen))) this.seen[key] += 1;
  }

  /** @param {import("./types.js").Message} message */
  apply(message) {
    if (this.waiting) this.waiting.push(message);
    else if (!this.info) return;
    else if (message.type === "scalars") this.takeRows(message.rows);
    else if (message.type === "reading") this.takeReading(message.reading);
    else if (message.type === "measurement") this.takeMeasurement(message.kind, message.measurement);
    else if (message.type === "alert") this.takeAlert(message.alert);
    else if (message.type === "action") this.takeAction(message.action);
    else if (message.type === "status") {
      const { status, last_step, measuring_share } = message;
      if (status !== this.info.status) this.seen.reading += 1; // an ended run says otherwise why it has none
      Object.assign(this.info, { status, last_step, measuring_share });
    }
  }

  /** @param {Record<string, import("./types.js").Row[]>} rows */
  takeRows(rows) {
    for (const [name, points] of Object.entries(rows)) {
      if (!this.metrics.includes(name)) continue;
      const track = this.tracks.get(name) ?? new Track();
      this.tracks.set(name, track);
      for (const [step, value, error] of points) track.put(step, value, error);
    }
    this.seen.series += 1;
    if ([...this.tracks.values()].some((track) => track.crowded)) void this.load();
  }

  /** @param {import("./types.js").Reading} reading */
  takeReading(reading) {
    if (!this.info) return;
    const density = /** @type {import("./types.js").Density|null|undefined} */ (reading.density);
    this.info.reading = reading;
    this.seen.reading += 1;
    if (!density?.grid || this.densities.some((d) => d.step === density.step)) return;
    this.densities.push(trimmed({ ...density, step: density.step ?? reading.step }));
    this.densities = bounded(this.densities);
    this.seen.densities += 1;
  }

  /** @param {string} kind @param {Measurement} measurement */
  takeMeasurement(kind, measurement) {
    if (!this.info) return;
    this.info.measurements[kind] = measurement;
    const row = this.histories.find((history) => history.kind === kind)?.row(measurement);
    const before = (this.rows.get(kind) ?? []).filter(({ step }) => step !== measurement.step);
    if (row) this.rows.set(kind, bounded([...before, row].sort((a, b) => a.step - b.step)));
    this.seen.measurements += 1;
  }

  /** @param {Alert} alert a new transition, or a known one with a newer text */
  takeAlert(alert) {
    const at = this.history.findIndex((known) => known.id === alert.id && alert.id !== undefined);
    const taken = { ...this.history[at], ...alert };
    this.history = at < 0 ? [...this.history, taken].slice(-MOST_TRANSITIONS) : this.history.with(at, taken);
    const last = this.history.findLast((known) => known.rule === alert.rule);
    if (last?.level === "ok") this.standing.delete(alert.rule);
    else if (last) this.standing.set(alert.rule, last);
    this.seen.alerts += 1;
  }

  /** @param {Action} action a new one, or a known one in another state */
  takeAction(action) {
    const at = this.actions.findIndex((known) => known.key === action.key);
    this.actions = at < 0 ? [...this.actions, action] : this.actions.with(at, action);
    this.seen.actions += 1;
  }

  /** @returns {Action[]} what waits for an answer; of a run that has ended nothing does */
  proposals() {
    return this.hasEnded ? [] : this.actions.filter((action) => action.state === "proposed");
  }

  /** @param {Action} action @param {"apply"|"dismiss"} verb Answer a proposal. @returns {Promise<void>} */
  async answer(action, verb) {
    await api.answer(this.id, action.key, verb);
    const now = this.actions.find(({ key }) => key === action.key);
    if (now?.state === "proposed") this.takeAction({ ...now, asked: verb });
  }

  /** @param {string} [panel] @returns {Alert[]} the active alerts, of one panel where it is named; the worst first */
  active(panel) {
    return [...this.standing.values()].filter((a) => !panel || a.panel === panel).sort(worseFirst);
  }

  /** @returns {boolean} nothing more will be written to it */
  get hasEnded() {
    return this.info !== null && this.info.status !== "live";
  }

  /** @param {Alert} alert @returns {boolean} */
  isAcknowledged(alert) {
    return Boolean(this.history.find((known) => known.id === alert.id)?.acknowledged ?? alert.acknowledged);
  }

  /** @param {Alert} alert Acknowledge it with the server. @returns {Promise<void>} */
  async acknowledge(alert) {
    if (alert.id === undefined) return;
    await api.acknowledge(this.id, alert.id);
    this.history = this.history.map((a) => (a.id === alert.id ? { ...a, acknowledged: true } : a));
    this.seen.alerts += 1;
  }

  /** @param {string} metric @returns {Track} its points: finer inside the window that is looked at */
  track(metric) {
    const whole = this.tracks.get(metric) ?? EMPTY;
    const fine = this.detail?.tracks.get(metric);
    if (!fine || !this.detail) return whole;
    const known = this.joined.get(metric);
    if (known?.version === this.seen.series) return known.track;
    const track = whole.refined(fine, this.detail.span);
    this.joined.set(metric, { version: this.seen.series, track });
    return track;
  }

  /** @returns {Span|null} the steps that the run covers so far; null before its first point */
  extent() {
    let min = Infinity;
    let max = -Infinity;
    for (const { steps, length } of this.tracks.values()) {
      min = Math.min(min, steps[0] ?? Infinity);
      max = Math.max(max, steps[length - 1] ?? -Infinity);
    }
    return min <= max ? { min, max } : null;
  }

  /**
   * Fetch the window more finely than the whole run is known, with a window's width on each side to pan into.
   * @param {Span} span
   */
  async refine(span) {
    const width = span.max - span.min;
    const had = this.detail?.span;
    if (had && had.min <= span.min && had.max >= span.max && had.max - had.min <= 6 * width) return;
    const names = [...this.tracks].filter(([, track]) => track.length >= EXACT).map(([name]) => name);
    if (!names.length) return;
    this.refining?.abort();
    const abort = new AbortController();
    this.refining = abort;
    const asked = { min: Math.floor(span.min - width), max: Math.ceil(span.max + width) };
    const series = await api.series(this.id, names, asked, abort.signal);
    const tracks = new Map(Object.entries(series).map(([name, points]) => [name, new Track(points)]));
    const last = Math.max(...[...tracks.values()].map((t) => t.steps[t.length - 1] ?? -Infinity));
    this.detail = { span: { min: asked.min, max: Math.min(asked.max, last) }, tracks };
    this.seen.series += 1;
  }
}
