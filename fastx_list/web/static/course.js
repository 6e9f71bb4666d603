// What has become of a session: what history says of it, in a sentence, and its last events.

import { requestFor, send } from "./api.js";
import { Repeater } from "./live.js";
import { make } from "./table.js";
import { clock, count, exact, lasting, visible } from "./words.js";

const MOST = 10; // events
const HOUR = 3_600_000; // ms, by which the clocks of machines may differ
const QUESTION = { sortBy: "", sortReverse: false, start: "", limit: "1", search: "" };

/** @type {Record<string, (event: any) => string>} What each kind of event is called. */
const SAID = {
  sessionBegan: ({ again }) => (again ? "is there again" : "began"),
  clientConnected: (event) => `a client connected; ${now(event)}`,
  clientLeft: (event) => `a client left; ${now(event)}`,
  sessionEnded: ({ serverLost }) => (serverLost ? "ended with its machine" : "ended"),
  paramsSet: ({ names }) => `set ${visible((names ?? []).join(", "))}`,
};

export class Course {
  element = make("div", { className: "course" });
  #past = make("p", { role: "status" });
  #events = make("ol", { ariaLabel: "Events, last first" });
  #on;
  #session;
  #drawn = "";
  #repeater = new Repeater((signal) => this.#ask(signal));

  /** `on` has token() and admin(). */
  constructor(on, session) {
    this.#on = on;
    this.element.append(this.#past, this.#events);
    this.look(session);
  }

  /** Ask what has become of the session, unless it is as it was but for what is measured. */
  look(session) {
    const { cpu, memory, idleSince, ...settled } = session;
    const text = JSON.stringify(settled);
    if (text === this.#session?.text) return;
    this.#session = { ...session, text };
    this.#repeater.soon();
  }

  /** Ask no more. */
  stop() {
    this.#repeater.stop();
  }

  async #ask(signal) {
    const { id, login } = this.#session;
    try {
      const [past] = await this.#answer("history", { ...QUESTION, filter: [`id==${id}`] }, signal);
      if (past) this.#past.textContent = courseOf(past);
      const filter = [`session==${id}`, ...(login.includes(",") ? [] : [`login==${login}`])]; // of one login it takes less
      const since = past ? String(Math.max(0, past.began - HOUR)) : ""; // there are none before it, which need not be looked at
      this.#draw(await this.#answer("events", { ...QUESTION, sortReverse: true, limit: String(MOST), since, filter }, signal));
    } catch {
      // What cannot be reached is told by the list of sessions, which asks the same place.
    }
  }

  async #answer(what, query, signal) {
    const path = this.#on.admin() ? `api/admin/${what}` : `api/${what}`;
    const { status, data } = await send(requestFor(path, this.#on.token(), query, "get"), signal);
    const list = data?.result ?? data;
    return status === 200 && Array.isArray(list) ? list : [];
  }

  #draw(events) {
    const text = JSON.stringify(events);
    if (text === this.#drawn) return;
    this.#drawn = text;
    this.#events.replaceChildren(...events.map((event) => make("li", {},
      make("time", { title: exact(event.at), textContent: clock(event.at) }), ` ${SAID[event.event]?.(event) ?? visible(event.event)}`)));
  }
}

/** Who is connected from then on. */
function now({ clients, addresses }) {
  const from = addresses?.length ? `, from ${addresses.map(visible).join(", ")}` : "";
  return clients === null || clients === undefined ? "nobody knows how many are" : `${clients ? count(clients) : "nobody"} connected${from}`;
}

/** What history says of a session, in a sentence. */
function courseOf({ began, ended, connectedSeconds, addresses }) {
  return [
    `Began ${exact(began)}`, ended === null ? "" : `ended ${exact(ended)}`,
    `clients were connected for ${connectedSeconds ? lasting(connectedSeconds) : "no time"}${addresses.length ? `, from ${addresses.map(visible).join(", ")}` : ""}`,
  ].filter(Boolean).join("; ") + ".";
}
