// The grid of panels: those that apply to the run, in the order of their places, numbered without a gap.

import { byId } from "../dom.js";
import { Shell } from "./shell.js";

/** @typedef {import("../types.js").App} App */
/** @typedef {import("../types.js").Panel} Panel */

/** @param {App} app @param {Panel[]} panels @returns {import("../types.js").Part} */
export function grid(app, panels) {
  const places = panels.map((panel) => {
    const shell = new Shell(panel);
    byId("panels").append(shell.root);
    return { panel, shell, part: panel.mount(shell, app) };
  });
  return {
    draw() {
      let position = 0;
      for (const { panel, shell, part } of places) {
        shell.root.hidden = !applies(panel, app, Boolean(shell.root.hidden));
        if (shell.root.hidden) continue;
        shell.number((position += 1));
        part.draw();
      }
    },
  };
}

/** @param {Panel} panel @param {App} app @param {boolean} hidden as it was: it stays so while a run is being read */
function applies(panel, app, hidden) {
  if (!panel.applies) return true;
  const known = app.shown().filter((run) => run.info);
  return known.length ? known.some((run) => panel.applies?.(run)) : !hidden;
}
