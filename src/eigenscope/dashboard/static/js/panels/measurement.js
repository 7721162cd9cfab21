// The bill and the circumstances. It keeps the sixth place until the Lipschitz panel comes, then moves behind it.

import { Trend } from "../chart/trend.js";
import { changes, h } from "../dom.js";
import { capital, count, number } from "../format.js";
import { isDefined, term } from "../ui/definitions.js";

/** @typedef {import("../run.js").Run} Run */
/** @typedef {[name: string|null, label: string, value: string, long?: boolean]} Fact: a `long` one has a row of its own */

/** @type {import("../types.js").Panel} */
export const measurement = {
  name: "measurement",
  title: "Measurement and run",
  place: 6,
  metrics: ["measuring_share"],
  mount(shell, app) {
    const list = h("dl", {
      class: "facts",
      tabindex: "0",
      role: "group",
      "aria-label": "Facts of the measurement and the run",
    });
    shell.body.append(list);
    const trend = new Trend(shell, app, {
      title: "Measuring share",
      scale: "log",
      alone: true,
      lines: [{ metric: "measuring_share", label: "share of the time" }],
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
              h("dd", { text: value, ...(name && { "data-figure": name }) }),
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
    ["spectrum_step", "spectrum of step", count(asNumber(reading.spectrum_step))],
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
  const { budget, probe_samples: _, ...config } = info.config;
  const environment = Object.entries(info.environment)
    .map(([k, v]) => `${k} ${v}`)
    .join(", ");
  /** @type {Fact[]} */
  const facts = Object.entries(config)
    .filter(([, value]) => value !== null)
    .map(([name, value]) => [
      name.replaceAll("_", " "),
      typeof value === "object" ? JSON.stringify(value) : String(value),
    ])
    .map(([name = "", value = ""]) => [null, name, value, value.length > 18]);
  return environment ? [...facts, [null, "environment", environment, true]] : facts;
}
