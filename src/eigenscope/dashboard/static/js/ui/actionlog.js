// Everything that was done to the run, the newest first: why, what was changed, before and after, whether it helped.

import { changed as changedBy, compared, stateOf } from "../actions.js";
import { byId, changes, h } from "../dom.js";
import { capital, count } from "../format.js";
import { lookAt } from "./alertlog.js";
import { term } from "./definitions.js";
import { sign } from "./shell.js";

/** @typedef {import("../types.js").Action} Action */
/** @typedef {import("../types.js").App} App */

/** @param {App} app @returns {import("../types.js").Part} hidden in a run without actions */
export function actionLog(app) {
  const list = h("ol");
  byId("actions").append(h("header", null, h("h2", { text: "Actions" })), list);
  const changed = changes();
  return {
    draw() {
      const run = app.primary;
      if (!changed(run, run?.seen.actions, run?.hasEnded, app.session)) return;
      const known = [...(run?.actions ?? [])].reverse();
      const focused = document.activeElement instanceof HTMLElement ? document.activeElement.dataset.key : undefined;
      byId("actions").hidden = known.length === 0;
      list.replaceChildren(...known.map((action) => entry(app, action)));
      if (focused) list.querySelector(/** @type {"button"} */ (`button[data-key="${CSS.escape(focused)}"]`))?.focus();
    },
  };
}

/** @param {App} app @param {Action} action */
function entry(app, action) {
  const [level, word] = stateOf(action);
  const at = action.applied_at ?? action.log[0]?.step ?? action.step;
  const where = h("button", {
    type: "button",
    class: "link",
    text: `step ${count(at)}`,
    title: "Look at the steps around it",
    "data-key": `action ${action.key}`,
  });
  where.addEventListener("click", () => lookAt(app, at));
  return h(
    "li",
    { "data-level": level, "data-state": action.state },
    h("span", { class: "chip", text: `${sign(level)} ${word}` }),
    where,
    h(
      "div",
      { class: "what" },
      h("p", null, h("b", { text: action.words.toUpperCase() }), changedBy(action.changed)),
      h("p", { class: "why", text: `Because ${action.alert.message}, step ${count(action.alert.step)}.` }),
      outcome(action),
      action.note ? h("p", { class: "end", text: `${capital(action.note)}.` }) : null,
    ),
  );
}

/** @param {Action} action @returns {HTMLElement|null} */
function outcome(action) {
  const rows = compared(action);
  if (!rows.length) return null;
  const pairs = rows.map(({ name, before, after }) =>
    h("div", null, h("dt", null, term(name)), h("dd", null, before, h("i", { text: " → " }), h("b", { text: after }))),
  );
  return h("dl", { class: "sides", "aria-label": "Before and after" }, ...pairs);
}
