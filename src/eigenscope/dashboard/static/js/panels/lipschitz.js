// End-to-end Lipschitz constant: between what is proven and what is certified, and what that promises each answer.

import { table } from "../chart/table.js";
import { Trend } from "../chart/trend.js";
import { changes, h } from "../dom.js";
import { count, number } from "../format.js";
import { asEstimate } from "../ui/figure.js";
import { Remarks, sentence } from "../ui/remarks.js";
import { unread } from "../ui/shell.js";

/** @typedef {import("../types.js").Measurement} Measurement */
/** @typedef {import("../ui/figure.js").Figure} Figure */

const METHODS = { eclipse_fast: "ECLipsE-Fast", composition: "composition" };

/** @type {import("../types.js").Panel} */
export const lipschitz = {
  name: "lipschitz",
  title: "End-to-end Lipschitz",
  place: 6,
  metrics: ["lipschitz_lower", "lipschitz_upper", "lipschitz_product"],
  applies: (run) => run.latest("lipschitz") !== null || run.tracks.has("lipschitz_lower"),
  mount(shell, app) {
    const figures = figuresOf(shell);
    const trend = new Trend(shell, app, {
      title: "Lipschitz bounds",
      scale: "log",
      between: [0, 1],
      lines: [
        { metric: "lipschitz_upper", label: "certified", breaks: "lipschitz_lower" },
        { metric: "lipschitz_lower", label: "proven", side: true },
        { metric: "lipschitz_product", label: "product, loose", isLog10: true, side: true, loose: true },
      ],
      alerts: (alert) => alert.panel === "lipschitz",
    });
    const tables = h("div", { class: "table", tabindex: "0", hidden: true, role: "region", "aria-label": "Lipschitz: layers and samples" });
    shell.body.append(tables);
    shell.onTables.push((shown) => (tables.hidden = !shown));
    const remarks = new Remarks();
    shell.foot.after(remarks.root);
    shell.say("");
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.measurements, run?.seen.alerts, run?.hasEnded)) return;
        const found = run?.latest("lipschitz") ?? null;
        const worst = shell.recommend(run, "lipschitz");
        shell.state(worst?.level ?? "none", worst?.level ?? (found ? stateOf(found) : unread(run)));
        for (const show of figures) show(found);
        remarks.show([
          ["no_global_bound", "No global bound", sentence(unbounded(found))],
          ["risk", "Risk", sentence(String(found?.risk ?? "").replace(` (${unbounded(found)})`, ""))],
        ]);
        tables.replaceChildren(...(found ? [layerTable(found), sampleTable(found)] : []));
      },
    };
  },
};

/** @param {Measurement} found @returns {string} in a word, that has no colour: no rule is about it */
function stateOf(found) {
  return asEstimate(found.lipschitz_upper).value === null ? "not certified" : "certified";
}

/** @param {Measurement|null} found @returns {string} why nothing is certified; "" where something is */
function unbounded(found) {
  if (!found || asEstimate(found.lipschitz_upper).value !== null) return "";
  return String(found.no_global_bound ?? asEstimate(found.lipschitz_upper).reason ?? "");
}

/** @param {import("../types.js").Shell} shell @returns {((found: Measurement|null) => void)[]} each shows one figure */
function figuresOf(shell) {
  const lower = shell.figure("lipschitz_lower", "proven", true);
  const upper = shell.figure("lipschitz_upper", "certified", true);
  const ratio = shell.figure("lipschitz_ratio", "certified / proven", true);
  const product = shell.figure("lipschitz_product", "product");
  const certified = shell.figure("certified_radius", "certified radius");
  const attacked = shell.figure("attacked_radius", "attacked radius");
  return [
    (found) => showBound(lower, found?.lipschitz_lower, "at least this"),
    (found) => showBound(upper, found?.lipschitz_upper, `at most, ${methodOf(found)}`),
    (found) => ratio.estimate(found?.ratio, found ? "not known" : "not measured"),
    (found) => showBound(product, logged(found?.lipschitz_product), "loose"),
    (found) => showRadius(certified, found, found?.certified_radius, "nothing is certified"),
    (found) => showRadius(attacked, found, found?.attacked_radius, "half or more withstood it"),
  ];
}

/** @param {Measurement|null} found @returns {string} */
function methodOf(found) {
  const method = String(found?.method ?? "");
  return METHODS[/** @type {keyof typeof METHODS} */ (method)] ?? method;
}

/** @param {any} product @returns {any} one beyond all numbers, by its logarithm */
function logged(product) {
  const isBeyond = product && !Number.isFinite(product.value ?? Infinity) && typeof product.log10 === "number";
  return isBeyond ? { ...product, value: 10 ** Math.min(product.log10, 300) } : product;
}

/** @param {Figure} figure @param {unknown} bound @param {string} note */
function showBound(figure, bound, note) {
  const { value, reason } = asEstimate(bound);
  if (value !== null) figure.show({ text: number(value, 3), note });
  else figure.show({ text: bound ? "none" : "not measured", missing: true, note: reason ? "see below" : "" });
}

/** @param {Figure} figure @param {Measurement|null} found @param {unknown} radius @param {string} reason of a null */
function showRadius(figure, found, radius, reason) {
  if (typeof radius === "number") return figure.show({ text: number(radius, 3), note: "median" });
  const samples = /** @type {any[]} */ (found?.samples ?? []);
  const why = samples.length === 0 ? "no margins" : reason;
  figure.show({ text: found ? "—" : "not measured", missing: true, note: found ? why : "" });
}

/** @param {Measurement} found */
function layerTable(found) {
  const layers = /** @type {any[]} */ (found.layers ?? []);
  return table(
    `Layers at step ${count(found.step)}`,
    ["layer", "is", "norm", "by", "input"],
    layers.map(({ name, kind, norm, method, exact, reason, input_shape }) => [
      name,
      kind ?? "",
      typeof norm === "number" ? `${exact === false ? "≤ " : ""}${number(norm)}` : (reason ?? "—"),
      method ?? "",
      (input_shape ?? []).join(" × ") || "—",
    ]),
  );
}

/** @param {Measurement} found */
function sampleTable(found) {
  const samples = /** @type {any[]} */ (found.samples ?? []);
  return table(
    `Samples of the probe at step ${count(found.step)}`,
    ["sample", "label", "predicted", "margin", "certified radius", "attacked radius"],
    samples.map((sample) => [
      count(sample.index),
      sample.label === null ? "—" : count(sample.label),
      count(sample.predicted),
      number(sample.margin, 3),
      number(sample.certified_radius, 3),
      number(sample.attacked_radius, 3),
    ]),
  );
}
