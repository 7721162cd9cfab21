// Spectral density: the spectrum now, and its whole history under it on the same axis.

import { Spectrum } from "../chart/spectrum.js";
import { SpectrumLegend } from "../chart/spectrumlegend.js";
import { unmeasured } from "../chart/readout.js";
import { table } from "../chart/table.js";
import { Waterfall } from "../chart/waterfall.js";
import { changes, h } from "../dom.js";
import { count, number, withError } from "../format.js";
import { asinh, padded } from "../scales.js";

/** @typedef {import("../types.js").Density} Density */
/** @typedef {import("../run.js").Run} Run */

/** @type {import("../types.js").Panel} */
export const density = {
  name: "density",
  title: "Spectral density",
  place: 2,
  metrics: [],
  mount: (shell, app) => new DensityPanel(shell, app),
};

class DensityPanel {
  /** @param {import("../types.js").Shell} shell @param {import("../types.js").App} app */
  constructor(shell, app) {
    this.shell = shell;
    this.app = app;
    /** @type {number|null} the step chosen in the history; null is the latest */ this.chosen = null;
    /** @type {[number, number]|null} the eigenvalues that are zoomed to */ this.zoomed = null;
    this.scale = asinh(1e-2);
    this.changed = changes();
    this.legend = new SpectrumLegend(() => this.choose(null));
    const gestures = this.gestures();
    const figure = h("figure", { class: "chart spectrum" }, this.legend.top);
    this.spectrum = new Spectrum(figure, gestures, () => this.point());
    this.waterfall = new Waterfall(figure, gestures, {
      onCursor: () => this.point(),
      onChoose: (step) => this.choose(step),
      onMove: (by) => this.move(by),
      onLatest: () => this.choose(null),
    });
    this.table = h("div", {
      class: "table",
      tabindex: "0",
      hidden: true,
      role: "region",
      "aria-label": "Spectral density: tables",
    });
    figure.append(this.legend.bottom, this.table);
    shell.body.append(figure);
    shell.onTables.push((tables) => {
      figure.classList.toggle("as-table", tables);
      this.table.hidden = !tables;
      this.fillTable();
    });
  }

  /** @returns {import("../chart/plot.js").Gestures} on the eigenvalue axis, which only this panel has */
  gestures() {
    const zoom = (/** @type {[number, number]|null} */ range) => {
      this.zoomed = range;
      this.app.touched();
    };
    const places = () => /** @type {[number, number]} */ (this.range().map(this.scale.forward));
    const back = (/** @type {number} */ a, /** @type {number} */ b) =>
      zoom([this.scale.backward(a), this.scale.backward(b)]);
    return {
      zoomTo: (min, max) => zoom([min, max]),
      reset: () => zoom(null),
      panBy: (share) => {
        const [a, b] = places();
        if (this.zoomed) back(a + (b - a) * share, b + (b - a) * share);
      },
      zoomBy: (factor, at) => {
        const [a, b] = places();
        const fixed = at === undefined ? (a + b) / 2 : this.scale.forward(at);
        back(fixed - (fixed - a) * factor, fixed + (b - fixed) * factor);
      },
    };
  }

  /** @param {number|null} step */
  choose(step) {
    const known = this.app.primary?.densities ?? [];
    const nearest = [...known].sort((a, b) => Math.abs(a.step - (step ?? 0)) - Math.abs(b.step - (step ?? 0)))[0];
    this.chosen = step === null || nearest === known[known.length - 1] ? null : (nearest?.step ?? null);
    this.app.touched();
  }

  /** @param {number} by densities */
  move(by) {
    const known = this.app.primary?.densities ?? [];
    const at = known.findIndex((d) => d === this.shown(this.app.primary));
    this.choose(known[Math.min(Math.max(at + by, 0), known.length - 1)]?.step ?? null);
  }

  /** @param {Run|null} run @returns {Density|null} what is drawn of this run above */
  shown(run) {
    const known = run?.densities ?? [];
    const chosen =
      this.chosen === null ? undefined : known.findLast((d) => d.step <= /** @type {number} */ (this.chosen));
    return chosen ?? known[known.length - 1] ?? null;
  }

  /** @returns {[number, number]} of the eigenvalue axis: every density of the run and every outlier is on it */
  range() {
    if (this.zoomed) return this.zoomed;
    let min = Infinity;
    let max = -Infinity;
    for (const d of [...(this.app.primary?.densities ?? []), this.shown(this.app.overlay)]) {
      if (!d) continue;
      const ends = [d.grid[0] ?? Infinity, d.grid[d.grid.length - 1] ?? -Infinity, ...d.outliers.map((o) => o.value)];
      min = Math.min(min, ...ends.filter((v) => v !== -Infinity));
      max = Math.max(max, ...ends.filter((v) => v !== Infinity));
    }
    return min < max ? padded(this.scale, min, max) : padded(this.scale, -1, 1);
  }

  draw() {
    const { primary: run, overlay, theme, window: span } = this.app;
    if (
      !this.changed(
        run,
        run?.seen.densities,
        run?.seen.reading,
        run?.seen.alerts,
        overlay,
        overlay?.seen.densities,
        theme,
        span,
        this.chosen,
        this.zoomed,
      )
    )
      return;
    this.shell.stateFromAlerts(run, "density");
    const noise = Number(run?.reading?.noise_floor) || null;
    this.scale = asinh(10 ** Math.floor(Math.log10(noise ?? 1e-2)));
    const now = this.shown(run);
    const densities = [now, this.shown(overlay)].filter((d) => d !== null);
    const range = this.range();
    this.spectrum.show({ scale: this.scale, range, noise, densities, empty: unmeasured(run) });
    this.waterfall.show({ ...this.history(run), scale: this.scale, range, chosen: now?.step ?? 0 });
    this.point();
    this.legend.state(noise, run, overlay, this.chosen !== null);
    this.legend.colours(ceilingOf(run?.densities ?? []));
    this.sayAge(run, now);
    if (!this.table.hidden) this.fillTable();
  }

  /** @param {Run|null} run @returns {Omit<import("../chart/waterfall.js").History, "scale"|"range"|"chosen">} */
  history(run) {
    const densities = run?.densities ?? [];
    const [first, last] = [densities[0]?.step ?? 0, densities[densities.length - 1]?.step ?? 1];
    const end = run?.extent()?.max ?? last;
    const even = densities.length > 1 ? (last - first) / (densities.length - 1) : Math.max(10, end - last);
    const span = this.app.window ?? { min: first, max: last + even };
    return {
      densities,
      steps: [span.min, span.max],
      ceiling: ceilingOf(densities),
      key: `${run?.id} ${run?.seen.densities} ${this.app.theme}`,
    };
  }

  /** Say what is under the cursor. */
  point() {
    const found = this.waterfall.underCursor();
    this.legend.point(found?.density ?? this.shown(this.app.primary), found?.value ?? this.spectrum.cursorValue());
  }

  /** @param {Run|null} run @param {Density|null} now */
  sayAge(run, now) {
    const step = run?.reading?.step;
    if (!now) this.shell.say("");
    else if (this.chosen !== null) this.shell.say(`Density from step ${count(now.step)}, chosen in the history.`);
    else if (step !== undefined && step > now.step)
      this.shell.say(`Density from step ${count(now.step)}; the other numbers are from step ${count(step)}.`);
    else this.shell.say(`Density from step ${count(now.step)}.`);
  }

  fillTable() {
    const now = this.shown(this.app.primary);
    if (!now || this.table.hidden) return;
    const every = Math.ceil(now.grid.length / 60);
    const points = now.grid.flatMap((x, i) => (i % every ? [] : [[number(x), number(now.values[i], 3)]]));
    const past = [...(this.app.primary?.densities ?? [])].reverse();
    const edges = (/** @type {Density} */ d) => (d.bulk ? `${number(d.bulk[0], 3)} to ${number(d.bulk[1], 3)}` : "—");
    this.table.replaceChildren(
      table(
        `Outliers at step ${count(now.step)}`,
        ["eigenvalue"],
        now.outliers.map((o) => [withError(o.value, o.error)]),
      ),
      table(`Density at step ${count(now.step)}`, ["eigenvalue", "per unit of the axis"], points),
      table(
        "History",
        ["step", "bulk", "outliers", "largest"],
        past.map((d) => [
          count(d.step),
          edges(d),
          count(d.outliers.length),
          number(Math.max(...d.outliers.map((o) => o.value)), 3),
        ]),
      ),
    );
  }
}

/** @param {Density[]} densities @returns {number} the greatest density of all */
function ceilingOf(densities) {
  let most = 0;
  for (const { values } of densities) for (const v of values) if (v > most && v < Infinity) most = v;
  return most;
}
