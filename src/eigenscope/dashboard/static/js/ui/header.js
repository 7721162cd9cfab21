// The line at the top: which run, how far it is, what it costs to look at it, and whether the page is live.

import { byId, changes, h, setAttribute, setText } from "../dom.js";
import { count, percent } from "../format.js";
import { swatch } from "../chart/readout.js";
import { term } from "./definitions.js";

const STATES = {
  live: ["●", "live"],
  finished: ["■", "finished"],
  interrupted: ["■", "interrupted"],
  failed: ["✕", "failed"],
  stopped: ["✕", "stopped"],
  lost: ["○", "reconnecting"],
  none: ["○", "no run"],
};

/** @param {import("../types.js").App} app @returns {import("../types.js").Part} */
export function header(app) {
  const name = h("strong", { class: "run-name" });
  const step = h("span", { "data-figure": "last_step" });
  const probe = h("span", { "data-figure": "probe_samples" });
  const share = h("span", { "data-figure": "measuring_share" });
  const other = h("span", { class: "other", hidden: true });
  const facts = [
    h("span", null, "step ", step),
    h("span", null, term("probe_samples", "probe"), " ", probe),
    h("span", null, term("measuring_share", "measuring"), " ", share),
  ];
  byId("run-facts").append(h("span", { class: "run-title" }, name, other), ...facts);
  const changed = changes();
  return {
    draw() {
      const { primary: run, overlay, link } = app;
      const info = run?.info;
      const state = link.phase === "lost" ? "lost" : (info?.status ?? "none");
      setState(state);
      if (!changed(run, run?.refused, info, info?.last_step, info?.measuring_share, run?.seen.reading, overlay, overlay?.info))
        return;
      setText(name, run?.refused ? "" : (run?.name ?? ""));
      for (const fact of facts) fact.hidden = !info;
      setText(step, count(lastStep(run)));
      const samples = run?.reading?.probe_samples ?? info?.config.probe_samples;
      setText(probe, typeof samples === "number" ? `${count(samples)} samples` : "—");
      setText(share, info?.measuring_share === null ? "—" : `${percent(info?.measuring_share)} of the time`);
      showOther(app, other);
    },
  };
}

/** @param {import("../run.js").Run|null} run @returns {number|null} as far as the page itself has seen */
function lastStep(run) {
  const seen = run?.extent()?.max ?? null;
  return seen === null ? (run?.info?.last_step ?? null) : Math.max(seen, run?.info?.last_step ?? 0);
}

/** @param {string} state */
function setState(state) {
  const [shape, text] = STATES[/** @type {keyof typeof STATES} */ (state)] ?? STATES.none;
  setText(byId("connection"), `${shape} ${text}`);
  setAttribute(byId("connection"), "data-state", state);
}

/**
 * @param {import("../types.js").App} app
 * @param {HTMLElement} node The legend of an overlay, and the way to take it away.
 */
function showOther(app, node) {
  node.hidden = !app.overlay;
  if (!app.overlay) return node.replaceChildren();
  const remove = h("button", {
    type: "button",
    class: "quiet",
    text: "×",
    "aria-label": `Take ${app.overlay.name} away`,
    title: "Take the second run away",
  });
  remove.addEventListener("click", () => app.lay(null));
  node.replaceChildren(swatch("a"), " with ", swatch("b"), h("b", { text: app.overlay.name }), remove);
}
