// What the monitor proposes to do, each with Apply and Dismiss; training goes on meanwhile.

import { stateOf } from "../actions.js";
import { byId, changes, h, setText } from "../dom.js";
import { capital, count } from "../format.js";
import { refusal } from "./alertlog.js";
import { sign } from "./shell.js";

/** @typedef {import("../types.js").Action} Action */
/** @typedef {import("../types.js").App} App */
/** @typedef {import("../run.js").Run} Run */

/** @param {"apply"|"dismiss"} verb @param {Run} run @returns {string} an answer, and when it is carried out */
function said(verb, run) {
  if (verb === "dismiss") return "Dismiss was pressed.";
  const trial = run.actions.find(({ state }) => state === "applied");
  const when = trial ? `once action ${trial.key} has been judged` : "between the next two steps";
  return `Apply was pressed: it is applied ${when}.`;
}

/** @param {App} app @returns {import("../types.js").Part} */
export function proposals(app) {
  const root = byId("proposals");
  /** @type {Map<string, Card>} */ const cards = new Map();
  const changed = changes();
  return {
    draw() {
      const run = app.primary;
      if (!changed(run, run?.seen.actions, run?.hasEnded)) return;
      const open = new Map(run?.proposals().map((action) => [`${run.id} ${action.key}`, action]));
      for (const [key, card] of cards) if (!open.has(key)) close(cards, key, card);
      for (const [key, action] of open) {
        const card = cards.get(key) ?? new Card(app, /** @type {Run} */ (run), action);
        if (!cards.has(key)) root.append(card.root);
        cards.set(key, card);
        card.show(action);
      }
      root.hidden = open.size === 0;
    },
  };
}

/** @param {Map<string, Card>} cards @param {string} key @param {Card} card Focus does not get lost with it. */
function close(cards, key, card) {
  const hadFocus = card.root.contains(document.activeElement);
  cards.delete(key);
  card.root.remove();
  if (hadFocus) byId("actions").focus({ preventScroll: true });
}

class Card {
  /** @param {App} app @param {Run} run @param {Action} action */
  constructor(app, run, action) {
    this.app = app;
    this.run = run;
    this.action = action;
    this.why = h("span", { class: "reason" });
    this.note = h("span", { class: "note", role: "status" });
    this.buttons = [this.button("Apply", "apply"), this.button("Dismiss", "dismiss")];
    this.root = h(
      "div",
      { class: "proposal", role: "group", "aria-label": `Proposed: ${action.words}`, "data-key": action.key, tabindex: "-1" },
      h(
        "p",
        null,
        h("span", { class: "chip", text: `${sign("none")} proposed` }),
        h("strong", { text: action.words.toUpperCase() }),
        this.why,
        this.note,
      ),
      h("div", { class: "answers" }, ...this.buttons),
    );
  }

  /** @param {string} text @param {"apply"|"dismiss"} verb */
  button(text, verb) {
    return h("button", {
      type: "button",
      class: verb === "apply" ? "solid" : "quiet",
      text,
      "aria-label": `${text}: ${this.action.words}`,
      on: { click: () => void this.press(verb) },
    });
  }

  /** @param {Action} action */
  show(action) {
    this.action = action;
    const { alert, criterion, key, log } = action;
    const since = log[0] ? `Proposed at step ${count(log[0].step)}` : "Proposed";
    const why = `${capital(alert.message)} then`; // the banner above says how it stands now
    setText(this.why, `${since} as action ${key}. ${why}; it helps if ${criterion}, and is undone by itself if not.`);
    if (action.asked) setText(this.note, said(action.asked, this.run));
    this.enable(!action.asked);
  }

  /** @param {boolean} enabled */
  enable(enabled) {
    if (!enabled && this.root.contains(document.activeElement)) this.root.focus(); // a disabled button would lose it
    for (const button of this.buttons) button.disabled = !enabled;
  }

  /** @param {"apply"|"dismiss"} verb */
  async press(verb) {
    this.enable(false);
    setText(this.note, "");
    try {
      await this.run.answer(this.action, verb);
    } catch (error) {
      setText(this.note, refusal(verb === "apply" ? "Not applied" : "Not dismissed", error));
      this.enable(!this.action.asked);
    }
    this.app.touched();
  }
}

/** @param {App} app @returns {import("../types.js").Part} tells a screen reader what is proposed and what became of it */
export function actionAnnouncer(app) {
  /** @type {Run|null} */ let run = null;
  /** @type {Map<number, string>} */ let told = new Map();
  return {
    draw() {
      const now = new Map(app.primary?.actions.map((action) => [action.key, action.state]));
      const news = app.primary === run ? app.primary?.actions.filter(({ key, state }) => told.get(key) !== state) : [];
      if (news?.length) setText(byId("announce-actions"), news.map(announced).join(" "));
      run = app.primary?.info ? app.primary : null;
      told = now;
    },
  };
}

/** @param {Action} action @returns {string} */
function announced(action) {
  if (action.state === "proposed")
    return `Proposed: ${action.words}. Answer with the buttons Apply and Dismiss below the status.`;
  return `${capital(stateOf(action)[1])}: ${action.words}. ${capital(action.note)}`;
}
