// The status bar: the worst alert, its reason, and the one thing to do about it.

import { byId, changes, h, setAttribute, setText } from "../dom.js";
import { capital, count, percent } from "../format.js";
import { sign } from "./shell.js";

/** @typedef {import("../types.js").Alert} Alert */

const REMEDY =
  "To have one: check at fixed steps (every=N), give the checks a larger budget, or call monitor.measure() at the end.";

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
      if (!changed(run, run?.seen.alerts, run?.seen.actions, run?.seen.reading, run?.info?.status, run?.problem, app.runs, app.link.phase))
        return;
      const active = run?.active() ?? [];
      const shown = active[0] ? ofAlert(active[0], run?.isAcknowledged(active[0]) ?? false) : ofQuiet(app);
      setAttribute(byId("status"), "data-level", shown.level);
      setText(level, `${sign(shown.level)} ${shown.level === "none" ? "" : shown.level}`);
      setText(message, shown.message);
      setText(reason, shown.reason);
      setText(action, shown.action);
      action.hidden = !shown.action || Boolean(run?.proposals().some(({ alert }) => alert.rule === active[0]?.rule));
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

/** @param {import("../run.js").Run} run @returns {string} when its first check comes */
function due({ info }) {
  const { every, budget } = info?.config ?? {};
  const drawn = "Loss and learning rate are drawn already.";
  if (typeof every === "number") return `The first check comes at step ${count(every)}. ${drawn}`;
  const share = typeof budget === "number" ? `, ${percent(budget)} of the time` : "";
  return `A check waits until the training has earned its budget${share}. ${drawn}`;
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
  if (run?.problem && !run.info && app.link.phase === "lost") return quiet("Waiting for the server");
  if (run?.problem && !run.info) return quiet("This run can't be shown", run.problem, "critical");
  if (!run?.info) return quiet(app.runs?.length === 0 ? "No run yet" : "Loading the run");
  if (!run.reading) return run.hasEnded ? quiet("This run ended without a check", REMEDY) : quiet("No check yet", due(run));
  return quiet("No rule is raised", `Last reading at step ${count(run.reading.step)}.`, "ok");
}

/**
 * @param {import("../types.js").App} app
 * @returns {import("../types.js").Part} tells a screen reader each new alert, once: a newer text of it is not told
 */
export function announcer(app) {
  /** @type {import("../run.js").Run|null} */ let run = null;
  let told = 0;
  let level = "";
  return {
    draw() {
      const last = app.primary?.history.at(-1);
      const isNew = app.primary === run && ((last?.id ?? 0) > told || (last?.id === told && last.level !== level));
      if (last && isNew) setText(byId("announce"), inWords(last));
      run = app.primary?.info ? app.primary : null;
      told = last?.id ?? 0;
      level = last?.level ?? "";
    },
  };
}

/** @param {Alert} alert @returns {string} */
function inWords({ level, message, action }) {
  if (level === "ok") return capital(message);
  return `${level}: ${message}.${action ? ` Recommended: ${action}` : ""}`;
}
