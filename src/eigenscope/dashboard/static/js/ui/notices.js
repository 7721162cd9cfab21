// What the page says about itself: the server is gone, there is no run yet, or not the one that was asked for.

import { byId, changes, h, setText } from "../dom.js";
import { capital, count } from "../format.js";

/** @param {import("../types.js").App} app @returns {import("../types.js").Part} */
export function notices(app) {
  const lost = byId("lost");
  byId("retry").addEventListener("click", () => app.live.retryNow());
  setInterval(() => app.link.phase === "lost" && countDown(app), 1000);
  const changed = changes();
  return {
    draw() {
      const { link, runs, primary } = app;
      if (!changed(link, runs, primary, primary?.info, primary?.info?.status, primary?.problem, primary?.refused))
        return;
      lost.hidden = link.phase !== "lost";
      if (link.phase === "lost") countDown(app);
      showEnd(primary);
      showElsewhere(app);
      const isMissing = primary !== null && primary.refused && !primary.info;
      const isEmpty = primary === null && runs !== null;
      showMissing(app, isMissing ? primary : null);
      byId("empty").hidden = !isEmpty;
      for (const id of ["status", "panels", "alerts"]) byId(id).hidden = isEmpty || isMissing;
      if (isEmpty || isMissing) for (const id of ["proposals", "actions"]) byId(id).hidden = true;
      const state = isEmpty ? "empty" : isMissing ? "missing" : primary?.info ? "shown" : "loading";
      document.documentElement.dataset.state = state;
    },
  };
}

/**
 * @param {import("../types.js").App} app
 * @param {import("../run.js").Run|null} run the one that was asked for and that the server refused
 */
function showMissing(app, run) {
  byId("missing").hidden = run === null;
  if (!run) return;
  const runs = app.runs ?? [];
  setText(byId("missing-title"), "This run can't be shown");
  setText(byId("missing-text"), `${capital(run.problem ?? "")}. ${runs.length ? "These can:" : "There is no other yet."}`);
  byId("missing-runs").replaceChildren(
    ...runs.map(({ id, name, status, last_step }) => {
      const choose = h("button", { type: "button", class: "link", text: name });
      choose.addEventListener("click", () => app.choose(id, null));
      const about = `${status}, ${last_step === null ? "no steps" : `step ${count(last_step)}`}`;
      return h("li", null, choose, h("span", { text: about }));
    }),
  );
}

/** @param {import("../run.js").Run|null} run Say how a run ended that did not end well. */
function showEnd(run) {
  const status = run?.refused && run.info ? "gone" : (run?.info?.status ?? "");
  const at = `at step ${count(run?.info?.last_step)}`;
  const rest = "Everything up to there is below.";
  /** @type {Record<string, string>} */
  const texts = {
    stopped: `✕ The run stopped ${at} without an end: its process was killed, or its disk is gone. ${rest}`,
    gone: `✕ ${capital(run?.problem ?? "")}. What is below is what this page last saw.`,
    failed: `✕ The training ended with an error ${at}. ${rest}`,
  };
  byId("ended").hidden = !(status in texts);
  setText(byId("ended"), texts[status] ?? "");
}

/** @param {import("../types.js").App} app What goes on while a run is looked at that is over. */
function showElsewhere(app) {
  const { primary, runs } = app;
  const isOver = primary?.info && primary.info.status !== "live";
  const live = isOver ? (runs ?? []).find(({ id, status }) => status === "live" && id !== primary.id) : undefined;
  const place = byId("elsewhere");
  if (place.dataset.run === live?.id) return; // so that it is announced once, and keeps the focus
  if (!live) {
    delete place.dataset.run;
    place.replaceChildren();
    return;
  }
  place.dataset.run = live.id;
  const choose = h("button", { type: "button", class: "link", text: live.name });
  choose.addEventListener("click", () => app.choose(live.id, null));
  place.replaceChildren(h("span", { text: "● Another run is live: " }), choose);
}

/** @param {import("../types.js").App} app */
function countDown(app) {
  const seconds = Math.max(0, Math.ceil((app.link.retryAt - Date.now()) / 1000));
  const shown = app.primary?.extent()?.max;
  const stand = shown === undefined ? "" : ` What you see is as of step ${count(shown)}.`;
  setText(
    byId("lost-text"),
    `The server does not answer.${stand} Trying again in ${seconds} s, attempt ${app.link.attempt + 1}.`,
  );
}
