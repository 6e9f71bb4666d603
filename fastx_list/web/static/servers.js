// The machines, for administrators: one line that sums up, and a table of what each is, how busy, and how many sessions it has. The
// WebSocket tells all of it; how busy each was is what it has told since the page was opened.

import { liveAddress, readQuery, requestFor, send } from "./api.js";
import { drawLine } from "./chart.js";
import { keep, kept } from "./keep.js";
import { Live, Repeater } from "./live.js";
import { make } from "./table.js";
import { ago, count, sessions as sessionsOf, shorten, visible } from "./words.js";

const PATH = "api/admin/server";
const ALL = readQuery(new URLSearchParams({ sortReverse: "false", limit: "" }));
const POLL = 10_000; // milliseconds, while the WebSocket is away
const BETWEEN_DRAWINGS = 500; // milliseconds, however much changes
const GIB = 2 ** 30;
const BUSY = 0.9; // of a processor or of memory, from which on it catches the eye
const AT_ONCE = 100; // rows, until somebody asks for more
const FEW = 4; // machines, which are shown before anybody asks
const WIDE = matchMedia("(min-width: 46rem)"); // but not where they would push the sessions away
const HOUR = 3_600_000, BETWEEN_SAMPLES = 20_000; // milliseconds

const used = ({ totalmem, freemem }) => (totalmem && freemem !== null ? (totalmem - freemem) / totalmem : null);
/** @type {Record<string, (server: any) => any>} What each column is sorted by. */
const KEYS = {
  id: ({ id }) => id.toLowerCase(), pool: ({ serverPool }) => serverPool?.toLowerCase() ?? null, sessions: ({ sessions }) => sessions,
  logins: ({ loggedInUsers }) => loggedInUsers, cpu: ({ cpu }) => cpu, hour: ({ cpu }) => cpu, memory: used,
  load: ({ loadavg }) => loadavg?.[0] ?? null, up: ({ uptime }) => uptime,
};
const UPWARDS = new Set(["id", "pool"]); // sorted so at first; of numbers the greatest come first

export class Servers {
  #section;
  #body;
  #more;
  #pick;
  #token = null;
  #servers = new Map();
  #samples = new Map(); // by server id: [when, load] within the last hour
  #rows = new Map();
  #order = { by: "cpu", upwards: false };
  #most = AT_ONCE;
  /** @type {number | undefined} */
  #drawing;
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
      else if (revision !== undefined) {
        if (this.#section.hidden) this.#draw(); // all that there are have come, and are not to push the sessions down later
        return;
      }
      else if (data) this.#take(data);
      else this.#servers.delete(id);
      this.#drawSoon();
    },
    closed: () => this.#repeater.soon(),
    tokenEnded: () => this.rest(), // the list of sessions says so
  });

  /** `section` is a details element with a table in it; `pick` is called with the id of the server that was chosen. */
  constructor(section, pick) {
    this.#section = section;
    this.#pick = pick;
    const table = section.querySelector("table");
    [this.#body] = table.tBodies;
    this.#more = section.querySelector("#more-machines");
    this.#more.addEventListener("click", () => {
      this.#most += AT_ONCE;
      this.#draw();
    });
    for (const cell of table.tHead.rows[0].cells) {
      cell.firstChild.addEventListener("click", () => {
        const by = cell.dataset.by;
        this.#order = { by, upwards: this.#order.by === by ? !this.#order.upwards : UPWARDS.has(by) };
        this.#draw(true);
      });
    }
    section.querySelector("summary").addEventListener("click", () => keep("machines", section.open ? "closed" : "open"));
    section.addEventListener("toggle", () => this.#draw());
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
    this.#samples.clear();
    this.#rows.clear();
    this.#body.replaceChildren();
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
        this.#servers.clear();
        list.forEach((server) => this.#take(server));
        this.#live.since = headers.get("X-Revision");
        this.#drawSoon();
      }
    } catch {
      // What cannot be reached is told by the list of sessions, which asks the same place.
    }
    if (!signal.aborted && !this.#live.open) this.#repeater.in(POLL);
  }

  #take(server) {
    this.#servers.set(server.id, server);
    if (server.cpu === null) return;
    const now = Date.now();
    const samples = (this.#samples.get(server.id) ?? []).filter(([at]) => now - at < HOUR);
    const last = samples.length > 1 && now - samples[samples.length - 2][0] < BETWEEN_SAMPLES ? samples.pop() : null;
    samples.push([now, last ? Math.max(last[1], server.cpu) : server.cpu]);
    this.#samples.set(server.id, samples);
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = setTimeout(() => {
      this.#drawing = undefined;
      if (this.#token) this.#draw();
    }, BETWEEN_DRAWINGS);
  }

  #draw(anew = false) {
    const servers = [...this.#servers.values()];
    if (this.#section.hidden && servers.length) { // the first of them
      const was = kept("machines");
      this.#section.open = was ? was === "open" : servers.length <= FEW && WIDE.matches;
    }
    this.#section.hidden = !servers.length;
    this.#section.querySelector("summary span").textContent = sum(servers);
    if (!this.#section.open) return;
    const shown = this.#sorted(servers, anew).slice(0, this.#most);
    const going = new Map(this.#rows);
    const watched = Math.min(...[...this.#samples.values()].map(([[at]]) => at)); // since when
    shown.forEach((server, index) => {
      const row = this.#rows.get(server.id) ?? this.#make(server.id);
      going.delete(server.id);
      fill(row, server, this.#samples.get(server.id) ?? [], watched);
      if (this.#body.children[index] !== row) this.#body.insertBefore(row, this.#body.children[index] ?? null);
    });
    for (const [id, row] of going) {
      row.remove();
      this.#rows.delete(id);
    }
    for (const id of this.#samples.keys()) if (!this.#servers.has(id)) this.#samples.delete(id);
    this.#more.hidden = shown.length === servers.length;
    this.#more.textContent = `${count(Math.min(AT_ONCE, servers.length - shown.length))} more of ${count(servers.length)}`;
    for (const cell of this.#section.querySelectorAll("thead th")) {
      cell.ariaSort = cell.dataset.by !== this.#order.by ? null : this.#order.upwards ? "ascending" : "descending";
    }
  }

  /** While somebody points at them they stay where they are. */
  #sorted(servers, anew) {
    const { by, upwards } = this.#order;
    const place = new Map([...this.#rows.keys()].map((id) => [id, [...this.#body.children].indexOf(this.#rows.get(id))]));
    const held = !anew && (this.#body.matches(":hover") || this.#body.contains(document.activeElement));
    const keyed = servers.map((server) => ({ server, key: KEYS[by](server), at: place.get(server.id) ?? Infinity }));
    keyed.sort((a, b) => (held && a.at !== b.at ? a.at - b.at : compare(a.key, b.key, upwards))
      || compare(a.server.id, b.server.id, true));
    return keyed.map(({ server }) => server);
  }

  #make(id) {
    const button = make("button", { type: "button", title: "Show only the sessions on this machine" },
      make("bdi", { textContent: shorten(visible(id)) }));
    button.addEventListener("click", () => this.#pick(id));
    const cells = Object.keys(KEYS).map((name) => make("td", { className: name }));
    cells[0].append(button, make("small"));
    const row = make("tr", {}, ...cells);
    row.dataset.id = id;
    this.#rows.set(id, row);
    return row;
  }
}

// What is unknown comes last, whichever way.
function compare(a, b, upwards) {
  if (a === null || b === null) return Number(a === null) - Number(b === null);
  return (a < b ? -1 : a > b ? 1 : 0) * (upwards ? 1 : -1);
}

/** One line of all of them. */
function sum(servers) {
  const known = servers.filter(({ cpu }) => cpu !== null);
  const [busiest] = [...known].sort((a, b) => b.cpu - a.cpu);
  const memory = servers.filter((server) => used(server) !== null);
  const troubled = servers.filter(({ problems }) => problems?.length).length;
  const mean = (values) => Math.round(values.reduce((total, value) => total + value, 0) / values.length);
  return [
    `${count(servers.length)} machine${servers.length === 1 ? "" : "s"}`,
    sessionsOf(servers.reduce((total, { sessions }) => total + sessions, 0)),
    known.length ? `CPU ${mean(known.map(({ cpu }) => cpu))} %` : "",
    memory.length ? `memory ${mean(memory.map((server) => (used(server) ?? 0) * 100))} %` : "",
    servers.length > 1 && busiest ? `busiest ${shorten(visible(busiest.id), 40)}, ${Math.round(busiest.cpu)} %` : "",
    troubled ? `${count(troubled)} with problems` : "",
  ].filter(Boolean).join(" · ");
}

function fill(row, server, samples, watched) {
  const [name, pool, sessions, logins, cpu, hour, memory, load, up] = row.cells;
  const { id, hostname, serverPool, totalmem, loadavg, uptime, problems } = server;
  const share = used(server);
  say(name.lastChild, problems?.length ? `⚠ ${shorten(visible(problems.join("; ")), 120)}` : hostname === id ? "" : visible(hostname));
  say(pool, serverPool ? visible(serverPool) : "–");
  say(sessions, count(server.sessions));
  say(logins, count(server.loggedInUsers));
  gauge(cpu, server.cpu === null ? null : server.cpu / 100, server.cpu === null ? "–" : `${Math.round(server.cpu)} %`);
  drawHour(hour, samples, watched);
  gauge(memory, share, share === null ? "–" : `${(share * totalmem / GIB).toFixed(1)} of ${(totalmem / GIB).toFixed(1)} GiB`);
  say(load, loadavg ? String(loadavg[0]) : "–");
  say(up, uptime === null ? "–" : ago(Date.now() - uptime * 1000).replace(/ ago$/, ""));
}

function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

function gauge(cell, share, text) {
  if (!cell.firstChild) cell.append(make("span", { className: "bar-of", ariaHidden: "true" }, make("span")), make("span"));
  const [bar, value] = cell.children;
  cell.classList.toggle("busy", share >= BUSY);
  bar.firstChild.style.inlineSize = `${Math.round(Math.min(1, Math.max(0, share ?? 0)) * 100)}%`;
  say(value, text);
}

/** The load over the last hour, or as much of it as one has watched. */
function drawHour(cell, samples, watched) {
  if (samples.length < 2) return say(cell, "–");
  const [until] = samples[samples.length - 1];
  const loads = samples.map(([, load]) => Math.round(load));
  drawLine(cell, samples, {
    since: Math.max(watched, until - HOUR), until, top: 100,
    label: `${Math.min(...loads)} to ${Math.max(...loads)} % since ${ago(samples[0][0])}`,
  });
}
