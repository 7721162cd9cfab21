// The state of the page: which runs are shown, which steps are looked at, and when to draw.

import { api } from "./api.js";
import { Live } from "./live.js";
import { Run } from "./run.js";

/** @typedef {import("./types.js").Span} Span */

const DATA_PAUSE = 80; // ms between drawings for new data; the reader's own gestures are drawn at once
const OVERLAY_PAUSE = 2000; // ms between looks at an overlaid run that is still live

export class App {
  /** @param {string[]} metrics every series that some panel draws @param {import("./types.js").History[]} histories */
  constructor(metrics, histories) {
    this.metrics = metrics;
    this.histories = histories;
    /** @type {import("./types.js").Session} */ this.session = { version: "", definitions: {} };
    /** @type {import("./types.js").RunItem[]|null} null until the server has answered */ this.runs = null;
    /** @type {Run|null} */ this.primary = null;
    /** @type {Run|null} */ this.overlay = null;
    /** @type {Span|null} the steps that are looked at; null is the whole run */ this.window = null;
    /** @type {import("./live.js").Link} */ this.link = { phase: "connecting", attempt: 0, retryAt: 0 };
    this.theme = 0; // grows when the colours change
    /** @type {import("./types.js").Part[]} */ this.parts = [];
    /** @type {import("./types.js").Part[]} drawn in a hidden tab too */ this.hiddenParts = [];
    this.live = new Live(
      (message) => this.onMessage(message),
      (link) => this.onLink(link),
    );
    this.scheduled = false;
    this.timer = 0;
    this.frame = 0;
    this.drawn = 0;
    this.refining = false;
    /** @type {Promise<void>} the first reading of the chosen run */ this.loading = Promise.resolve();
    document.addEventListener("visibilitychange", () => this.touched()); // a hidden tab gets no frames
  }

  /** @returns {Run[]} the runs that are drawn, the chosen one first */
  shown() {
    return [this.primary, this.overlay].filter((run) => run !== null);
  }

  // -- runs ---------------------------------------------------------------------------------------

  async start() {
    const wanted = new URLSearchParams(location.search || location.hash.slice(1));
    const run = wanted.get("run");
    if (run) this.choose(run, wanted.get("with") || null);
    await this.readList();
    if (!this.primary) this.live.watch(null);
    setInterval(() => this.followOverlay(), OVERLAY_PAUSE);
  }

  /** Read the session and the list of runs. Silent when the server is gone: the link says so. */
  async readList() {
    try {
      const session = this.session.version ? this.session : api.session();
      [this.session, this.runs] = await Promise.all([session, api.runs()]);
    } catch {
      return;
    }
    const newest = this.newest();
    if (!this.primary && newest !== null) this.choose(newest, null);
    if (this.primary?.refused && this.runs.some((run) => run.id === this.primary?.id)) await this.follow(this.primary);
    this.changed();
  }

  /** @returns {string|null} the live run, or the one written to last */
  newest() {
    const order = [...(this.runs ?? [])].sort(
      (a, b) => Number(b.status === "live") - Number(a.status === "live") || (b.updated ?? 0) - (a.updated ?? 0),
    );
    return order[0]?.id ?? null;
  }

  /** @param {string} id @param {string|null} other Show a run, and another one over it. */
  choose(id, other) {
    if (this.primary?.id !== id) {
      this.primary = new Run(id, this.metrics, this.histories);
      this.window = null;
      this.live.rest(); // what it still says is of the run before
      this.loading = this.follow(this.primary);
    }
    this.lay(other);
  }

  /** @param {Run} run Read it, then follow it; one that the server refuses is not asked for again. */
  async follow(run) {
    await run.load();
    if (run === this.primary) this.live.watch(run.refused ? null : run.id);
    this.changed();
  }

  /** @param {string|null} other the run to lay over the chosen one; null takes it away */
  lay(other) {
    if (this.overlay?.id !== other) this.overlay = other === null ? null : new Run(other, this.metrics, this.histories);
    const query = new URLSearchParams({ run: this.primary?.id ?? "" });
    if (other !== null) query.set("with", other);
    history.replaceState(null, "", `${location.pathname}?${query}`);
    if (this.overlay && !this.overlay.info) void this.readOverlay(this.overlay);
    this.touched();
  }

  /** @param {Run} run Read it; one that the server refuses is taken away again. */
  async readOverlay(run) {
    await run.load();
    if (run.refused && run === this.overlay) this.lay(null);
    this.changed();
  }

  /** The link was lost: to this run alone, or to the server? */
  async lookForRun() {
    const run = this.primary;
    await run?.look();
    if (run?.refused && run === this.primary) this.live.watch(null);
  }

  followOverlay() {
    if (this.overlay?.info?.status !== "live" || document.hidden || this.link.phase !== "open") return;
    void this.readOverlay(this.overlay);
  }

  /**
   * The link stands. What was written between reading the run and now is missing, if it is live or the link was lost.
   * @param {boolean} again
   */
  async linked(again) {
    await this.loading;
    const run = this.primary;
    const isBehind = run && !run.refused && (!run.info || run.info.status === "live");
    if (again || isBehind) await this.resynchronise();
    else if (!run?.refused) await this.readList(); // another run may have begun
  }

  /** Read everything anew: after the link came (back), or when the server says that this page fell behind. */
  async resynchronise() {
    await this.readList();
    const runs = this.shown().filter((run) => !run.refused);
    for (const run of runs) run.detail = null;
    await Promise.all(runs.map((run) => run.load()));
    void this.refine();
    this.changed();
  }

  /** @param {import("./types.js").Message} message */
  onMessage(message) {
    if (message.type === "runs") void this.readList();
    else if (message.type === "resync") void this.resynchronise();
    else this.primary?.apply(message);
    this.changed();
  }

  /** @param {import("./live.js").Link} link */
  onLink(link) {
    const again = this.link.phase === "lost";
    this.link = link;
    if (link.phase === "open") void this.linked(again);
    if (link.phase === "lost") void this.lookForRun();
    this.touched();
  }

  // -- the window of steps ------------------------------------------------------------------------

  /** @returns {Span} the steps that the shown runs cover */
  extent() {
    const spans = this.shown()
      .map((run) => run.extent())
      .filter((span) => span !== null);
    if (!spans.length) return { min: 0, max: 1 };
    const min = Math.min(...spans.map((s) => s.min));
    const max = Math.max(...spans.map((s) => s.max));
    return { min, max: Math.max(max, min + 1) };
  }

  /** @returns {Span} the steps that the charts show */
  view() {
    if (this.window) return this.window;
    const { min, max } = this.extent();
    const margin = (max - min) * 0.01;
    return { min: min - margin, max: max + margin };
  }

  /** @param {Span|null} span the steps to look at; null for the whole run */
  look(span) {
    this.window = span && this.fitted(span);
    this.touched();
    void this.refine();
  }

  /**
   * @param {Span} span
   * @returns {Span|null} kept inside the run, at least two steps wide; null when it is the whole run
   */
  fitted(span) {
    const { min, max } = this.extent();
    const whole = (max - min) * 1.02;
    const width = Math.max(2, span.max - span.min);
    if (width >= whole) return null;
    const low = Math.min(Math.max((span.min + span.max - width) / 2, min - whole * 0.01), max + whole * 0.01 - width);
    return { min: low, max: low + width };
  }

  /** @param {number} share of the window's width, to the right */
  pan(share) {
    const { min, max } = this.view();
    const by = (max - min) * share;
    if (this.window) this.look({ min: min + by, max: max + by });
  }

  /** @param {number} factor of the window's width @param {number} [at] the step that stays in its place */
  zoom(factor, at) {
    const { min, max } = this.view();
    const fixed = at ?? (min + max) / 2;
    this.look({ min: fixed - (fixed - min) * factor, max: fixed + (max - fixed) * factor });
  }

  /** Fetch what the window shows, again while it moves, one request a run at a time. */
  async refine() {
    if (this.refining) return;
    this.refining = true;
    let asked = null;
    while (this.window && asked !== this.window) {
      asked = this.window;
      const span = asked;
      await Promise.allSettled(this.shown().map((run) => run.refine(span)));
      this.touched();
    }
    this.refining = false;
  }

  // -- drawing ------------------------------------------------------------------------------------

  /** New data: draw soon. */
  changed() {
    this.schedule(Math.max(0, this.drawn + DATA_PAUSE - performance.now()));
  }

  /** The reader did something: draw at the next frame. */
  touched() {
    this.schedule(0);
  }

  /** @param {number} wait in ms; a shorter one overrides a longer one */
  schedule(wait) {
    if (this.scheduled && wait > 0) return;
    clearTimeout(this.timer);
    this.scheduled = true;
    if (wait > 0) this.timer = setTimeout(() => this.schedule(0), wait);
    else if (document.hidden) this.draw();
    else if (!this.frame) this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    this.scheduled = false;
    this.frame = 0;
    this.drawn = performance.now();
    for (const part of this.hiddenParts) part.draw();
    if (!document.hidden) for (const part of this.parts) part.draw();
  }
}
