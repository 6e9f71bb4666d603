// The machines, for administrators: what each is, how busy, and how many sessions it has. The WebSocket tells all of it.

import { liveAddress, readQuery, requestFor, send } from "./api.js";
import { Live, Repeater } from "./live.js";
import { ago, count, sessions as sessionsOf, shorten, visible } from "./words.js";

const PATH = "api/admin/server";
const ALL = readQuery(new URLSearchParams({ sortReverse: "false", limit: "" }));
const POLL = 10_000; // milliseconds, while the WebSocket is away
const GIB = 2 ** 30;
const BUSY = 0.9; // of a processor or of memory, from which on it catches the eye

export class Servers {
  #section;
  #list;
  #pick;
  #token = null;
  #servers = new Map();
  #drawing = false;
  #repeater = new Repeater((signal) => this.#ask(signal));
  #live = new Live({
    opened: (resumes) => {
      if (!resumes) this.#servers.clear(); // each that there is, is told anew
      this.#repeater.stop();
    },
    message: (text) => {
      const { id, data, revision } = JSON.parse(text);
      if (revision !== undefined) this.#live.since = revision;
      if (revision === null) this.#servers.clear(); // what has changed is not known, so all comes anew
      else if (revision !== undefined) return;
      else if (data) this.#servers.set(id, data);
      else this.#servers.delete(id);
      this.#drawSoon();
    },
    closed: () => this.#repeater.soon(),
    tokenEnded: () => this.rest(), // the list of sessions says so
  });

  /** `section` is a details element with a list in it; `pick` is called with the id of the server that was chosen. */
  constructor(section, pick) {
    this.#section = section;
    this.#list = section.querySelector("ul");
    this.#pick = pick;
  }

  follow(token) {
    if (token === this.#token) return;
    this.#token = token;
    this.#live.follow(liveAddress(PATH, token, ALL, true));
  }

  /** Ask no more; what is shown stays. */
  rest() {
    this.#token = null;
    this.#repeater.stop();
    this.#live.stop();
  }

  stop() {
    this.rest();
    this.#servers.clear();
    this.#section.hidden = true;
  }

  tryNow() {
    this.#live.tryNow();
  }

  async #ask(signal) {
    try {
      const { status, data, headers } = await send(requestFor(PATH, this.#token, ALL, "get"), signal);
      const list = data?.result ?? data;
      if (status === 200 && Array.isArray(list) && !this.#live.open) {
        this.#servers = new Map(list.map((server) => [server.id, server]));
        this.#live.since = headers.get("X-Revision");
        this.#drawSoon();
      }
    } catch {
      // What cannot be reached is told by the list of sessions, which asks the same place.
    }
    if (!signal.aborted && !this.#live.open) this.#repeater.in(POLL);
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      if (this.#token) this.#draw();
    });
  }

  #draw() {
    const servers = [...this.#servers.values()].sort((a, b) => (a.id < b.id ? -1 : 1));
    const total = servers.reduce((sum, { sessions }) => sum + sessions, 0);
    this.#section.hidden = !servers.length;
    this.#section.querySelector("summary span").textContent =
      `${count(servers.length)} machine${servers.length === 1 ? "" : "s"}, ${sessionsOf(total)}`;
    const items = new Map([...this.#list.children].map((item) => [item.dataset.id, item]));
    servers.forEach((server, index) => {
      const item = items.get(server.id) ?? this.#make(server.id);
      items.delete(server.id);
      fill(item, server);
      if (this.#list.children[index] !== item) this.#list.insertBefore(item, this.#list.children[index] ?? null);
    });
    for (const item of items.values()) item.remove();
  }

  #make(id) {
    const item = document.createElement("li");
    item.dataset.id = id;
    const button = add(item, "button", "name", shorten(visible(id)));
    button.type = "button";
    button.title = "Show only the sessions on this machine";
    button.addEventListener("click", () => this.#pick(id));
    for (const name of ["where", "cpu", "memory", "numbers"]) add(item, "p", name, "");
    return item;
  }
}

function add(parent, tag, name, text) {
  const element = document.createElement(tag);
  element.className = name;
  element.textContent = text;
  parent.append(element);
  return element;
}

function fill(item, server) {
  const [, where, cpu, memory, numbers] = item.children;
  const { hostname, serverPool, totalmem, freemem, loadavg, uptime } = server;
  where.textContent = [hostname === server.id ? "" : hostname, serverPool].filter(Boolean).map(visible).join(" · ");
  const used = totalmem && freemem !== null ? totalmem - freemem : null;
  gauge(cpu, "CPU", server.cpu === null ? null : server.cpu / 100, server.cpu === null ? "–" : `${Math.round(server.cpu)} %`);
  gauge(memory, "Memory", used === null ? null : used / totalmem,
    used === null ? "–" : `${(used / GIB).toFixed(1)} of ${(totalmem / GIB).toFixed(1)} GiB`);
  numbers.textContent = [
    sessionsOf(server.sessions), `${count(server.loggedInUsers)} login${server.loggedInUsers === 1 ? "" : "s"}`,
    loadavg ? `load ${loadavg[0]}` : "", uptime === null ? "" : `up ${ago(Date.now() - uptime * 1000).replace(/ ago$/, "")}`,
  ].filter(Boolean).join(" · ");
}

function gauge(element, name, share, text) {
  if (!element.firstChild) {
    add(element, "span", "label", name);
    const bar = add(element, "span", "bar-of", "");
    bar.setAttribute("aria-hidden", "true");
    add(bar, "span", "share", "");
    add(element, "span", "value", "");
  }
  const [, bar, value] = element.children;
  element.classList.toggle("busy", share >= BUSY);
  bar.firstChild.style.inlineSize = `${Math.round(Math.min(1, Math.max(0, share ?? 0)) * 100)}%`;
  value.textContent = text;
}
