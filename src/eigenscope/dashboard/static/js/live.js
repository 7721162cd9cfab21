// The page's one WebSocket: opened again, with growing pauses, whenever it is lost.

import { parse } from "./api.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 10_000;

/** @typedef {{phase: "connecting"|"open"|"lost", attempt: number, retryAt: number}} Link: `retryAt` in ms of Date.now() */

export class Live {
  /**
   * @param {(message: import("./types.js").Message) => void} onMessage
   * @param {(link: Link) => void} onLink
   */
  constructor(onMessage, onLink) {
    this.onMessage = onMessage;
    this.onLink = onLink;
    /** @type {string|null} */ this.run = null;
    /** @type {WebSocket|null} */ this.socket = null;
    this.attempt = 0;
    this.timer = 0;
    addEventListener("online", () => this.retryNow());
  }

  /** @param {string|null} run the run to follow; null follows the list of runs alone */
  watch(run) {
    this.run = run;
    this.attempt = 0;
    this.open();
  }

  /** Follow nothing until the next `watch`. */
  rest() {
    clearTimeout(this.timer);
    this.drop();
    this.socket = null;
  }

  retryNow() {
    if (this.socket?.readyState !== WebSocket.OPEN) this.open();
  }

  open() {
    clearTimeout(this.timer);
    this.drop();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const query = this.run === null ? "" : `?run=${encodeURIComponent(this.run)}`;
    const socket = new WebSocket(`${scheme}://${location.host}/api/live${query}`);
    this.socket = socket;
    socket.onopen = () => {
      this.attempt = 0;
      this.onLink({ phase: "open", attempt: 0, retryAt: 0 });
    };
    socket.onmessage = (event) => this.onMessage(/** @type {import("./types.js").Message} */ (parse(event.data)));
    socket.onclose = () => this.retryLater();
  }

  /** Forget the present socket without hearing of its end. */
  drop() {
    if (!this.socket) return;
    this.socket.onopen = this.socket.onmessage = this.socket.onclose = null;
    this.socket.close();
  }

  retryLater() {
    const pause = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** this.attempt) * (0.8 + 0.4 * Math.random());
    this.attempt += 1;
    this.timer = setTimeout(() => this.open(), pause);
    this.onLink({ phase: "lost", attempt: this.attempt, retryAt: Date.now() + pause });
  }
}
