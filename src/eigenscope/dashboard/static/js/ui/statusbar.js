// The status bar: the worst alert, its reason, and the one thing to do about it.

import { byId, changes, h, setAttribute, setText } from "../dom.js";
import { capital, count } from "../format.js";
import { sign } from "./shell.js";

/** @typedef {import("../types.js").Alert} Alert */

/**
 * @param {import("../types.js").App} app
 * @returns {import("../types.js").Part} drawn in hidden tabs too: the tab's title tells
 */
export function statusBar(app) {
  const level = h("strong", { class: "level" });
  const message = h("span", { class: "message" });
  const reason = h("span", { class: "reason" });
  const action = h("span", { class: "action", hidden: true });
  const more = h("a", { class: "more", href: "#alerts", hidden: true });
  more.addEventListener("click", (event) => (event.preventDefault(), byId("alerts").focus()));
  byId("status").append(level, h("p", null, message, reason, more), action);
  const changed = changes();
  return {
    draw() {
      const run = app.primary;
      if (!changed(run, run?.seen.alerts, run?.seen.reading, run?.info?.status, run?.problem, app.runs)) return;
      const active = run?.active() ?? [];
      const shown = active[0] ? ofAlert(active[0], run?.isAcknowledged(active[0]) ?? false) : ofQuiet(app);
      setAttribute(byId("status"), "data-level", shown.level);
      setText(level, `${sign(shown.level)} ${shown.level === "none" ? "" : shown.level}`);
      setText(message, shown.message);
      setText(reason, shown.reason);
      setText(action, shown.action);
      action.hidden = !shown.action;
      more.hidden = active.length < 2;
      setText(more, `and ${count(active.length - 1)} more ${active.length === 2 ? "alert" : "alerts"}`);
      document.title = `${active[0] ? `${sign(active[0].level)} ` : ""}${run ? `${run.name} · ` : ""}eigenscope`;
    },
  };
}

/** @param {Alert} alert @param {boolean} acknowledged */
function ofAlert(alert, acknowledged) {
  const seen = acknowledged ? "  Acknowledged." : "";
  const since = `Since step ${count(alert.step)}: `;
  return {
    level: alert.level,
    message: capital(alert.message),
    reason: `${since}${alert.reason ?? ""}${seen}`,
    action: (alert.action ?? "").toUpperCase(),
  };
}

/** @param {import("../types.js").App} app What stands there when no rule is raised. */
function ofQuiet(app) {
  const run = app.primary;
  const quiet = (/** @type {string} */ message, /** @type {string} */ reason = "", level = "none") => ({
    level,
    message,
    reason,
    action: "",
  });
  if (run?.problem) return quiet("This run can't be shown", run.problem, "critical");
  if (!run?.info) return quiet(app.runs?.length === 0 ? "No run yet" : "Loading the run");
  if (!run.reading && run.info.status !== "live")
    return quiet("No reading in this run", "It ended before its first check was done.");
  if (!run.reading)
    return quiet("No reading yet", "The first check is still to come; loss and learning rate are drawn already.");
  return quiet("No rule is raised", `Last reading at step ${count(run.reading.step)}.`, "ok");
}

/**
 * @param {import("../types.js").App} app
 * @returns {import("../types.js").Part} tells a screen reader each new alert, once
 */
export function announcer(app) {
  /** @type {import("../run.js").Run|null} */ let run = null;
  let told = 0;
  return {
    draw() {
      const last = app.primary?.history.at(-1);
      const isNew = app.primary === run && (last?.id ?? 0) > told;
      if (last && isNew) setText(byId("announce"), inWords(last));
      run = app.primary?.info ? app.primary : null;
      told = last?.id ?? 0;
    },
  };
}

/** @param {Alert} alert @returns {string} */
function inWords({ level, message, action }) {
  return level === "ok" ? capital(message) : `${level}: ${message}. Recommended: ${action || "nothing"}`;
}
