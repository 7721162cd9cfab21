// Loss, gradient norm and step size over one axis of steps; every alert is marked on it.

import { actionNear, inWords, wasUndone } from "../actions.js";
import { Trend } from "../chart/trend.js";
import { changes, h, setText } from "../dom.js";
import { count } from "../format.js";
import { sign } from "../ui/shell.js";

/** @type {{metric: string, label: string}[]} */
const LINES = [
  { metric: "loss", label: "loss" },
  { metric: "gradient_norm", label: "gradient norm" },
  { metric: "learning_rate", label: "learning rate" },
];

/** @type {import("../types.js").Panel} */
export const timeline = {
  name: "timeline",
  title: "Loss, gradient norm, learning rate",
  place: 9,
  wide: true,
  metrics: LINES.map((line) => line.metric),
  mount(shell, app) {
    const range = h("span", { class: "span" });
    shell.aside.append(range, ...controls(app));
    const trends = LINES.map(
      (line, i) =>
        new Trend(shell, app, {
          title: line.label,
          scale: "log",
          lines: [line],
          alone: true,
          alerts: () => true,
          stepLabels: i === LINES.length - 1,
          onCursor: (step, reach) => sayNearest(step, reach),
        }),
    );
    const sayNearest = (/** @type {number|null} */ step, /** @type {number} */ reach) => {
      const marked = app.primary?.history ?? [];
      const near = step === null ? undefined : marked.findLast((alert) => Math.abs(alert.step - step) <= reach);
      const done = step === null ? null : actionNear(app.primary?.actions ?? [], step, reach);
      if (done) shell.say(`${wasUndone(done) ? "▽" : "▼"} step ${count(done.applied_at)}: ${inWords(done)}`);
      else shell.say(near ? `${sign(near.level)} step ${count(near.step)}: ${near.message}` : hint);
    };
    const hint = "Drag to zoom, Shift and drag to pan, double-click for the whole run. Coloured lines are alerts, ▼ actions.";
    shell.say(hint);
    shell.state("none", "");
    const changed = changes();
    return {
      draw() {
        for (const trend of trends) trend.draw();
        const [view, whole] = [app.view(), app.extent()];
        const [min, max] = [Math.max(view.min, whole.min), Math.min(view.max, whole.max)];
        if (changed(min, max)) setText(range, `steps ${count(Math.ceil(min))} – ${count(Math.floor(max))}`);
        for (const button of shell.aside.querySelectorAll("button"))
          button.disabled = app.window === null && button.dataset.needs === "window";
      },
    };
  },
};

/**
 * @param {import("../types.js").App} app
 * @returns {HTMLElement[]} the window of steps by button: for touch and keyboard
 */
function controls(app) {
  /** @type {[string, string, boolean, () => void][]} */
  const buttons = [
    ["‹", "Earlier steps", true, () => app.pan(-0.5)],
    ["›", "Later steps", true, () => app.pan(0.5)],
    ["−", "Zoom out", true, () => app.zoom(2)],
    ["+", "Zoom in", false, () => app.zoom(0.5)],
    ["Whole run", "Show the whole run", true, () => app.look(null)],
  ];
  return buttons.map(([text, label, needs, act]) =>
    h("button", {
      type: "button",
      class: "quiet",
      text,
      "aria-label": label,
      title: label,
      "data-needs": needs ? "window" : null,
      on: { click: act },
    }),
  );
}
