// Signal flow: σ of each block's Jacobian now, and below it how that changed over the steps; the layer at fault by name.

import { OwnAxis } from "../chart/ownaxis.js";
import { moveCursor } from "../chart/plot.js";
import { blockAxis, Profile } from "../chart/profile.js";
import { ProfileLegend } from "../chart/profilelegend.js";
import { unmeasured } from "../chart/readout.js";
import { table } from "../chart/table.js";
import { Waterfall } from "../chart/waterfall.js";
import { diverging, packed } from "../colormap.js";
import { changes, h } from "../dom.js";
import { FIELDS, flowOf, reachOf, rowOf, sigma, worstOf } from "../flow.js";
import { count, number } from "../format.js";
import { Choice, stepsOf } from "../history.js";
import { linear } from "../scales.js";
import { palette } from "../theme.js";
import { Remarks, sentence } from "../ui/remarks.js";
import { asEstimate } from "../ui/figure.js";
import { unread } from "../ui/shell.js";

/** @typedef {import("../flow.js").Flow} Flow */
/** @typedef {import("../run.js").Run} Run */

const LARGEST = 1e300; // of a factor: what is beyond is not told apart
const REMEDIES = 2; // in words; the table has all

/** @type {Record<string, ["ok"|"warning"|"none", string]>} */
const VERDICTS = {
  healthy: ["ok", "healthy"],
  exploding: ["warning", "exploding"],
  vanishing: ["warning", "vanishing"],
  unresolved: ["none", "unresolved"],
};

/** @type {import("../types.js").Panel} */
export const flow = {
  name: "flow",
  title: "Jacobian σ by layer",
  place: 4,
  metrics: [],
  history: { kind: "flow", fields: FIELDS, row: flowOf },
  applies: (run) => run.latest("flow") !== null,
  mount: (shell, app) => new FlowPanel(shell, app),
};

class FlowPanel {
  /** @param {import("../types.js").Shell} shell @param {import("../types.js").App} app */
  constructor(shell, app) {
    this.shell = shell;
    this.app = app;
    /** @type {import("../flow.js").Sigma} what is pictured */ this.which = "sigma_max";
    this.changed = changes();
    const touched = () => app.touched();
    /** @type {Choice<Flow>} */ this.choice = new Choice(() => flowsOf(app.primary), touched);
    this.axis = new OwnAxis(
      () => linear,
      () => this.whole(),
      touched,
    );
    this.factor = shell.figure("depth_factor", "over the depth", true);
    this.growth = shell.figure("growth", "growth a block", true);
    this.worst = shell.figure("sigma_max", "worst σmax", true);
    this.legend = new ProfileLegend({
      onLatest: () => this.choice.take(null),
      onToggle: () => {
        this.which = this.which === "sigma_max" ? "sigma_rms" : "sigma_max";
        touched();
      },
    });
    const figure = h("figure", { class: "chart pictured" }, this.legend.top, this.legend.pointed);
    this.profile = new Profile(figure, this.axis.gestures(), () => this.point());
    /** @type {Waterfall<Flow>} */
    this.waterfall = new Waterfall(figure, this.look(), this.axis.gestures(), {
      onCursor: () => this.point(),
      onChoose: (step) => this.choice.take(step),
      onMove: (by) => this.choice.move(by),
      onLatest: () => this.choice.take(null),
      onAcross: (by) => this.profile.plot && moveCursor(this.profile.plot, by),
    });
    this.table = h("div", { class: "table", tabindex: "0", hidden: true, role: "region", "aria-label": "Signal flow: tables" });
    this.remarks = new Remarks();
    figure.append(this.legend.bottom, this.table);
    shell.body.append(figure);
    shell.foot.after(this.remarks.root);
    shell.onTables.push((tables) => {
      figure.classList.toggle("as-table", tables);
      this.table.hidden = !tables;
      this.fillTable();
    });
    for (const host of [this.profile.host, this.waterfall.host]) {
      host.addEventListener("focus", () => this.legend.speak(host.matches(":focus-visible")));
      host.addEventListener("blur", () => this.legend.speak(false));
    }
  }

  /** @returns {import("../chart/waterfall.js").Look} */
  look() {
    return {
      title: "History of σ by layer",
      things: "checks",
      group: "blocks",
      axis: () => blockAxis(() => this.shown()?.names ?? [], true),
    };
  }

  /** @returns {Flow|null} what is drawn above */
  shown() {
    return this.choice.of(flowsOf(this.app.primary));
  }

  /** @returns {[number, number]} of the blocks' axis */
  whole() {
    const flows = [this.shown(), this.choice.of(flowsOf(this.app.overlay))];
    return [-0.5, Math.max(1, ...flows.map((flow) => flow?.names.length ?? 0)) - 0.5];
  }

  draw() {
    const { primary: run, overlay, theme, window: span } = this.app;
    const seen = [run?.seen.measurements, run?.seen.alerts, run?.hasEnded, overlay?.seen.measurements];
    if (!this.changed(run, overlay, ...seen, theme, span, this.choice.step, this.axis.zoomed, this.which)) return;
    const level = this.tell(run);
    const flows = flowsOf(run);
    const drawn = [this.shown(), this.choice.of(flowsOf(overlay))].filter((flow) => flow !== null);
    const range = this.axis.range();
    this.profile.show({ flows: drawn, range, level, empty: unmeasured(run) });
    this.waterfall.show({ ...this.picture(run, flows), scale: linear, range, chosen: this.shown()?.step ?? 0 });
    this.legend.state(overlay, this.choice.step !== null);
    this.legend.colours(this.which, reachOf(flows));
    this.legend.bottom.hidden = flows.length === 0;
    this.point();
    if (!this.table.hidden) this.fillTable();
  }

  /** @param {Run|null} run @param {Flow[]} items */
  picture(run, items) {
    const names = this.shown()?.names ?? [];
    const paint = {
      colours: diverging(),
      reach: reachOf(items),
      missing: packed(palette["ink-3"]),
      odd: packed(palette.critical),
    };
    const blocks = `${names.length} ${names[0]} ${names[names.length - 1]}`;
    return {
      items,
      steps: stepsOf(items, this.app.window, run?.extent()?.max),
      row: (/** @type {Flow} */ flow, /** @type {number[]} */ places) => rowOf(flow, names, this.which, places, paint),
      key: `${run?.id} ${run?.seen.measurements} ${this.app.theme} ${this.which} ${blocks}`,
    };
  }

  /** @param {Run|null} run State, figures and words. @returns {"warning"|"critical"} how the layers at fault are marked */
  tell(run) {
    const latest = run?.latest("flow");
    const [quiet, word] = VERDICTS[String(latest?.verdict)] ?? ["none", unread(run)];
    const worst = this.shell.recommend(run, "flow");
    this.shell.state(worst?.level ?? quiet, word);
    showFactor(this.factor, latest?.depth_factor, latest ? `${count(latest.blocks?.length)} blocks` : "");
    showFactor(this.growth, latest?.growth, latest ? "of the gradient" : "");
    const flow = latest ? flowOf(latest) : null;
    const at = flow ? worstOf(flow) : -1;
    const block = at < 0 ? null : latest?.blocks[at];
    this.worst.estimate(asEstimate(block?.sigma_max), "not measured", { note: block ? `block ${block.name}` : "" });
    this.shell.explain("flow_verdict", word, latest ? String(latest.verdict_reason ?? "") : "");
    const remedies = (latest?.remedies ?? []).slice(0, REMEDIES);
    this.remarks.show(
      remedies.map((/** @type {any} */ remedy) => ["remedies", remedy.name.replaceAll("_", " "), inShort(remedy)]),
    );
    return worst?.level === "critical" ? "critical" : "warning";
  }

  /** Say what is under the cursor. */
  point() {
    const found = this.waterfall.underCursor();
    this.legend.point(found?.item ?? this.shown(), this.profile.cursorBlock());
  }

  fillTable() {
    const shown = this.shown();
    const latest = this.app.primary?.latest("flow");
    if (!shown || this.table.hidden) return;
    const past = [...flowsOf(this.app.primary)].reverse();
    const remedies = /** @type {any[]} */ (latest?.remedies ?? []);
    this.table.replaceChildren(
      blockTable(shown),
      ...(remedies.length ? [remedyTable(remedies)] : []),
      table(
        "History",
        ["step", "verdict", "growth", "worst σmax", "in"],
        past.map((flow) => {
          const worst = worstOf(flow);
          return [count(flow.step), flow.verdict, number(flow.growth, 3), sigma(flow, worst, "sigma_max"), flow.names[worst] ?? "—"];
        }),
      ),
    );
  }
}

/** @param {Run|null|undefined} run @returns {Flow[]} by step */
function flowsOf(run) {
  return /** @type {Flow[]} */ (run?.rows.get("flow") ?? []);
}

/** @param {import("../ui/figure.js").Figure} figure @param {unknown} value @param {string} note */
function showFactor(figure, value, note) {
  if (typeof value !== "number") return figure.show({ text: note ? "not known" : "not measured", missing: true });
  const text = value >= LARGEST ? "> 10³⁰⁰" : value > 0 && value <= 1 / LARGEST ? "< 10⁻³⁰⁰" : number(rounded(value), 3);
  figure.show({ text: `${text}×`, note });
}

/** @param {number} value @returns {number} to three digits: whole numbers would show more */
function rounded(value) {
  return Number(value.toPrecision(3));
}

/** @param {any} remedy @returns {string} what to do, and what it did to a copy */
function inShort({ what, tried }) {
  const done = tried && !tried.reason ? `On a copy: ${number(tried.depth_factor, 2)}× over the depth, ${tried.verdict}.` : "";
  return `${sentence(what)} ${done}`.trim();
}

/** @param {Flow} flow */
function blockTable(flow) {
  return table(
    `Blocks at step ${count(flow.step)}, in the order in which data passes`,
    ["block", "σmax", "σrms", "gradient ×", "is", ""],
    flow.names.map((name, i) => [
      flow.faults.has(name) ? h("strong", { class: "fault", text: `▲ ${name}` }) : name,
      sigma(flow, i, "sigma_max"),
      sigma(flow, i, "sigma_rms"),
      number(flow.growths[i], 3),
      flow.abouts[i] ?? "",
      flow.reasons[i] ? `not measured: ${flow.reasons[i]}` : "",
    ]),
  );
}

/** @param {any[]} remedies */
function remedyTable(remedies) {
  return table(
    "Remedies, in the order of the evidence for them",
    ["remedy", "tried on a copy", "what", "why"],
    remedies.map(({ name, what, why, tried }) => [
      name.replaceAll("_", " "),
      !tried ? "not tried" : (tried.reason ?? `${number(tried.depth_factor, 2)}×, ${tried.verdict}`),
      what,
      why,
    ]),
  );
}
