// The history, in a tab of its own: sessions that run and that have ended, the last ended first.

import { requestFor, send } from "./api.js";
import { asked, LOOKED_THROUGH, Names, NONE, pageOf, parse, shown } from "./find.js";
import { Repeater } from "./live.js";
import { save } from "./save.js";
import { make } from "./table.js";
import { clock, count, exact, lasting, nameOf, sessions as sessionsOf, shorten, visible } from "./words.js";

const AGAIN = 30_000; // milliseconds after which it is read again, for sessions end while one looks
const PAGE = 50;
const DAY = 86_400_000; // milliseconds
const NOTHING = { sortBy: "", sortReverse: false, start: "", limit: String(PAGE), filter: [], search: "", since: "", until: "" };
/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);

/** @type {Record<string, (session: any) => string | HTMLElement>} What the columns show that are not shown as they are. */
const SHOWN = {
  name: (session) => shorten(nameOf(session)),
  began: ({ began }) => moment(began),
  ended: ({ ended }) => (ended === null ? "runs" : moment(ended)),
  lasted: ({ began, ended }) => lasting(((ended ?? Date.now()) - began) / 1000),
  connectedSeconds: ({ connectedSeconds }) => (connectedSeconds ? lasting(connectedSeconds) : NONE),
  addresses: ({ addresses }) => visible(addresses.join(" ")) || NONE,
};

export class Past {
  #query = NOTHING;
  #token;
  #path = "";
  #ended;
  #names;
  #heads = /** @type {HTMLTableCellElement[]} */ ([...$("past-table").tHead.rows[0].cells]);
  #drawn = ""; // what the rows say
  #repeater = new Repeater((signal) => this.#ask(signal));

  /** `on` has token(), and tokenEnded(reason). */
  constructor(on) {
    this.#token = on.token;
    this.#ended = on.tokenEnded;
    const labels = this.#heads.filter(({ dataset }) => dataset.by).map(({ dataset, textContent }) => [dataset.by, textContent]);
    this.#names = new Names([...labels, ...[...$("names").options].map(({ value, label }) => [value, label])]);
    for (const tab of this.#tabs) {
      tab.addEventListener("click", () => this.#choose(tab));
      tab.addEventListener("keydown", ({ key }) => {
        if (!["ArrowLeft", "ArrowRight"].includes(key)) return;
        const [other] = this.#tabs.filter((one) => one !== tab);
        this.#choose(other);
        other.focus();
      });
    }
    $("past-find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#find($("past-search").value);
    });
    for (const name of ["since", "until"]) $(name).addEventListener("change", () => this.#change(this.#days()));
    for (const [id, way] of Object.entries({ "past-previous": -1, "past-following": 1 })) {
      $(id).addEventListener("click", () => $(id).ariaDisabled !== "true" && this.#turn(way));
    }
    for (const { firstElementChild: button, dataset } of this.#heads) {
      button?.addEventListener("click", () => {
        const reverse = this.#query.sortBy === dataset.by && !this.#query.sortReverse;
        this.#change({ sortBy: dataset.by, sortReverse: reverse });
      });
    }
    $("past-csv").addEventListener("click", () => this.#save());
  }

  /** Whether an administrator looks. */
  set admin(admin) {
    this.#path = admin ? "api/admin/history" : "api/history";
    for (const head of this.#heads) if (head.dataset.by === "login") head.hidden = !admin;
    this.#redraw([]);
  }

  /** Ask no more. */
  rest() {
    this.#repeater.stop();
  }

  /** Forget all that was asked and shown. */
  clear() {
    this.rest();
    this.#query = NOTHING;
    $("past-find").reset();
    this.#say("");
    this.#redraw([]);
    this.#drawFilters();
    this.#choose(this.#tabs[0]);
  }

  /** Look again, if it is looked at. */
  look() {
    if (!$("past").hidden) this.#repeater.now();
  }

  get #tabs() {
    return /** @type {HTMLElement[]} */ ([...$("tabs").children]);
  }

  #choose(chosen) {
    for (const tab of this.#tabs) {
      tab.ariaSelected = String(tab === chosen);
      tab.tabIndex = tab === chosen ? 0 : -1;
      $(String(tab.getAttribute("aria-controls"))).hidden = tab !== chosen;
    }
    if ($("past").hidden) this.rest();
    else this.#repeater.now();
  }

  #days() {
    const [since, until] = ["since", "until"].map((id) => ($(id).value ? new Date(`${$(id).value}T00:00`).valueOf() : NaN));
    const text = (time) => (Number.isNaN(time) ? "" : String(time));
    return { since: text(since), until: text(until + DAY) };
  }

  #find(typed) {
    const { filter, text, unknown, nearest, why } = parse(typed, this.#names);
    this.#say(unknown === undefined ? "" : why ?? `There is no column “${shorten(visible(unknown), 40)}”${nearest ? `; did you mean ${nearest}?` : "."}`);
    if (filter) {
      $("past-search").value = "";
      this.#change({ filter: [...this.#query.filter.filter((other) => other !== filter), filter], search: "" });
    } else if (text !== undefined) {
      this.#change({ search: text });
    }
  }

  #turn(way) {
    const start = Math.max(0, (Number(this.#query.start) || 0) + way * PAGE);
    this.#change({ start: String(start || "") });
  }

  #change(parts) {
    this.#query = { ...this.#query, start: "", ...parts };
    this.#drawFilters();
    this.#repeater.now();
  }

  async #ask(signal) {
    const query = this.#query;
    try {
      const { status, data, headers } = await send(requestFor(this.#path, this.#token(), asked(query), "get"), signal);
      const list = data?.result ?? data;
      if (status === 401) return this.#ended(data?.error?.message ?? "");
      if (status !== 200 || !Array.isArray(list)) throw new Error(data?.error?.message ?? `the answer has status ${status}`);
      this.#show(pageOf(query, list, totalOf(headers), textOf));
    } catch (error) {
      if (signal.aborted) return;
      this.#say(`No history: ${/** @type {Error} */ (error).message}`);
    }
    this.#repeater.in(AGAIN);
  }

  #show({ rows, total, partial }) {
    const first = Number(this.#query.start) || 0;
    this.#say(partial ? `Looked through the last ${count(LOOKED_THROUGH)} sessions.` : total ? "" : "No session matches.");
    $("past-range").textContent = rows.length ? `${count(first + 1)}–${count(first + rows.length)} of ${countOf(total)}` : total ? "" : sessionsOf(0);
    $("past-previous").ariaDisabled = String(!first);
    $("past-following").ariaDisabled = String(first + PAGE >= total);
    this.#redraw(rows);
  }

  // Somebody may be reading or marking it, so it is touched only if it says something else.
  #redraw(rows) {
    const { sortBy, sortReverse } = this.#query;
    for (const head of this.#heads) head.ariaSort = sortBy && head.dataset.by === sortBy ? (sortReverse ? "descending" : "ascending") : null;
    const columns = this.#heads.filter(({ hidden }) => !hidden).map(({ className, dataset }) => ({ className, by: dataset.by ?? className }));
    const text = JSON.stringify([columns, rows]);
    if (text === this.#drawn) return;
    this.#drawn = text;
    $("past-table").hidden = !rows.length;
    $("past-table").tBodies[0].replaceChildren(...rows.map((session) => make("tr", { role: "row" }, ...columns.map(({ className, by }) => {
      const said = SHOWN[by]?.(session) ?? (shorten(visible(session[by] ?? "")) || NONE);
      return make("td", { role: "cell", className: said === NONE ? `${className} none` : className }, typeof said === "string" ? make("bdi", { textContent: said }) : said);
    }))));
  }

  #drawFilters() {
    $("past-filters").hidden = !this.#query.filter.length;
    $("past-filters").replaceChildren(...this.#query.filter.map((filter) => {
      const words = visible(shown(filter, this.#names));
      const remove = make("button", { type: "button", textContent: "×", ariaLabel: `Remove filter ${words}` });
      remove.addEventListener("click", () => {
        this.#change({ filter: this.#query.filter.filter((other) => other !== filter) });
        $("past-search").focus();
      });
      return make("li", {}, make("bdi", { textContent: words }), remove);
    }));
  }

  /** All that the filters find, as the API writes it. The token stays out of the browser's list of downloads. */
  async #save() {
    const question = { ...asked({ ...this.#query, search: "" }), start: "", limit: String(LOOKED_THROUGH), format: "csv" };
    try {
      const { status, text, data, headers } = await send(requestFor(this.#path, this.#token(), question, "get"), new AbortController().signal);
      if (status !== 200) throw new Error(data?.error?.message ?? `the answer has status ${status}`);
      save("history.csv", "text/csv", text);
      const total = totalOf(headers);
      if (total > LOOKED_THROUGH) this.#say(`The file has the last ${count(LOOKED_THROUGH)} of ${countOf(total)} sessions.`);
    } catch (error) {
      this.#say(`Not saved: ${/** @type {Error} */ (error).message}`);
    }
  }

  #say(text) {
    if ($("past-said").textContent !== text) $("past-said").textContent = text; // a screen reader says what is set
  }
}

// The API leaves the number out where it does not count them all
const totalOf = (headers) => Number(headers.get("X-Total-Count") ?? Infinity);
const countOf = (total) => (total === Infinity ? "over 100,000" : count(total));

const moment = (time) => make("time", { title: exact(time), textContent: clock(time) });

/** What can be searched for in a session of the history. */
const textOf = (session) => [nameOf(session), ...Object.values(session), ...Object.values(session.params ?? {})].join("\n");
