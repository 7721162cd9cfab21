// Condition number: κ where it exists; where it does not, why, and the measure that stays meaningful.

import { Trend } from "../chart/trend.js";
import { changes } from "../dom.js";
import { asEstimate, fromStep } from "../ui/figure.js";

const DEFINITE = "gradient descent needs about κ steps for the progress of one Newton step";

/** @type {import("../types.js").Panel} */
export const condition = {
  name: "condition",
  title: "Condition number",
  place: 1,
  metrics: ["condition_number", "condition_mean"],
  mount(shell, app) {
    const kappa = shell.figure("condition_number", "κ", true);
    const mean = shell.figure("condition_mean", "λmax / mean |λ|", true);
    const halve = shell.figure("iterations_to_halve", "steps to halve", true);
    const trend = new Trend(shell, app, {
      title: "Condition number",
      scale: "log",
      lines: [
        { metric: "condition_number", label: "κ", breaks: "condition_mean" },
        { metric: "condition_mean", label: "λmax / mean |λ|", side: true },
      ],
      alerts: (alert) => alert.panel === "condition",
    });
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.reading, run?.seen.alerts)) return;
        const reading = run?.reading;
        const status = String(reading?.condition_status ?? "");
        shell.stateFromAlerts(run, "condition");
        const { value, error } = asEstimate(reading?.condition_number);
        kappa.estimate({ value, error: error ?? null }, status || "not measured");
        mean.estimate(/** @type {any} */ (reading?.condition_mean), "not measured", { note: fromStep(reading) });
        const { value: steps, error: spread } = asEstimate(reading?.iterations_to_halve);
        halve.estimate({ value: steps, error: spread ?? null }, status === "" ? "not measured" : "none: κ is null");
        const reason = asEstimate(reading?.condition_number).reason ?? (status === "definite" ? DEFINITE : "");
        shell.explain("condition_status", status, reason.replace(`${status}: `, ""));
      },
    };
  },
};
