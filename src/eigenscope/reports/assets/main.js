// One matrix at a time, the table, and what joins them: the address, #m12 for row 12.
"use strict";

let current = 0;

/** Show the matrix that the address names, or the first one that has numbers. */
function selected() {
  const named = /^#m(\d+)$/.exec(location.hash);
  const telling = report.rows.findIndex((row) => row.curves?.cut && row.curves.cut.rank !== null);
  const first = report.first ?? Math.max(telling < 0 ? report.rows.findIndex((row) => row.curves) : telling, 0);
  current = named && report.rows[Number(named[1])] ? Number(named[1]) : first;
  drawDetail();
  markCurrent();
  const detail = byId("detail");
  const { top } = detail.getBoundingClientRect();
  if (named && (top < 0 || top > innerHeight * 0.6)) detail.scrollIntoView({ block: "start" });
}

function markCurrent() {
  for (const marked of document.querySelectorAll("[aria-current]")) marked.removeAttribute("aria-current");
  const cell = document.querySelector(`#map a[data-row="${current}"]`) ?? document.querySelector("#map a");
  for (const other of document.querySelectorAll("#map a")) other.setAttribute("tabindex", "-1");
  cell?.setAttribute("tabindex", "0");
  if (cell?.getAttribute("data-row") === `${current}`) cell.setAttribute("aria-current", "true");
  document.querySelector(`#rows tr[data-row="${current}"]`)?.setAttribute("aria-current", "true");
}

/** Sentence, plots and numbers of the current matrix. */
function drawDetail() {
  const row = report.rows[current];
  if (!row) return;
  byId("title").textContent = row.title;
  byId("about").textContent = row.about;
  byId("sentence").replaceChildren(...raised(row.problem ?? row.sentence));
  byId("sentence").classList.toggle("broken", row.problem !== null);
  step("before", current - 1);
  step("after", current + 1);
  const figures = [];
  if (row.curves && (row.curves.sigma[0] ?? 0) > 0) {
    const places = report.places[row.curves.count] ?? [];
    figures.push(spectrumFigure(row.curves, places), varianceFigure(row.curves, places));
    if (row.curves.bins) figures.push(gramFigure(row.curves, row.curves.bins));
  }
  byId("figures").replaceChildren(...figures);
  byId("numbers").replaceChildren(
    ...row.numbers.map((value, i) => {
      const [label, meaning] = report.definitions[i] ?? ["", ""];
      const [figure = "", beside = ""] = value.split("\n");
      const said = [element("dd", { class: "value" }, figure)];
      if (beside) said.push(element("dd", { class: "beside" }, beside));
      return element("div", {}, element("dt", {}, label), ...said, element("dd", { class: "meaning" }, meaning));
    }),
  );
}

/**
 * @param {string} id
 * @param {number} to
 */
function step(id, to) {
  const link = byId(id);
  link.hidden = !report.rows[to];
  link.setAttribute("href", `#m${to}`);
  link.setAttribute("title", report.rows[to]?.title ?? "");
}

/** @param {HTMLTableCellElement} head */
function sortBy(head) {
  const now = head.getAttribute("aria-sort");
  const order = now === null ? (head.dataset["first"] ?? "descending") : now === "ascending" ? "descending" : "ascending";
  for (const other of document.querySelectorAll("#rows th[aria-sort]")) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", order);
  const body = /** @type {HTMLTableSectionElement} */ (/** @type {HTMLTableElement} */ (byId("rows")).tBodies[0]);
  const key = (/** @type {HTMLTableRowElement} */ row) => row.cells[head.cellIndex]?.dataset["v"] ?? "";
  const compare = (/** @type {string} */ a, /** @type {string} */ b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? 1 : -1; // what is not known comes last
    const rising = Number.isNaN(Number(a)) ? a.localeCompare(b, "en", { numeric: true }) : Number(a) - Number(b);
    return order === "descending" ? -rising : rising;
  };
  body.append(...[...body.rows].sort((a, b) => compare(key(a), key(b))));
}

/** Show the rows whose name holds the text and whose word is the chosen one. */
function filterRows() {
  const text = /** @type {HTMLInputElement} */ (byId("filter")).value.trim().toLowerCase();
  const word = /** @type {HTMLSelectElement} */ (byId("word")).value;
  const literal = text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const pattern = new RegExp(literal.replaceAll("\\*", ".*").replaceAll("\\?", "."));
  let shown = 0;
  const rows = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("#rows tbody tr"));
  for (const row of rows) {
    const title = report.rows[Number(row.dataset["row"])]?.title.toLowerCase() ?? "";
    row.hidden = !pattern.test(title) || (word !== "" && row.dataset["word"] !== word);
    shown += row.hidden ? 0 : 1;
  }
  byId("shown").textContent = `${shown} of ${rows.length}`;
  const asked = [text && `“${text}”`, word && `“${word}”`].filter(Boolean).join(" and ");
  byId("nothing").hidden = shown > 0;
  byId("nothing").textContent = shown ? "" : `None of the ${rows.length} fits ${asked}: clear the filter to see all.`;
}

/** Show, where a table is wider than its place, that there is more to the right: it fades; of the long one say so, too. */
function startScrolling() {
  const long = byId("rows").parentElement;
  for (const place of /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(".scroll, .tall"))) {
    const told = () => {
      const more = place.scrollWidth - place.clientWidth - place.scrollLeft > 4;
      place.classList.toggle("more", more);
      if (place === long) byId("sideways").hidden = !more;
    };
    place.addEventListener("scroll", told, { passive: true });
    new ResizeObserver(told).observe(place);
  }
}

function start() {
  document.documentElement.classList.add("scripted");
  for (const part of document.querySelectorAll("[data-scripted]")) part.removeAttribute("hidden");
  byId("theme").addEventListener("click", () => {
    const dark = document.documentElement.dataset["theme"] ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
    document.documentElement.dataset["theme"] = dark === "dark" ? "light" : "dark";
  });
  drawBudgets();
  if (!report.rows.length) return;
  startMap();
  for (const head of document.querySelectorAll("#rows thead th"))
    head.querySelector("button")?.addEventListener("click", () => sortBy(/** @type {HTMLTableCellElement} */ (head)));
  byId("filter").addEventListener("input", filterRows);
  byId("word").addEventListener("change", filterRows);
  filterRows();
  startScrolling();
  window.addEventListener("hashchange", selected);
  selected();
}

start();
