// The three plots of a matrix, each with its numbers in a table behind it.
"use strict";

/**
 * @param {string} title
 * @param {{ svg: SVGSVGElement, readout: HTMLElement }} picture
 * @param {string} caption
 * @param {string[]} heads
 * @param {() => (string | number)[][]} rows
 */
function figure(title, picture, caption, heads, rows) {
  const behind = element("details", {}, element("summary", {}, "as a table"));
  behind.addEventListener("toggle", () => {
    if (behind.children.length > 1) return;
    const head = element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)));
    const body = rows().map((cells) => element("tr", {}, ...cells.map((cell) => element("td", {}, `${cell}`))));
    const table = element("table", { class: "data" }, element("thead", {}, head), element("tbody", {}, ...body));
    behind.append(element("div", { class: "behind", tabindex: 0, role: "region", "aria-label": title }, table));
  });
  const text = element("figcaption", {}, `${caption} `, picture.readout);
  return element("figure", {}, element("h3", {}, title), picture.svg, text, behind);
}

/**
 * The place of the drawn singular value that is nearest to a share of the width.
 * @param {number[]} places
 * @param {number} count
 * @param {number} share
 */
function nearest(places, count, share) {
  const wanted = 1 + share * (count - 1);
  let best = 0;
  places.forEach((place, i) => {
    if (Math.abs(place - wanted) < Math.abs((places[best] ?? 0) - wanted)) best = i;
  });
  return best;
}

/**
 * @param {import("./types").Curves} curves
 * @param {number[]} places
 */
function spectrumFigure(curves, places) {
  const top = curves.sigma[0] ?? 1;
  const least = Math.min(...curves.sigma.filter((sigma) => sigma > top * 1e-17));
  const near = curves.floor > 0 && curves.floor > least / 1e3; // what lies far below the floor is only rounding
  const low = near ? Math.max(Math.min(least, curves.floor) / 1.5, curves.floor / 30) : least / 1.2;
  const high = Math.max(top, curves.edge) * 1.3;
  const across = { low: 1, high: Math.max(curves.count, 2), whole: true, title: "k", format: written };
  const up = { low, high, log: true, title: "σ", format: written };
  const floor = curves.floor >= low ? "" : ` Rounding floor ${written(curves.floor)}, below the axis.`;
  const noise = curves.edge > curves.floor && !curves.cut ? `; ${curves.spikes} above the noise edge ${written(curves.edge)}` : "";
  const caption = `${written(top)} down to ${written(curves.sigma.at(-1) ?? 0)}${noise}.${floor}`;
  const picture = chart(`Singular values in descending order on a log axis. ${caption}`, across, up, (plot) => {
    drawCut(plot, curves, [places, curves.sigma]);
    const apart = Math.abs(plot.y(curves.floor) - plot.y(curves.edge)) > 16 || curves.cut; // else one name stands below its line
    const edgeLower = curves.edge < curves.floor;
    if (curves.floor >= low) marked(plot, "floor", "rounding floor", { y: curves.floor, below: !apart && !edgeLower });
    if (curves.edge > low && !curves.cut) marked(plot, "edge", "noise edge", { y: curves.edge, below: !apart && edgeLower });
    plot.svg.append(drawn("path", { class: "line", d: path(plot, places, curves.sigma) }));
    if (curves.count <= 32)
      for (const [i, place] of places.entries())
        plot.svg.append(drawn("circle", { class: "dot", cx: plot.x(place), cy: plot.y(curves.sigma[i] ?? 0), r: 2.5 }));
  }, (share) => {
    const i = nearest(places, curves.count, share);
    return `Here: k = ${places[i]}, σ = ${written(curves.sigma[i] ?? 0)}.`;
  });
  return figure(`Singular values of ${report.matrix}, log axis`, picture, caption, ["k", "σ"], () =>
    places.map((place, i) => [place, written(curves.sigma[i] ?? 0)]));
}

/**
 * Under the curve what a compression kept, and the rank from which on two factors are no smaller.
 * @param {import("./types").Plot} plot
 * @param {import("./types").Curves} curves
 * @param {[number[], number[]]} points
 */
function drawCut(plot, { cut }, [xs, ys]) {
  if (!cut) return;
  const rank = cut.rank;
  if (rank !== null) {
    const inside = xs.filter((x) => x <= rank);
    const right = plot.x(rank);
    const base = `L${right},${plot.bottom}L${plot.x(xs[0] ?? 0)},${plot.bottom}Z`;
    const level = plot.y(ys[inside.length - 1] ?? 0);
    plot.svg.append(drawn("path", { class: "kept", d: `${path(plot, inside, ys)}L${right},${level}${base}` }));
    marked(plot, "at", `rank ${rank} kept`, { x: rank });
  }
  marked(plot, "edge", `no gain from ${cut.even} on`, { x: cut.even, row: 1 });
}

/**
 * @param {import("./types").Curves} curves
 * @param {number[]} places
 */
function varianceFigure(curves, places) {
  const across = { low: 0, high: curves.count, whole: true, title: "rank", format: written };
  const up = { low: 0, high: 1, title: "share", ticks: [0, 0.25, 0.5, 0.75, 1], format: (/** @type {number} */ v) => `${100 * v} %` };
  const shares = [0.9, 0.95, 0.99];
  const caption = `90 % at rank ${curves.ranks[0]}, 95 % at ${curves.ranks[1]}, 99 % at ${curves.ranks[2]} of ${curves.count}.`;
  const picture = chart(`Share of the squared singular values that the first ranks hold. ${caption}`, across, up, (plot) => {
    drawCut(plot, curves, [[0, ...places], [0, ...curves.held]]);
    for (const [i, share] of curves.cut ? [] : shares.entries()) {
      const [x, y] = [plot.x(curves.ranks[i] ?? 0), plot.y(share)];
      plot.svg.append(drawn("path", { class: "mark", fill: "none", d: `M${plot.left},${y}H${x}V${plot.bottom}` }));
    }
    plot.svg.append(drawn("path", { class: "line", d: path(plot, [0, ...places], [0, ...curves.held]) }));
    for (const [i, share] of curves.cut ? [] : shares.entries()) {
      const x = plot.x(curves.ranks[i] ?? 0);
      const left = x > plot.left + 0.3 * (plot.right - plot.left);
      const at = { x: x + (left ? -6 : 6), y: plot.bottom - 44 + 14 * i, "text-anchor": left ? "end" : "start" };
      plot.svg.append(drawn("circle", { class: "dot", cx: x, cy: plot.y(share), r: 3 }));
      plot.svg.append(drawn("text", { ...at, class: "halo" }, `${100 * share} %: ${curves.ranks[i]}`));
    }
  }, (share) => {
    const i = nearest(places, curves.count, share);
    return `Here: rank ${places[i]} holds ${percent(curves.held[i] ?? 0)}.`;
  });
  return figure("Cumulative variance", picture, caption, ["rank", "share held"], () =>
    places.map((place, i) => [place, percent(curves.held[i] ?? 0)]));
}

/**
 * @param {import("./types").Curves} curves
 * @param {import("./types").Bins} bins
 */
function gramFigure(curves, bins) {
  const step = Math.log(bins.high / bins.low) / bins.counts.length;
  const edge = (/** @type {number} */ i) => bins.low * Math.exp(step * i);
  const across = { low: bins.low, high: bins.high, log: true, title: "λ", format: written };
  const tallest = Math.max(...bins.counts, ...bins.law[1]);
  const ticks = linearTicks(0, tallest * 1.08).filter(Number.isInteger);
  const up = { low: 0, high: tallest * 1.08, title: "count", ticks, format: written };
  const zero = bins.below ? ` ${bins.below} more are zero to rounding.` : "";
  const caption = `Bars: eigenvalues λ = σ². Blue: a random matrix of the same size (Marchenko–Pastur), with its edge.${zero}`;
  const picture = chart(`Histogram of the eigenvalues on a log axis. ${caption}`, across, up, (plot) => {
    bins.counts.forEach((count, i) => {
      const [x, right, y] = [plot.x(edge(i)), plot.x(edge(i + 1)), plot.y(count)];
      plot.svg.append(drawn("rect", { class: "bin", x, y, width: Math.max(right - x - 1, 0.5), height: plot.bottom - y }));
    });
    plot.svg.append(drawn("path", { class: "law", d: path(plot, ...bins.law) }));
    if (curves.edge ** 2 > bins.low) marked(plot, "edge", "noise edge", { x: curves.edge ** 2 });
  }, (share) => {
    const i = Math.min(Math.floor(share * bins.counts.length), bins.counts.length - 1);
    return `Here: ${bins.counts[i]} from ${written(edge(i))} to ${written(edge(i + 1))}; noise would have ${written(bins.expected[i] ?? 0)}.`;
  });
  return figure(`Eigenvalues of ${report.matrix} ${report.matrix}ᵀ`, picture, caption, ["from", "to", "eigenvalues", "of noise"], () =>
    bins.counts.map((count, i) => [written(edge(i)), written(edge(i + 1)), count, written(bins.expected[i] ?? 0)]));
}
