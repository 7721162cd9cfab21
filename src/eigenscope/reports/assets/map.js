// The model as kinds of matrices (down) and layers (across).
"use strict";

const FEW = 13; // layers that leave room for the numbers themselves

/**
 * Where a quantity lies between its ends, 0 to 1.
 * @param {number} quantity
 */
function heat(quantity) {
  const { log } = /** @type {import("./types").Quantity} */ (report.quantities[quantity]);
  const axis = (/** @type {number} */ value) => (log ? Math.log10(Math.max(value, 1e-300)) : value);
  const known = report.rows.map((row) => row.values[quantity] ?? null).filter((value) => value !== null);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const span = axis(high) - axis(low);
  return { low, high, of: (/** @type {number} */ value) => (span > 0 ? (axis(value) - axis(low)) / span : 0.5) };
}

/**
 * @param {import("./types").Row} row
 * @param {number} quantity
 */
function told(row, quantity) {
  if (row.problem) return row.problem;
  const value = row.values[quantity] ?? null;
  if (value === null) return "not known";
  return report.quantities[quantity]?.share ? percent(value) : written(value);
}

/** Draw the map for the chosen quantity. */
function drawMap() {
  const chosen = Number(/** @type {HTMLSelectElement} */ (byId("quantity")).value);
  const { kinds, layers, cells } = report.grid;
  const { low, high, of } = heat(chosen);
  const every = Math.max(1, Math.ceil(layers.length / 32));
  byId("map").classList.toggle("few", layers.length <= FEW);
  const heads = layers.map((layer) =>
    element("th", { scope: "col" }, layer === null ? "–" : layer % every ? "" : `${layer}`));
  const body = kinds.map((kind, down) => {
    const places = (cells[down] ?? []).map((index) => element("td", {}, ...(index === null ? [] : [cell(index, chosen, of)])));
    return element("tr", {}, element("th", { scope: "row", title: kind }, kind), ...places);
  });
  byId("map").replaceChildren(
    element("thead", {}, element("tr", {}, element("th", { scope: "col" }, "layer"), ...heads)),
    element("tbody", {}, ...body),
  );
  const share = report.quantities[chosen]?.share;
  const ends = Number.isFinite(low) ? [low, high] : [];
  const [first = "", last = ""] = ends.map(share ? percent : written);
  byId("low").textContent = first;
  byId("high").textContent = last;
}

/**
 * @param {number} index
 * @param {number} chosen
 * @param {(value: number) => number} of
 */
function cell(index, chosen, of) {
  const row = /** @type {import("./types").Row} */ (report.rows[index]);
  const value = row.values[chosen] ?? null;
  const label = `${row.title}: ${told(row, chosen)}`;
  const made = element("a", { href: `#m${index}`, "aria-label": label, tabindex: -1, "data-row": index });
  if (row.problem) made.classList.add("broken");
  else if (value === null) made.classList.add("none");
  else {
    made.style.setProperty("--heat", `${(100 * of(value)).toFixed(1)}%`);
    made.classList.toggle("warm", of(value) > 0.42); // from where on dark ink is read better in the dark theme
    made.classList.toggle("hot", of(value) > 0.62); // and light ink in the light one
  }
  if (row.problem) made.textContent = "!";
  else if (report.grid.layers.length <= FEW) made.textContent = value === null ? "" : told(row, chosen);
  return made;
}

/**
 * Arrow keys move through the map; one cell is in the order of the Tab key.
 * @param {KeyboardEvent} event
 */
function moved(event) {
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  const step = steps[/** @type {keyof typeof steps} */ (event.key)];
  const at = event.target instanceof Element ? event.target.closest("td") : null;
  if (!step || !at || !at.parentElement) return;
  event.preventDefault();
  const rows = [.../** @type {HTMLTableElement} */ (byId("map")).tBodies[0]?.rows ?? []];
  let [down, across] = [rows.indexOf(/** @type {HTMLTableRowElement} */ (at.parentElement)), at.cellIndex];
  for (;;) {
    down += step[0] ?? 0;
    across += step[1] ?? 0;
    const place = rows[down]?.cells[across];
    if (!place || across < 1) return;
    const link = place.querySelector("a");
    if (link) return void link.focus();
  }
}

/** Set up the map's listeners. */
function startMap() {
  const map = byId("map");
  const tell = (/** @type {Event} */ event) => {
    const link = event.target instanceof Element ? event.target.closest("a") : null;
    byId("readout").textContent = link?.getAttribute("aria-label") ?? "";
  };
  map.addEventListener("pointerover", tell);
  map.addEventListener("focusin", tell);
  map.addEventListener("keydown", moved);
  byId("quantity").addEventListener("change", () => {
    drawMap();
    markCurrent();
  });
  drawMap();
}
