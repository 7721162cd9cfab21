// Saddle detector: is "converged" true, or is the gradient zero on a ridge?

import { Trend } from "../chart/trend.js";
import { changes } from "../dom.js";
import { count, number } from "../format.js";
import { asEstimate, fromStep } from "../ui/figure.js";
import { unread } from "../ui/shell.js";

/** @type {Record<string, [level: string, text: string]>} */
const VERDICTS = {
  minimum: ["ok", "at a minimum"],
  saddle: ["critical", "at a saddle"],
  plateau: ["warning", "on a plateau"],
  not_converged: ["none", "not converged"],
  unresolved: ["warning", "unresolved"],
};

/** @type {import("../types.js").Panel} */
export const saddle = {
  name: "saddle",
  title: "Saddle detector",
  place: 3,
  metrics: ["negative_count_certified", "negative_count_estimate"],
  mount(shell, app) {
    const certified = shell.figure("negative_count_certified", "negative, certified", true);
    const estimate = shell.figure("negative_count_estimate", "negative, estimated", true);
    const lambda = shell.figure("lambda_min", "λmin");
    const gradient = shell.figure("gradient_norm", "gradient norm");
    const escape = shell.figure("escape", "escape, Δ loss");
    const trend = new Trend(shell, app, {
      title: "Negative eigenvalues",
      scale: "count",
      lines: [
        { metric: "negative_count_certified", label: "certified", stepped: true },
        { metric: "negative_count_estimate", label: "estimated", side: true },
      ],
      alerts: (alert) => alert.panel === "saddle",
    });
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.reading, run?.seen.alerts)) return;
        const reading = run?.reading;
        const [level, text] = VERDICTS[String(reading?.verdict)] ?? ["none", unread(run)];
        const worst = shell.recommend(run, "saddle");
        shell.state(worst?.level ?? level, text);
        const proven = /** @type {number|null|undefined} */ (reading?.negative_count_certified);
        certified.show(
          proven === null || proven === undefined ? missing : { text: count(proven), note: "proven lower bound" },
        );
        const guess = asEstimate(reading?.negative_count_estimate);
        estimate.estimate(
          guess,
          "not measured",
          guess.value === null
            ? {}
            : { note: [fromStep(reading), guess.resolved === false ? "not resolved" : ""].filter(Boolean).join(", ") },
        );
        lambda.estimate(/** @type {any} */ (reading?.lambda_min), "not measured", {
          note: sampling(reading?.lambda_min),
        });
        gradient.estimate(/** @type {any} */ (reading?.gradient_norm));
        showEscape(escape, reading);
        shell.explain("verdict", String(reading?.verdict ?? ""), String(reading?.verdict_reason ?? ""));
      },
    };
  },
};

const missing = { text: "not measured", missing: true };

/** @param {unknown} estimate @returns {string} how much the probe's size adds to the error */
export function sampling(estimate) {
  const { sampling_error } = asEstimate(estimate);
  return sampling_error === null || sampling_error === undefined ? "" : `± ${number(sampling_error, 2)} by the probe`;
}

/** @param {import("../ui/figure.js").Figure} figure @param {import("../types.js").Reading|null|undefined} reading */
function showEscape(figure, reading) {
  const found = /** @type {import("../types.js").Escape|null|undefined} */ (reading?.escape);
  if (!reading) return figure.show(missing);
  if (!found) return figure.show({ text: "none certified", missing: true });
  figure.show({ text: change(found.measured), note: `predicted ${change(found.predicted)}` });
}

/** @param {number} decrease of the loss @returns {string} as a change: −0.018 is a fall */
function change(decrease) {
  return decrease > 0 ? number(-decrease, 3) : `+${number(-decrease, 3)}`;
}
