// The signal flow as the page keeps it: the blocks of one check, and what is drawn and said of them.

import { count, number, withError } from "./format.js";

/** @typedef {import("./types.js").Measurement} Measurement */
/** @typedef {"sigma_max"|"sigma_rms"} Sigma */

/** @typedef {{step: number, names: string[], abouts: string[], reasons: (string|null)[], growths: (number|null)[],
 *   sigma_max: Numbers, sigma_max_error: Numbers, sigma_rms: Numbers, sigma_rms_error: Numbers, faults: Set<string>,
 *   verdict: string, growth: number|null}} Flow: one check, block by block in the order in which data passes */

/** @typedef {(number|null)[]} Numbers: null where a block has none */

/** @type {(name: string) => string} */
const ofBlocks = (name) => `blocks.${name}`;

/** What the page asks of the history: all but this of each check stays on the server. */
export const FIELDS = [
  ...["name", "about", "reason", "growth"].map(ofBlocks),
  ...["sigma_max.value", "sigma_max.error", "sigma_rms.value", "sigma_rms.standard_error"].map(ofBlocks),
  ...["layers_at_fault", "layer_at_fault", "verdict", "growth"],
];

/** @param {Measurement} measurement whole, or the columns above of it @returns {Flow} */
export function flowOf(measurement) {
  const of = (/** @type {string} */ path) => measurement[path] ?? atPath(measurement, path.split("."));
  const blocks = (/** @type {string} */ name) => of(ofBlocks(name)) ?? [];
  return {
    step: measurement.step,
    names: blocks("name"),
    abouts: blocks("about"),
    reasons: blocks("reason"),
    growths: blocks("growth"),
    sigma_max: blocks("sigma_max.value"),
    sigma_max_error: blocks("sigma_max.error"),
    sigma_rms: blocks("sigma_rms.value"),
    sigma_rms_error: blocks("sigma_rms.standard_error"),
    faults: new Set(of("layers_at_fault") ?? [of("layer_at_fault")]),
    verdict: String(of("verdict") ?? ""),
    growth: of("growth"),
  };
}

/** @param {any} value @param {string[]} path @returns {any} as the server's `at_path` has it */
function atPath(value, path) {
  if (Array.isArray(value)) return value.map((item) => atPath(item, path));
  const [name, ...rest] = path;
  return name === undefined ? value : atPath(value?.[name] ?? null, rest);
}

/** @param {Flow} flow @returns {number} the block whose σmax is worst: the least where the signal vanishes; -1: none */
export function worstOf({ sigma_max, verdict }) {
  const sign = verdict === "vanishing" ? -1 : 1;
  const bad = sigma_max.map((value) => (value === null || Number.isNaN(value) ? -Infinity : sign * value));
  const worst = bad.indexOf(Math.max(...bad));
  return bad[worst] === -Infinity ? -1 : worst;
}

/** @param {Flow} flow @param {number} i @param {Sigma} which @returns {string} "—" where there is none */
export function sigma(flow, i, which) {
  return withError(flow[which][i], flow[`${which}_error`][i]);
}

/** @param {Flow} flow @param {number} i @returns {string} a block in words */
export function inWords(flow, i) {
  const place = `${flow.names[i]}, block ${count(i + 1)} of ${count(flow.names.length)}`;
  const reason = flow.reasons[i];
  if (reason) return `${place}: not measured, ${reason}`;
  const growth = flow.growths[i];
  const gradient = growth === null || growth === undefined ? "" : `: gradient × ${number(growth, 3)}`;
  return `${place}${flow.abouts[i] ? `, ${flow.abouts[i]}` : ""}${gradient}`;
}

/**
 * @param {Flow[]} flows
 * @returns {number} how far any σ of the history lies from 1, in decades: from 1, so that what is near 1 looks so, to 3
 */
export function reachOf(flows) {
  let reach = 1;
  for (const { sigma_max, sigma_rms } of flows)
    for (const value of [...sigma_max, ...sigma_rms])
      if (value !== null && value > 0 && value < Infinity) reach = Math.max(reach, Math.abs(Math.log10(value)));
  return Math.min(reach, 3);
}

/** @typedef {{colours: Uint32Array, reach: number, missing: number, odd: number}} Paint: packed pixels for a block
 *   without a number, and for a σ that is NaN or infinite */

/**
 * @param {Flow} flow
 * @param {string[]} names the blocks along the axis: a check that had others is matched by name
 * @param {Sigma} which
 * @param {number[]} places
 * @param {Paint} paint
 * @returns {Uint32Array} a row of the picture
 */
export function rowOf(flow, names, which, places, paint) {
  const middle = (paint.colours.length - 1) / 2;
  const colours = names.map((name, i) => {
    const at = flow.names[i] === name ? i : flow.names.indexOf(name);
    const value = flow[which][at] ?? null;
    if (value === null) return null;
    if (!Number.isFinite(value)) return paint.odd;
    const away = Math.max(-1, Math.min(1, Math.log10(value) / paint.reach));
    return paint.colours[Math.round(middle * (1 + away))] ?? 0;
  });
  return Uint32Array.from(places, (place, x) => {
    const colour = colours[Math.round(place)];
    return colour === null ? (x % 4 ? 0 : paint.missing) : (colour ?? 0);
  });
}

/**
 * Names short enough for an axis: those that are not lose what all have in common, then their beginning.
 * @param {string[]} names
 * @param {number} most characters
 * @returns {string[]}
 */
export function shortNames(names, most) {
  if (names.every((name) => name.length <= most)) return names;
  const parts = names.map((name) => name.split("."));
  const first = shared(parts);
  const last = shared(parts.map((part) => part.slice(first).reverse()));
  return parts.map((part) => ending(part.slice(first, part.length - last).join("."), most));
}

/** @param {string[][]} lists @returns {number} how many parts all begin with, each keeping one of its own */
function shared(lists) {
  const [first = [], ...rest] = lists;
  let many = 0;
  while (rest.length && lists.every((list) => list.length > many + 1 && list[many] === first[many])) many += 1;
  return many;
}

/** @param {string} name @param {number} most characters @returns {string} its end, from a dot on where one is near */
export function ending(name, most) {
  if (name.length <= most) return name;
  const end = name.slice(1 - most);
  const dot = end.indexOf(".");
  return `…${dot >= 0 && dot < most - 3 ? end.slice(dot + 1) : end}`;
}
