// The list of runs: which there are, how they stand, which is shown, and which is laid over it.

import { byId, changes, h, setAttribute, setText } from "../dom.js";
import { count } from "../format.js";
import { sign } from "./shell.js";

const MANY = 12; // runs from which on the list gets a search field
const ROOMY = 1900; // px from which on the list is open unless the reader closed it
const KEY = "eigenscope-runs";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").RunItem} RunItem */

/** @param {App} app @returns {import("../types.js").Part} */
export function runList(app) {
  const rail = byId("runs");
  const button = byId("runs-button");
  const search = h("input", { type: "search", placeholder: "Find a run", "aria-label": "Find a run", hidden: true });
  const list = h("ul");
  rail.append(h("h2", { text: "Runs" }), search, list);
  let wanted = "";
  const choice = localStorage.getItem(KEY);
  let isOpen = choice === "open" && innerWidth > 900;
  const changed = changes();
  const show = () => {
    rail.hidden = !isOpen;
    setAttribute(button, "aria-expanded", String(isOpen));
  };
  search.addEventListener("input", () => {
    wanted = search.value.toLowerCase();
    app.touched();
  });
  button.addEventListener("click", () => {
    isOpen = !isOpen;
    localStorage.setItem(KEY, isOpen ? "open" : "closed");
    show();
  });
  show();
  let isDecided = choice !== null || innerWidth < ROOMY;
  return {
    draw() {
      const runs = app.runs ?? [];
      if (!isDecided && runs.length > 0) {
        isDecided = true;
        isOpen = runs.length > 1;
        show();
      }
      if (!changed(app.runs, app.primary, app.overlay, app.primary?.info?.status, app.primary?.seen.alerts, wanted))
        return;
      setText(button, `Runs ${count(runs.length)}`);
      search.hidden = runs.length < MANY;
      const found = runs.filter((run) => run.name.toLowerCase().includes(wanted));
      keepFocus(list, () => list.replaceChildren(...found.map((run) => item(app, run))));
    },
  };
}

/** @param {HTMLElement} list @param {() => void} rebuild Drawing the list anew must not lose the reader's place. */
function keepFocus(list, rebuild) {
  const key = list.contains(document.activeElement) ? document.activeElement?.getAttribute("data-key") : null;
  rebuild();
  if (key) for (const node of list.querySelectorAll("button")) if (node.dataset.key === key) node.focus();
}

/** @param {App} app @param {RunItem} run */
function item(app, run) {
  const isShown = app.primary?.id === run.id;
  const isOver = app.overlay?.id === run.id;
  const status = isShown ? (app.primary?.info?.status ?? run.status) : run.status;
  const alert = isShown ? (app.primary?.active()[0] ?? null) : run.alert;
  const choose = h(
    "button",
    { type: "button", class: "run", "data-key": `show ${run.id}`, "aria-current": isShown ? "true" : null },
    h("span", { class: "name", text: run.name }),
    h(
      "span",
      { class: "sub" },
      h("span", { text: status, "data-state": status }),
      h("span", { text: run.last_step === null ? "no steps" : `step ${count(run.last_step)}` }),
      alert
        ? h("span", { class: "chip", "data-level": alert.level, text: `${sign(alert.level)} ${alert.level}` })
        : null,
    ),
    run.config?.model ? h("span", { class: "sub", text: String(run.config.model) }) : null,
  );
  choose.addEventListener("click", () => app.choose(run.id, isOver ? null : (app.overlay?.id ?? null)));
  const overlay = h("button", {
    type: "button",
    class: "quiet",
    "data-key": `over ${run.id}`,
    "aria-pressed": String(isOver),
    text: "Overlay",
    "aria-label": `Lay ${run.name} over the shown run`,
    hidden: isShown,
  });
  overlay.addEventListener("click", () => app.lay(isOver ? null : run.id));
  return h("li", { "data-shown": isShown, "data-over": isOver }, choose, overlay);
}
