// Everything that the page asks of the server.

const NONFINITE = /"(?:NaN|-?Infinity)"/;
const TOKEN_KEY = "eigenscope-token";

/** The server refused, with its one line. */
export class Refused extends Error {
  /** @param {number} status @param {string} message */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** @param {string} text JSON in which NaN and infinities are strings @returns {unknown} */
export function parse(text) {
  if (!NONFINITE.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_, v) => (v === "NaN" || v === "Infinity" || v === "-Infinity" ? Number(v) : v));
}

/** @param {Response} response @returns {Promise<Refused>} */
async function refusal(response) {
  const text = await response.text();
  try {
    return new Refused(response.status, String(JSON.parse(text).error ?? text));
  } catch {
    return new Refused(response.status, `the server answered ${response.status}`);
  }
}

/** @param {string} path @param {AbortSignal} [signal] @returns {Promise<unknown>} */
async function get(path, signal) {
  const response = await fetch(path, { signal: signal ?? null, headers: { accept: "application/json" } });
  if (!response.ok) throw await refusal(response);
  return parse(await response.text());
}

/** @param {string} path Say something, with the token that the printed address carried. */
async function post(path) {
  const token = sessionStorage.getItem(TOKEN_KEY) ?? "";
  const response = await fetch(path, { method: "POST", headers: { "x-eigenscope-token": token } });
  if (!response.ok) throw await refusal(response);
}

/** @param {string} id @returns {string} the run's address, its slashes kept */
function runPath(id) {
  return `/api/runs/${id.split("/").map(encodeURIComponent).join("/")}`;
}

/** Take the token out of the address, where it would be copied along, into this tab's memory. */
export function keepToken() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (!token) return;
  sessionStorage.setItem(TOKEN_KEY, token);
  history.replaceState(null, "", location.pathname + location.search);
}

export const api = {
  /** @returns {Promise<import("./types.js").Session>} */
  session: async () => /** @type {any} */ (await get("/api/session")),

  /** @returns {Promise<import("./types.js").RunItem[]>} */
  runs: async () => /** @type {any} */ (await get("/api/runs")),

  /** @param {string} id @returns {Promise<import("./types.js").RunInfo>} */
  run: async (id) => /** @type {any} */ (await get(runPath(id))),

  /**
   * @param {string} id
   * @param {string[]} names
   * @param {import("./types.js").Span|null} span
   * @param {AbortSignal} [signal]
   * @returns {Promise<Record<string, import("./types.js").Points>>} at most about `points` points a metric
   */
  series: async (id, names, span, signal) => {
    const query = new URLSearchParams({ names: names.join(","), points: "1500" });
    if (span) {
      query.set("first", String(Math.floor(span.min)));
      query.set("last", String(Math.ceil(span.max)));
    }
    return /** @type {any} */ (await get(`${runPath(id)}/series?${query}`, signal));
  },

  /** @param {string} id @returns {Promise<import("./types.js").Density[]>} by step, at most 200 */
  densities: async (id) => /** @type {any} */ (await get(`${runPath(id)}/densities?limit=200`)).densities,

  /**
   * @param {string} id
   * @param {import("./types.js").History} history
   * @returns {Promise<import("./types.js").Measurement[]>} by step, at most 100
   */
  measurements: async (id, { kind, fields }) => {
    const query = new URLSearchParams({ kind, fields: fields.join(","), limit: "100" });
    return /** @type {any} */ (await get(`${runPath(id)}/measurements?${query}`)).measurements;
  },

  /** @param {string} id @param {number} alert @returns {Promise<void>} */
  acknowledge: (id, alert) => post(`${runPath(id)}/alerts/${alert}/acknowledge`),

  /** @param {string} id @param {number} action @param {"apply"|"dismiss"} verb @returns {Promise<void>} */
  answer: (id, action, verb) => post(`${runPath(id)}/actions/${action}/${verb}`),
};
