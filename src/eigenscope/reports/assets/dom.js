// Elements and numbers. The scripts of this folder are put into one page, one after the other, in one scope.
"use strict";

/** @type {import("./types").Report} */
const report = JSON.parse(/** @type {HTMLElement} */ (document.getElementById("data")).textContent ?? "");

/**
 * An element with attributes and children; text is only ever text.
 * @param {string} tag
 * @param {Record<string, string | number | undefined>} [attributes]
 * @param {...(Node | string)} children
 */
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value !== undefined) made.setAttribute(name, `${value}`);
  made.append(...children);
  return made;
}

/**
 * The same for SVG.
 * @param {string} tag
 * @param {Record<string, string | number>} [attributes]
 * @param {...(Node | string)} children
 */
function drawn(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, `${value}`);
  made.append(...children);
  return made;
}

/** @param {string} id */
function byId(id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`no element ${id}`);
  return found;
}

const SUPERSCRIPTS = "⁰¹²³⁴⁵⁶⁷⁸⁹";

/**
 * A number to three digits, a power of ten outside 0.001 … 99,999.
 * @param {number} value
 */
function written(value) {
  if (value === 0 || !Number.isFinite(value)) return `${value}`;
  const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-12);
  if (exponent < -3 || exponent > 4) {
    const factor = Number((value / 10 ** exponent).toPrecision(3));
    return `${factor === 1 ? "" : `${factor}·`}${power(exponent)}`;
  }
  return Number(value.toPrecision(Math.max(3, exponent + 1))).toLocaleString("en-US", { maximumFractionDigits: 6 });
}

/** @param {number} exponent */
function power(exponent) {
  const digits = [...`${Math.abs(exponent)}`].map((digit) => SUPERSCRIPTS[Number(digit)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/**
 * A text whose exponents, as in λ^−3.9, are raised.
 * @param {string} text
 * @returns {(Node | string)[]}
 */
function raised(text) {
  return text.split(/\^(−?[\d.]*\d)/).map((part, i) => (i % 2 ? element("sup", {}, part) : part));
}

/** @param {number} share */
function percent(share) {
  if (share === 0 || share === 1) return `${100 * share} %`;
  if (share > 0 && share < 0.01) return `${written(Number((100 * share).toPrecision(2)))} %`;
  return `${(100 * share).toFixed(share < 0.1 || share > 0.99 ? 1 : 0)} %`;
}
