// What has happened, said aloud in few words however much it is: one polite sentence every few seconds.

import { count, nameOf, shorten } from "./words.js";

const BETWEEN = 2500; // milliseconds, so that a screen reader can finish a sentence before the next

export class News {
  #element;
  #told = { New: new Map(), Changed: new Map(), Gone: new Map() }; // by session id
  /** @type {number | undefined} */
  #timer;

  constructor(element) {
    this.#element = element;
  }

  /** Collect these sessions, to be said together with what else comes soon. */
  add({ fresh, changed, gone }) {
    for (const [kind, sessions] of [["New", fresh], ["Changed", changed], ["Gone", gone]]) {
      for (const session of sessions) this.#told[kind].set(session.id, session);
    }
    if (fresh.length + changed.length + gone.length) this.#timer ??= setTimeout(() => this.#tell(), BETWEEN);
  }

  /** Say this now; what was collected is out of date. */
  say(text) {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    Object.values(this.#told).forEach((sessions) => sessions.clear());
    this.#element.textContent = text;
  }

  clear() {
    this.say("");
  }

  #tell() {
    const kinds = Object.entries(this.#told).filter(([, sessions]) => sessions.size);
    const [[kind, sessions]] = kinds;
    const [only] = kinds.length === 1 && sessions.size === 1 ? sessions.values() : [];
    this.say(only ? `${kind}: ${shorten(nameOf(only))}`
      : kinds.map(([name, { size }]) => `${count(size)} ${name.toLowerCase()}`).join(", "));
  }
}
