// Every change of a rule's state, the newest first, and the button that says "seen".

import { Refused } from "../api.js";
import { byId, changes, h, setText } from "../dom.js";
import { capital, count } from "../format.js";
import { sign } from "./shell.js";

/** @typedef {import("../types.js").Alert} Alert */
/** @typedef {import("../types.js").App} App */
/** @typedef {import("../run.js").Run} Run */

/** @param {App} app @returns {import("../types.js").Part} */
export function alertLog(app) {
  const list = h("ol");
  const note = h("p", { class: "foot", role: "status" });
  byId("alerts").append(h("header", null, h("h2", { text: "Alerts" })), list, note);
  const changed = changes();
  return {
    draw() {
      const run = app.primary;
      if (!changed(run, run?.seen.alerts)) return;
      const log = [...(run?.history ?? [])].reverse();
      const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
      list.replaceChildren(...log.map((alert) => entry(app, /** @type {Run} */ (run), alert, note)));
      if (focused) list.querySelector(/** @type {"button"} */ (`button[data-key="${CSS.escape(focused)}"]`))?.focus();
      setText(note, log.length ? "" : "No rule has been raised in this run.");
    },
  };
}

/** @param {App} app @param {Run} run @param {Alert} alert @param {HTMLElement} note */
function entry(app, run, alert, note) {
  const cleared = alert.level === "ok";
  const where = h("button", {
    type: "button",
    class: "link",
    text: `step ${count(alert.step)}`,
    title: "Look at the steps around it",
    "data-key": `look ${alert.id}`,
  });
  where.addEventListener("click", () => lookAt(app, alert.step));
  return h(
    "li",
    { "data-level": alert.level, "data-standing": run.standing.get(alert.rule)?.id === alert.id },
    h("span", {
      class: "chip",
      "data-level": alert.level,
      text: `${sign(alert.level)} ${cleared ? "cleared" : alert.level}`,
    }),
    where,
    h(
      "span",
      { class: "message" },
      capital(alert.message),
      cleared || !alert.action ? null : h("b", { text: alert.action.toUpperCase() }),
    ),
    cleared ? null : acknowledgement(app, run, alert, note),
  );
}

/** @param {App} app @param {number} step */
export function lookAt(app, step) {
  const { min, max } = app.extent();
  const reach = Math.max(20, (max - min) * 0.05);
  app.look({ min: step - reach, max: step + reach });
}

/** @param {App} app @param {Run} run @param {Alert} alert @param {HTMLElement} note */
function acknowledgement(app, run, alert, note) {
  if (run.isAcknowledged(alert)) return h("span", { class: "seen", text: "acknowledged" });
  const button = h("button", {
    type: "button",
    class: "quiet",
    text: "Acknowledge",
    "data-key": `seen ${alert.id}`,
    "aria-label": `Acknowledge: ${alert.message}, step ${alert.step}`,
  });
  button.addEventListener("click", async () => {
    button.disabled = true;
    try {
      await run.acknowledge(alert);
      setText(note, "");
    } catch (error) {
      button.disabled = false;
      setText(note, refusal("Not acknowledged", error));
    }
    app.touched();
  });
  return button;
}

/** @param {string} undone @param {unknown} error @returns {string} what was not done, why, and what to do */
export function refusal(undone, error) {
  if (error instanceof Refused && error.status === 403)
    return `${undone}: this page lacks the token. Open the address that eigenscope printed when it started.`;
  return `${undone}: ${error instanceof Error ? error.message : error}`;
}
