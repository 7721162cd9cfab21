// The shapes that travel between the server and the page (eigenscope/dashboard/api.py, live.py), and those that the page's parts share.

/** @typedef {{value: number|null, error?: number|null, standard_error?: number|null, sampling_error?: number|null,
 *   reason?: string|null, resolved?: boolean, optimizer?: string|null}} Estimate */

/** @typedef {{value: number, error?: number|null}} Outlier */

/** @typedef {{step: number, grid: number[], values: number[], outliers: Outlier[], bulk: [number, number]|null}} Density */

/** @typedef {{step: number, sign: number, predicted: number, measured: number}} Escape: `step` in parameter space */

/** @typedef {{step: number, [name: string]: unknown}} Reading: quantities by their name, see docs/concepts.md */

/** @typedef {{step: number, [name: string]: any}} Measurement: of a kind ("flow", "lipschitz"), see docs/run-file.md */

/** @typedef {{kind: string, fields: string[], row(measurement: Measurement): {step: number}}} History: what a panel asks
 *  of all measurements of a kind: these fields, as flat columns. `row` makes of them, or of a whole one, what is kept */

/** @typedef {"ok"|"warning"|"critical"} Level */

/** @typedef {{id?: number, rule: string, level: Level, step: number, panel?: string, metric?: string|null,
 *   value?: number|null, threshold?: number|null, message: string, action?: string|null, reason?: string|null,
 *   acknowledged?: number|boolean|null, time?: number|null, cause?: number}} Alert: one transition of a rule */

/** @typedef {"proposed"|"applied"|"kept"|"undone"|"dismissed"|"refused"|"failed"} ActionState */

/** @typedef {Record<string, number|string|null>} Evidence: what was measured on one side of an action */

/** @typedef {{key: number, name: string, words: string, criterion: string, state: ActionState, step: number, by: string,
 *   alert: {rule: string, level: Level, step: number, metric: string, message: string}, applied_at: number|null,
 *   changed: Record<string, unknown>|null, before: Evidence|null, after: Evidence|null, helped: boolean|null,
 *   note: string, asked: "apply"|"dismiss"|null, log: {state: ActionState, step: number, time: number}[]}} Action */

/** @typedef {"live"|"finished"|"interrupted"|"failed"|"stopped"} Status */

/** @typedef {{id: string, name: string, status: Status, last_step: number|null, started?: number|null,
 *   updated?: number|null, config?: Record<string, unknown>, alert: Alert|null}} RunItem: a line of the run list */

/** @typedef {{id: string, name: string, status: Status, config: Record<string, unknown>,
 *   environment: Record<string, unknown>, last_step: number|null, names: string[], reading: Reading|null,
 *   alerts: Alert[], history: Alert[], actions: Action[], measurements: Record<string, Measurement>, measuring_share: number|null,
 *   dropped: number|null}} RunInfo: of each kind of measurement the latest */

/** @typedef {{steps: number[], values: (number|null)[], errors: (number|null)[]}} Points */

/** @typedef {{label: string, definition: string, unit?: string|null, source?: string|null}} Definition */

/** @typedef {{version: string, definitions: Record<string, Definition>}} Session */

/** @typedef {[step: number, value: number|null, error: number|null]} Row */

/** @typedef {{type: "scalars", rows: Record<string, Row[]>} | {type: "reading", reading: Reading}
 *   | {type: "measurement", kind: string, measurement: Measurement} | {type: "alert", alert: Alert}
 *   | {type: "action", action: Action}
 *   | {type: "runs"} | {type: "resync"}
 *   | {type: "status", status: Status, last_step: number|null, measuring_share: number|null}} Message */

/** @typedef {{min: number, max: number}} Span: a range of steps */

/** @typedef {{draw(): void}} Part: something on the page that draws itself from the application's state */

/** @typedef {import("./app.js").App} App */
/** @typedef {import("./ui/shell.js").Shell} Shell */

/** @typedef {import("./run.js").Run} Run */

/** @typedef {{name: string, title: string, place: number, metrics: string[], history?: History, wide?: boolean,
 *   applies?(run: Run): boolean, mount(shell: Shell, app: App): Part}} Panel: `place` orders the grid, 1 first; a panel
 *   that does not apply to a run, because the run holds nothing for it, is absent, and the others close up */

export {};
