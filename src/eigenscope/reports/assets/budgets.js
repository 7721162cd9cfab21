// What budgets cost: one curve for each thing that was measured, over the share of parameters kept.
"use strict";

/**
 * @param {import("./types").Curve} curve
 * @param {number | null} at the share that was really kept; null in a dry run
 */
function budgetFigure(curve, at) {
  const [low, high] = [Math.min(...curve.y), Math.max(...curve.y)];
  const exponent = Math.floor(Math.log10(Math.max(Math.abs(low), Math.abs(high)) || 1));
  const unit = curve.share || (exponent >= -3 && exponent <= 4) ? 0 : exponent; // its power stands once, at the title
  const format = curve.share ? percent : (/** @type {number} */ value) => written(Number((value / 10 ** unit).toPrecision(4)));
  const title = unit ? `${curve.title}, · ${power(unit)}` : curve.title;
  const room = (high - low || Math.abs(high) || 1) * 0.08;
  const across = { low: Math.min(...curve.x, at ?? 1), high: 1, title: "share of the compressible parameters kept", format: round };
  const up = { low: curve.share ? 0 : low - room, high: high + room, title: curve.title, format };
  const from = `${format(curve.y[0] ?? 0)} at ${round(curve.x[0] ?? 0)}`;
  const to = `${format(curve.y.at(-1) ?? 0)} at ${round(curve.x.at(-1) ?? 1)}`;
  const caption = `${from}, ${to}; ${curve.note}.`;
  const picture = chart(`${title} over the share kept. ${caption}`, across, up, (plot) => {
    if (at !== null) marked(plot, "at", `kept here: ${percent(at)}`, { x: at });
    plot.svg.append(drawn("path", { class: "line", d: path(plot, curve.x, curve.y) }));
    for (const [i, x] of curve.x.entries())
      plot.svg.append(drawn("circle", { class: "dot", cx: plot.x(x), cy: plot.y(curve.y[i] ?? 0), r: 3 }));
  }, (share) => {
    const wanted = across.low + share * (1 - across.low);
    const gap = (/** @type {number} */ x) => Math.abs(x - wanted);
    const i = curve.x.reduce((best, x, place) => (gap(x) < gap(curve.x[best] ?? 2) ? place : best), 0);
    return `Here: ${round(curve.x[i] ?? 0)} kept, ${format(curve.y[i] ?? 0)}.`;
  });
  return element("figure", {}, element("h3", {}, title), picture.svg, element("figcaption", {}, `${caption} `, picture.readout));
}

/** @param {number} share */
function round(share) {
  return `${Math.round(100 * share)} %`;
}

/** Draw them where the page has a place for them. */
function drawBudgets() {
  const { budgets } = report;
  if (budgets) byId("budgets").replaceChildren(...budgets.curves.map((curve) => budgetFigure(curve, budgets.at)));
}
