// What the page says about itself: the server is gone, or there is no run yet.

import { byId, changes, setText } from "../dom.js";
import { count } from "../format.js";

/** @param {import("../types.js").App} app @returns {import("../types.js").Part} */
export function notices(app) {
  const lost = byId("lost");
  byId("retry").addEventListener("click", () => app.live.retryNow());
  setInterval(() => app.link.phase === "lost" && countDown(app), 1000);
  const changed = changes();
  return {
    draw() {
      const { link, runs, primary } = app;
      if (!changed(link, runs, primary, primary?.info, primary?.info?.status, primary?.problem)) return;
      lost.hidden = link.phase !== "lost";
      if (link.phase === "lost") countDown(app);
      showEnd(primary);
      const isEmpty = primary === null && runs !== null;
      byId("empty").hidden = !isEmpty;
      byId("status").hidden = isEmpty;
      byId("panels").hidden = isEmpty;
      byId("alerts").hidden = isEmpty;
      document.documentElement.dataset.state = isEmpty ? "empty" : primary?.info ? "shown" : "loading";
    },
  };
}

/** @param {import("../run.js").Run|null} run Say how a run ended that did not end well. */
function showEnd(run) {
  const status = run?.info?.status ?? "";
  const at = `at step ${count(run?.info?.last_step)}`;
  const rest = "Everything up to there is below.";
  /** @type {Record<string, string>} */
  const texts = {
    stopped: `✕ The run stopped ${at} without an end: its process was killed, or its disk is gone. ${rest}`,
    failed: `✕ The training ended with an error ${at}. ${rest}`,
  };
  byId("ended").hidden = !(status in texts);
  setText(byId("ended"), texts[status] ?? "");
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
