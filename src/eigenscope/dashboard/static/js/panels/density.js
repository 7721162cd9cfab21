// Spectral density: the spectrum now, and its whole history under it on the same axis.

import { ramp } from "../colormap.js";
import { eigenvalueAxis } from "../chart/plot.js";
import { OwnAxis } from "../chart/ownaxis.js";
import { floorOf, Spectrum } from "../chart/spectrum.js";
import { SpectrumLegend } from "../chart/spectrumlegend.js";
import { unmeasured } from "../chart/readout.js";
import { table } from "../chart/table.js";
import { Waterfall } from "../chart/waterfall.js";
import { densityAt } from "../density.js";
import { changes, h } from "../dom.js";
import { count, number, withError } from "../format.js";
import { Choice, stepsOf } from "../history.js";
import { asinh, padded } from "../scales.js";

/** @typedef {import("../types.js").Density} Density */
/** @typedef {import("../run.js").Run} Run */

/** @type {import("../chart/waterfall.js").Look} */
const LOOK = {
  title: "History of the spectral density",
  things: "densities",
  group: "eigenvalues",
  axis: (scale) => eigenvalueAxis(scale, true),
};

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
    /** @type {Choice<Density>} */
    this.choice = new Choice(
      () => app.primary?.densities ?? [],
      () => app.touched(),
    );
    this.scale = asinh(1e-2);
    this.axis = new OwnAxis(
      () => this.scale,
      () => this.whole(),
      () => app.touched(),
    );
    this.changed = changes();
    this.legend = new SpectrumLegend(() => this.choice.take(null));
    const figure = h("figure", { class: "chart pictured" }, this.legend.top);
    this.spectrum = new Spectrum(figure, this.axis.gestures(), () => this.point());
    /** @type {Waterfall<Density>} */
    this.waterfall = new Waterfall(figure, LOOK, this.axis.gestures(), {
      onCursor: () => this.point(),
      onChoose: (step) => this.choice.take(step),
      onMove: (by) => this.choice.move(by),
      onLatest: () => this.choice.take(null),
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

  /** @returns {[number, number]} of the eigenvalue axis: every density of the run and every outlier is on it */
  whole() {
    let min = Infinity;
    let max = -Infinity;
    for (const d of [...(this.app.primary?.densities ?? []), this.choice.of(this.app.overlay?.densities ?? [])]) {
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
        this.choice.step,
        this.axis.zoomed,
      )
    )
      return;
    this.shell.stateFromAlerts(run, "density");
    const noise = Number(run?.reading?.noise_floor) || null;
    this.scale = asinh(10 ** Math.floor(Math.log10(noise ?? 1e-2)));
    const now = this.choice.of(run?.densities ?? []);
    const densities = [now, this.choice.of(overlay?.densities ?? [])].filter((d) => d !== null);
    const range = this.axis.range();
    this.spectrum.show({ scale: this.scale, range, noise, densities, empty: unmeasured(run) });
    this.waterfall.show({ ...this.history(run), scale: this.scale, range, chosen: now?.step ?? 0 });
    this.point();
    this.legend.state(noise, run, overlay, this.choice.step !== null);
    this.legend.colours(ceilingOf(run?.densities ?? []));
    this.sayAge(run, now);
    if (!this.table.hidden) this.fillTable();
  }

  /** @param {Run|null} run @returns {Omit<import("../chart/waterfall.js").History<Density>, "scale"|"range"|"chosen">} */
  history(run) {
    const items = run?.densities ?? [];
    const ceiling = ceilingOf(items);
    const colours = ramp();
    return {
      items,
      steps: stepsOf(items, this.app.window, run?.extent()?.max),
      row: (density, places) => rowOf(density, places, colours, ceiling),
      key: `${run?.id} ${run?.seen.densities} ${this.app.theme}`,
    };
  }

  /** Say what is under the cursor. */
  point() {
    const found = this.waterfall.underCursor();
    const shown = found?.item ?? this.choice.of(this.app.primary?.densities ?? []);
    this.legend.point(shown, found?.value ?? this.spectrum.cursorValue());
  }

  /** @param {Run|null} run @param {Density|null} now */
  sayAge(run, now) {
    const step = run?.reading?.step;
    if (!now) this.shell.say("");
    else if (this.choice.step !== null) this.shell.say(`Density from step ${count(now.step)}, chosen in the history.`);
    else if (step !== undefined && step > now.step)
      this.shell.say(`Density from step ${count(now.step)}; the other numbers are from step ${count(step)}.`);
    else this.shell.say(`Density from step ${count(now.step)}.`);
  }

  fillTable() {
    const now = this.choice.of(this.app.primary?.densities ?? []);
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

/**
 * @param {Density} density
 * @param {number[]} values
 * @param {Uint32Array} colours
 * @param {number} ceiling
 * @returns {Uint32Array} a row of the picture
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
