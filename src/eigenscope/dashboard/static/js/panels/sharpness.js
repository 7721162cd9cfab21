// Sharpness: how far the step is from the edge of stability, 0 to 100.

import { Trend } from "../chart/trend.js";
import { changes, h, setAttribute, setText } from "../dom.js";
import { capital, number } from "../format.js";
import { asEstimate } from "../ui/figure.js";

const EDGE = 50;
const ABOUT = "It speaks of the stability of this step size. The evidence that flat minima generalize better is mixed.";

/** @type {import("../types.js").Panel} */
export const sharpness = {
  name: "sharpness",
  title: "Sharpness",
  place: 5,
  metrics: ["sharpness_score"],
  mount(shell, app) {
    const score = shell.figure("sharpness_score", "score", true);
    const ratio = shell.figure("stability_ratio", "curvature / threshold", true);
    const gauge = makeGauge();
    shell.body.append(gauge.root);
    const trend = new Trend(shell, app, {
      title: "Sharpness",
      scale: "score",
      lines: [{ metric: "sharpness_score", label: "score" }],
      marks: [{ value: () => EDGE, label: "past the edge of stability", level: "critical", wash: true }],
      alerts: (alert) => alert.panel === "sharpness",
    });
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.reading, run?.seen.alerts)) return;
        const reading = run?.reading;
        const r = asEstimate(reading?.stability_ratio);
        shell.stateFromAlerts(run, "sharpness");
        const why = reading && r.value === null ? "not defined" : "not measured";
        const optimizer = /** @type {string|undefined} */ (reading?.optimizer) ?? r.optimizer ?? null;
        score.estimate(
          { ...asEstimate(reading?.sharpness_score), reason: null },
          why,
          r.value === null ? {} : { unit: "/\u00a0100", note: apart(r.value) },
        );
        ratio.estimate({ ...r, reason: null }, why, {
          note: r.value === null ? null : formulaOf(optimizer, String(run?.info?.config.optimizer ?? "")),
        });
        shell.say(r.reason ? `${capital(r.reason)}.` : ABOUT);
        gauge.show(asEstimate(reading?.sharpness_score));
      },
    };
  },
};

/** @param {number} ratio @returns {string} */
function apart(ratio) {
  return ratio > 1 ? "past the edge" : `${number(1 / ratio, 3)}× below the edge`;
}

/**
 * The ratio's formula, for the optimizer at hand.
 * @param {string|null} optimizer its class
 * @param {string} settings as the run's configuration has them
 * @returns {string}
 */
export function formulaOf(optimizer, settings) {
  if (!optimizer || optimizer === "none") return "";
  const momentum = Number(/momentum=([\d.eE+-]+)/.exec(settings)?.[1] ?? 0) > 0;
  const nesterov = momentum && /nesterov(?:=True)?(?!=)/.test(settings);
  if (/adam/i.test(optimizer)) return `${optimizer}: λ₁(P⁻¹H)·η·(1−β₁) / (2+2β₁)`;
  if (/rmsprop/i.test(optimizer)) return `${optimizer}: λ₁(P⁻¹H)·η / (2+2β)`;
  if (nesterov) return `${optimizer}, Nesterov: λmax·η·(1+2β) / (2+2β)`;
  if (momentum) return `${optimizer}, heavy ball: λmax·η / (2+2β)`;
  return `${optimizer}: λmax·η / 2`;
}

/** A bar from 0 to 100: the needle, its error, and the edge in the middle. */
function makeGauge() {
  const needle = h("i", { class: "needle" });
  const whisker = h("i", { class: "whisker" });
  const track = h("div", { class: "track" }, h("i", { class: "past" }), h("i", { class: "edge" }), whisker, needle);
  const marks = h(
    "div",
    { class: "gauge-labels", "aria-hidden": "true" },
    h("span", { text: "0 flat" }),
    h("span", { text: "50 edge of stability" }),
    h("span", { text: "100" }),
  );
  const root = h(
    "div",
    { class: "gauge", role: "meter", "aria-label": "Sharpness score", "aria-valuemin": 0, "aria-valuemax": 100 },
    track,
    marks,
  );
  /** @param {import("../types.js").Estimate} estimate */
  const show = ({ value, error }) => {
    needle.hidden = whisker.hidden = value === null;
    setAttribute(root, "aria-valuenow", value === null ? null : value.toFixed(1));
    setAttribute(
      root,
      "aria-valuetext",
      value === null
        ? "not measured"
        : `${number(value, 3)} of 100, ${value > EDGE ? "past" : "below"} the edge of stability`,
    );
    if (value === null) return;
    const spread = Math.min(error ?? 0, 100);
    needle.style.left = `${value}%`;
    whisker.style.left = `${Math.max(0, value - spread)}%`;
    whisker.style.width = `${Math.min(100, value + spread) - Math.max(0, value - spread)}%`;
  };
  setText(needle, "");
  return { root, show };
}
