// The bill and the circumstances.

import { Trend } from "../chart/trend.js";
import { changes, h } from "../dom.js";
import { capital, count, number } from "../format.js";
import { isDefined, term } from "../ui/definitions.js";

/** @typedef {import("../run.js").Run} Run */
/** @typedef {[name: string|null, label: string, value: string, long?: boolean]} Fact: a `long` one has a row of its own */

const SHORT = 26; // characters of a fact that shares its row
const LONGEST = 120; // characters of a fact

/** @type {import("../types.js").Panel} */
export const measurement = {
  name: "measurement",
  title: "Measurement and run",
  place: 8,
  metrics: ["measuring_share"],
  mount(shell, app) {
    const list = h("dl", { class: "facts" });
    shell.body.append(list);
    const trend = new Trend(shell, app, {
      title: "Measuring share",
      scale: "share",
      alone: true,
      lines: [{ metric: "measuring_share", label: "share of the time", isShare: true }],
      marks: [{ value: () => budgetOf(app.primary), label: "budget" }],
    });
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.reading, run?.info)) return;
        const facts = run?.info ? [...ofReading(run), ...ofRun(run)] : [];
        list.replaceChildren(
          ...facts.map(([name, label, value, long]) =>
            h(
              "div",
              { class: long ? "long" : null },
              h("dt", null, name && isDefined(name) ? term(name, label) : label),
              h("dd", { text: shortened(value), title: value, "data-figure": name }),
            ),
          ),
        );
        const dropped = run?.info?.dropped ?? 0;
        shell.state(dropped ? "warning" : "none", dropped ? `${count(dropped)} records dropped` : "");
        shell.say(notes(run));
      },
    };
  },
};

/** @param {string} text @returns {string} what fits: the run's configuration is free, the run file has all of it */
function shortened(text) {
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** @param {Run|null} run @returns {number|null} the share that it may take; null where checks come at fixed steps */
function budgetOf(run) {
  const config = run?.info?.config;
  return config && !config.every ? asNumber(config.budget) : null;
}

/** @param {unknown} value @returns {number|null} */
function asNumber(value) {
  return typeof value === "number" ? value : null;
}

/** @param {Run|null} run @returns {string} */
function notes(run) {
  const found = run?.reading?.notes;
  return Array.isArray(found) ? found.map((note) => `${capital(String(note))}.`).join(" ") : "";
}

/** @param {Run} run @returns {Fact[]} */
function ofReading({ reading }) {
  if (!reading) return [];
  return [
    ["num_matvecs", "products", `${count(asNumber(reading.num_matvecs))}, ${reading.kind ?? "?"} start`],
    ["cost_in_gradients", "cost", `${number(asNumber(reading.cost_in_gradients), 3)} gradients`],
    ["probe_samples", "probe", `${count(asNumber(reading.probe_samples))} samples`],
    ["matrix", "matrix", String(reading.matrix ?? "—").replaceAll("_", " ")],
    ["resolution", "resolution", number(asNumber(reading.resolution), 2)],
    ["spectrum_step", "spectrum from", `step ${count(asNumber(reading.spectrum_step))}`],
    ["method", "product by", String(reading.method ?? "—").replaceAll("_", " "), true],
    ["self_check", "self-check", checks(reading.self_check), true],
  ];
}

/** @param {unknown} found @returns {string} */
function checks(found) {
  if (found === null || typeof found !== "object") return "not repeated in this check";
  return (
    Object.entries(found)
      .filter(([, value]) => value !== null)
      .map(([name, value]) => `${name.replaceAll("_", " ")} ${typeof value === "number" ? number(value, 2) : value}`)
      .join(", ") || "—"
  );
}

/** @param {Run} run @returns {Fact[]} */
function ofRun({ info }) {
  if (!info) return [];
  const { budget: _, probe_samples: __, ...config } = info.config;
  return [...Object.entries(config), ...Object.entries(info.environment)]
    .filter(([, value]) => value !== null)
    .map(([name, value]) => {
      const text = typeof value === "object" ? JSON.stringify(value) : String(value);
      return [null, name.replaceAll("_", " "), text, name.length + text.length > SHORT];
    });
}
