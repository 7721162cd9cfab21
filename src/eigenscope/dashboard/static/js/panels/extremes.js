// The ends of the spectrum.

import { Trend } from "../chart/trend.js";
import { changes } from "../dom.js";
import { fromStep } from "../ui/figure.js";
import { sampling } from "./saddle.js";

/** @type {import("../types.js").Panel} */
export const extremes = {
  name: "extremes",
  title: "Extreme eigenvalues",
  place: 7,
  metrics: ["lambda_max", "lambda_min"],
  mount(shell, app) {
    const high = shell.figure("lambda_max", "λmax", true);
    const low = shell.figure("lambda_min", "λmin", true);
    const share = shell.figure("negative_share", "|λmin| / λmax");
    const trace = shell.figure("trace", "trace");
    const floor = shell.figure("noise_floor", "noise floor τ");
    const trend = new Trend(shell, app, {
      title: "Extreme eigenvalues",
      scale: "asinh",
      threshold: () => 10 ** Math.floor(Math.log10(Number(app.primary?.reading?.noise_floor) || 1e-2)),
      lines: [
        { metric: "lambda_max", label: "λmax" },
        { metric: "lambda_min", label: "λmin", side: true },
      ],
      marks: [{ value: () => 0, label: "" }],
    });
    const changed = changes();
    return {
      draw() {
        trend.draw();
        const run = app.primary;
        if (!changed(run, run?.seen.reading)) return;
        const reading = /** @type {any} */ (run?.reading);
        high.estimate(reading?.lambda_max, "not measured", { note: sampling(reading?.lambda_max) });
        low.estimate(reading?.lambda_min, "not measured", { note: sampling(reading?.lambda_min) });
        share.estimate(reading?.negative_share);
        trace.estimate(reading?.trace, "not measured", { note: fromStep(reading) });
        floor.estimate(reading?.noise_floor);
      },
    };
  },
};
