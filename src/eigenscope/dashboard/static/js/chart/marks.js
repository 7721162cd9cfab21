// What is drawn over a chart by hand: reference lines, alerts, actions, and the places of values that are no numbers.

import uPlot from "../../vendor/uplot/uPlot.js";
import { wasUndone } from "../actions.js";
import { palette } from "../theme.js";

/** @typedef {{value: () => number|null|undefined, label: string, level?: "warning"|"critical", wash?: boolean}} Mark: a
 *  horizontal reference line; `wash` tints what lies above it */

/**
 * @param {uPlot} u
 * @param {() => void} draw inside the plotting area, in device pixels, with the context restored after
 */
export function inside(u, draw) {
  const { left, top, width, height } = u.bbox;
  u.ctx.save();
  u.ctx.beginPath();
  u.ctx.rect(left, top, width, height);
  u.ctx.clip();
  draw();
  u.ctx.restore();
}

/** @param {uPlot} u @param {Mark[]} marks The tints, under the lines. */
export function washes(u, marks) {
  const { left, top, width } = u.bbox;
  for (const mark of marks) {
    const value = mark.value();
    if (!mark.wash || value === null || value === undefined) continue;
    inside(u, () => {
      u.ctx.fillStyle = palette["critical-wash"];
      u.ctx.fillRect(left, top, width, u.valToPos(value, "y", true) - top);
    });
  }
}

/** @param {uPlot} u @param {Mark[]} marks */
export function references(u, marks) {
  const { left, width } = u.bbox;
  const px = uPlot.pxRatio;
  for (const mark of marks) {
    const value = mark.value();
    if (value === null || value === undefined) continue;
    const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
    inside(u, () => {
      const { ctx } = u;
      ctx.strokeStyle = ctx.fillStyle = palette[mark.level ?? "ink-2"];
      ctx.lineWidth = px;
      ctx.setLineDash([4 * px, 3 * px]);
      ctx.beginPath();
      ctx.moveTo(left, y);
      ctx.lineTo(left + width, y);
      ctx.stroke();
      ctx.font = `${10.5 * px}px "Segoe UI", Roboto, "Liberation Sans", Arial, sans-serif`;
      ctx.textAlign = "left";
      ctx.fillText(mark.label, left + 6 * px, mark.wash ? u.bbox.top + 13 * px : y - 4 * px);
    });
  }
}

/** @param {uPlot} u @param {import("../types.js").Alert[]} alerts Upright lines where a rule was raised. */
export function alertLines(u, alerts) {
  const { top, height } = u.bbox;
  inside(u, () => {
    for (const alert of alerts) {
      if (alert.level === "ok") continue;
      const x = Math.round(u.valToPos(alert.step, "x", true)) + 0.5;
      u.ctx.strokeStyle = palette[alert.level];
      u.ctx.globalAlpha = 0.55;
      u.ctx.lineWidth = uPlot.pxRatio;
      u.ctx.beginPath();
      u.ctx.moveTo(x, top);
      u.ctx.lineTo(x, top + height);
      u.ctx.stroke();
    }
  });
}

/**
 * @param {uPlot} u
 * @param {{step: number, value: number}[]} points A cross at the edge where a value is NaN or infinite.
 */
export function crosses(u, points) {
  const { top, height } = u.bbox;
  const arm = 3.5 * uPlot.pxRatio;
  inside(u, () => {
    u.ctx.strokeStyle = palette.critical;
    u.ctx.lineWidth = 1.6 * uPlot.pxRatio;
    for (const { step, value } of points) {
      const x = u.valToPos(step, "x", true);
      const y = value === -Infinity ? top + height - 2 * arm : top + 2 * arm;
      u.ctx.beginPath();
      u.ctx.moveTo(x - arm, y - arm);
      u.ctx.lineTo(x + arm, y + arm);
      u.ctx.moveTo(x + arm, y - arm);
      u.ctx.lineTo(x - arm, y + arm);
      u.ctx.stroke();
    }
  });
}

/** @param {uPlot} u @param {import("../types.js").Action[]} actions An upright line and a flag where one was applied. */
export function actionLines(u, actions) {
  const { top, height } = u.bbox;
  const px = uPlot.pxRatio;
  inside(u, () => {
    for (const action of actions) {
      if (action.applied_at === null) continue;
      const x = Math.round(u.valToPos(action.applied_at, "x", true)) + 0.5;
      const { ctx } = u;
      ctx.strokeStyle = palette.ink;
      ctx.fillStyle = wasUndone(action) ? palette.panel : palette.ink;
      ctx.lineWidth = px;
      ctx.globalAlpha = 0.5;
      ctx.setLineDash(wasUndone(action) ? [3 * px, 3 * px] : []);
      ctx.beginPath();
      ctx.moveTo(x, top + 8 * px);
      ctx.lineTo(x, top + height);
      ctx.stroke();
      ctx.globalAlpha = 1;
      ctx.setLineDash([]);
      ctx.beginPath();
      ctx.moveTo(x - 5 * px, top + px);
      ctx.lineTo(x + 5 * px, top + px);
      ctx.lineTo(x, top + 8 * px);
      ctx.closePath();
      ctx.fill();
      ctx.stroke();
    }
  });
}
