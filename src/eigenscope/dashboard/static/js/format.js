// Numbers as people read them. Every number on the page goes through here.

const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
const MINUS = "−";
const DIGITS = 4; // of a value, at most: what a reader takes in, and more than a probe's sampling error supports

/** @param {number} exponent @returns {string} */
export function powerOfTen(exponent) {
  const digits = [...String(Math.abs(exponent))].map((d) => SUPERSCRIPT[Number(d)]).join("");
  return `10${exponent < 0 ? "⁻" : ""}${digits}`;
}

/** @type {Intl.NumberFormat[]} by decimals; making one takes far longer than using it */
const FORMATS = [];

/**
 * @param {number} value
 * @param {number} decimals -2 rounds to hundreds
 * @returns {string} with thousands grouped and a true minus sign
 */
function fixed(value, decimals) {
  if (decimals < 0) return fixed(Math.round(value * 10 ** decimals) / 10 ** decimals, 0);
  const options = { minimumFractionDigits: decimals, maximumFractionDigits: decimals };
  FORMATS[decimals] ??= new Intl.NumberFormat("en-US", options);
  const text = FORMATS[decimals].format(Math.abs(value));
  return value < 0 && /[1-9]/.test(text) ? MINUS + text : text;
}

/** @param {number} value @returns {string|null} the name of a value that is no ordinary number */
function special(value) {
  if (Number.isNaN(value)) return "NaN";
  if (Number.isFinite(value)) return null;
  return value > 0 ? "∞" : `${MINUS}∞`;
}

/** @param {number} value @returns {number} the decimal exponent, 0 for 0 */
function exponentOf(value) {
  return value === 0 ? 0 : Math.floor(Math.log10(Math.abs(value)) + 1e-12);
}

/** @param {number} value @returns {boolean} */
function isPlain(value) {
  const size = Math.abs(value);
  return value === 0 || (size >= 1e-3 && size < 1e5);
}

/**
 * A value to `digits` significant digits: 12.30, 2,100, 3.2·10⁻⁷.
 * @param {number|null|undefined} value
 * @param {number} [digits]
 * @returns {string}
 */
export function number(value, digits = DIGITS) {
  if (value === null || value === undefined) return "—";
  const name = special(value);
  if (name) return name;
  const exponent = exponentOf(value);
  if (isPlain(value))
    return fixed(value, Math.max(0, digits - 1 - exponent))
      .replace(/(\.\d*?)0+$/, "$1")
      .replace(/\.$/, "");
  const mantissa = fixed(value / 10 ** exponent, digits - 1).replace(/\.?0+$/, "");
  return `${mantissa}·${powerOfTen(exponent)}`;
}

/**
 * @param {number} error
 * @returns {number} decimals so that one digit of the error shows, two where it begins with 1 or 2
 */
function decimalsFor(error) {
  const exponent = exponentOf(error);
  return error / 10 ** exponent < 2.95 ? 1 - exponent : -exponent;
}

/**
 * A value and its error, rounded to what the error supports and to four digits at most: "12.35 ± 0.04",
 * "2,100 ± 700", "(1.234 ± 0.005)·10⁶"; a smaller error is written all the same: "38.28 ± 1·10⁻⁴".
 * @param {number|null|undefined} value
 * @param {number|null|undefined} error
 * @returns {string}
 */
export function withError(value, error) {
  if (value === null || value === undefined || special(value) || error === null || error === undefined)
    return number(value);
  if (Number.isNaN(error)) return number(value);
  if (!Number.isFinite(error)) return `${number(value)} ± ∞`;
  const size = Math.max(Math.abs(value), error);
  if (error === 0) return `${number(value)} ± 0`;
  if (error < size * 1e-5) return `${number(value)} ± ${number(error, 1)}`;
  const exponent = isPlain(size) ? 0 : exponentOf(size);
  const scale = 10 ** exponent;
  const supported = decimalsFor(error / scale);
  const shown = Math.min(supported, Math.max(0, DIGITS - 1 - exponentOf(Number((size / scale).toPrecision(DIGITS)))));
  const spread = supported <= shown + 1 ? fixed(error / scale, supported) : number(error / scale, 1);
  const text = `${fixed(value / scale, shown)} ± ${spread}`;
  return exponent === 0 ? text : `(${text})·${powerOfTen(exponent)}`;
}

/** @param {number|null|undefined} value @returns {string} a step, a count: 4,200 */
export function count(value) {
  if (value === null || value === undefined) return "—";
  return special(value) ?? (Math.abs(value) < 1e15 ? fixed(Math.round(value), 0) : number(value));
}

/** @param {number|null|undefined} fraction @returns {string} 0.016 → "1.6 %" */
export function percent(fraction) {
  if (fraction === null || fraction === undefined) return "—";
  return `${number(fraction * 100, 2)} %`;
}

/**
 * The label of a tick: short, so that six fit on a narrow axis.
 * @param {number} value
 * @returns {string}
 */
export function tick(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e4) return number(value, 6);
  const exponent = exponentOf(value);
  const mantissa = Number((size / 10 ** exponent).toPrecision(4));
  const sign = value < 0 ? MINUS : "";
  return mantissa === 1 ? sign + powerOfTen(exponent) : `${sign}${mantissa}·${powerOfTen(exponent)}`;
}

/** @param {number} step @returns {string} a step on an axis: 900, 4.2k, 1.25M */
export function stepTick(step) {
  if (Math.abs(step) >= 1e6) return `${Number((step / 1e6).toPrecision(6))}M`;
  if (Math.abs(step) >= 1e4) return `${Number((step / 1e3).toPrecision(6))}k`;
  return fixed(step, 0);
}

/** @param {string} text @returns {string} with a capital letter first */
export function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
