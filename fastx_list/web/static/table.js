// The table: one row a session, kept as long as the session is listed, changed only where the session has.

import { filterFor, NONE } from "./find.js";
import { keep, kept } from "./keep.js";
import { SessionViews } from "./session.js";
import { ago, exact, lasting, nameOf, shorten, size, stateOf, visible } from "./words.js";

const MANY = 1000; // rows, more than the page offers to show
const FRESH = 4000, GONE = 3000; // milliseconds that what is new stands out, and that what has gone stays to be seen

const plain = (value) => {
  const text = Array.isArray(value) ? value.join(" ") : value ?? "";
  return { text: text === "" && value !== "" ? NONE : shorten(visible(text)) };
};
const given = (show) => (value) => (value === null || value === undefined ? plain(null) : show(value));
// What the page says is not shown as it is, by how
const SHOWN_AS = { times: given((since) => ({ since })), sizes: given((count) => ({ text: size(count) })), percents: given((value) => plain(`${value} %`)) };
// The page says which columns there are. Those are shown as the members they are named after, except for these.
const SPECIAL = {
  name: { show: (session) => plain(nameOf(session)) },
  login: { admin: true },
  state: { sortBy: "clients", show: stateOf },
  idleSince: { show: ({ idleSince }) => given((since) => ({ since, idle: true }))(idleSince) },
  display: { show: ({ display }) => plain(display === null ? null : `:${display}`) },
};

/** @type {Record<string, [number, number]>} How wide columns are at least, in rem, and their share of what is left. */
const WIDTHS = {
  name: [8, 2.4], login: [4, 1], state: [10.5, 0.5], windowMode: [3.75, 0], hostname: [5.5, 1.3], display: [4, 0], geometry: [4.75, 0],
  started: [5, 0], kind: [4, 0.5], clientAddresses: [6.5, 1], idleSince: [3, 0], cpu: [3, 0], memory: [4.5, 0],
};
const OTHERS = [5.5, 1], GAP = 0.6, EDGES = 2.2; // rem

/** Make an element: `make("td", { className: "name" }, child, …)`. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

export class Table {
  #body;
  #all; // columns, as the head of the page's table has them
  #times; // names of the members that are times
  #admin = false;
  #rows = new Map(); // by session id
  #fresh = new Map(); // elements that stand out, and until when
  #on;
  #views;
  #least = 0; // rem that all columns need beside each other
  /** @type {Set<string>} */
  #chosen; // names of the columns that are shown

  /** `table` has its head; the buttons there call `on.sort(name)`. Its body gets the sessions; what is chosen there of one calls
   * `on.only(filter)`, which people know by `on.label(filter)`. */
  constructor(table, on) {
    this.#on = on;
    [this.#body] = table.tBodies;
    this.#times = new Set(table.dataset.times.split(" "));
    this.#all = [...table.tHead.rows[0].cells].map((cell) => {
      const name = cell.className;
      const as = Object.keys(SHOWN_AS).find((kind) => table.dataset[kind].split(" ").includes(name));
      const show = (session) => (as ? SHOWN_AS[as] : plain)(session[name]);
      return { cell, name, label: cell.textContent, kind: as, sortBy: name, show, ...SPECIAL[name] };
    });
    const usual = this.#all.filter(({ cell }) => !("other" in cell.dataset)).map(({ name }) => name);
    const chosen = kept("columns")?.split(" ").filter((name) => this.#all.some((column) => column.name === name));
    this.#chosen = new Set(["name", ...(chosen ?? usual)]);
    const kinds = new Map(this.#all.map(({ name, kind }) => [name, kind]));
    this.#views = new SessionViews({ ...on, kind: (name) => kinds.get(name), admin: () => this.#admin });
    this.#offerColumns(document.querySelector("#columns fieldset"));
    this.#setWidths();
    new ResizeObserver(() => this.#fit()).observe(table.parentElement);
    for (const { cell, sortBy } of this.#all) cell.firstChild.addEventListener("click", () => on.sort(sortBy));
    this.#body.addEventListener("click", ({ target }) => this.#pick(target));
  }

  /** Whether an administrator looks, who is shown whose each session is. */
  set admin(admin) {
    if (admin !== this.#admin) this.clear();
    this.#admin = admin;
    this.#setWidths();
  }

  get #columns() {
    return this.#all.filter(({ name, admin }) => this.#chosen.has(name) && (this.#admin || !admin));
  }

  #offerColumns(fieldset) {
    for (const { name, label } of this.#all.filter((column) => column.name !== "name")) {
      const box = make("input", { type: "checkbox", checked: this.#chosen.has(name) });
      box.addEventListener("change", () => {
        if (box.checked) this.#chosen.add(name);
        else this.#chosen.delete(name);
        keep("columns", [...this.#chosen].join(" "));
        this.clear();
        this.#setWidths();
        this.#on.columns();
      });
      fieldset.append(make("label", { className: "tick" }, box, ` ${label}`));
    }
  }

  #setWidths() {
    const widths = this.#columns.map(({ name }) => WIDTHS[name] ?? OTHERS);
    const columns = widths.map(([least, share]) => (share ? `minmax(${least}rem, ${share}fr)` : `${least}rem`)).join(" ");
    this.#body.parentElement.style.setProperty("--columns", columns);
    this.#least = widths.reduce((sum, [least]) => sum + least + GAP, EDGES - GAP);
    this.#fit();
  }

  /** Where the columns have no room beside each other, each row is a card. */
  #fit() {
    const table = this.#body.parentElement;
    const rem = parseFloat(getComputedStyle(document.documentElement).fontSize);
    table.classList.toggle("cards", table.parentElement.clientWidth < this.#least * rem);
  }

  /** The names of the columns, and what each of these sessions has there: numbers and texts as the API has them, times in UTC. */
  records(sessions) {
    const columns = this.#columns;
    const value = ({ name, kind, show }, session) => {
      if (name === "name" || name === "state") return show(session).word ?? show(session).text;
      const found = session[name];
      return kind === "times" && found !== null && Math.abs(found) <= 8.64e15 ? new Date(found).toISOString() : found ?? "";
    };
    return [columns.map(({ label }) => label), ...sessions.map((session) => columns.map((column) => value(column, session)))];
  }

  /** What can be seen of the session, and what it was named by. */
  textOf(session) {
    const { command, id, params } = session;
    const values = Object.values(params ?? {}).filter((value) => typeof value !== "object");
    return [...this.#columns.map(({ show }) => show(session).text ?? ""), command ?? "", id, ...values].join("\n");
  }

  clear() {
    for (const { view } of this.#rows.values()) view?.close();
    this.#rows.clear();
    this.#fresh.clear();
    this.#body.replaceChildren();
  }

  /** Say by which name, and which way, the rows are sorted. */
  sorted(name, reverse) {
    for (const { cell, name: column, sortBy } of this.#all) {
      cell.hidden = !this.#columns.some((shown) => shown.name === column);
      cell.ariaSort = sortBy !== name ? null : reverse ? "descending" : "ascending";
    }
  }

  /**
   * Make these the rows, in this order. What is new, has changed or has gone stands out, and is returned. `why(id, missing)` tells
   * which of these ("fresh", "changed", "gone") has become of a session that comes or is missing; null if it has only moved from or
   * to another page. Without `why` another question was asked, and nothing is news.
   * @param {any[]} sessions
   * @param {((id: string, missing: boolean) => string | null) | null} why
   */
  show(sessions, why = null) {
    /** @type {{ fresh: any[], changed: any[], gone: any[], [become: string]: any[] }} */
    const news = { fresh: [], changed: [], gone: [] };
    const active = /** @type {HTMLElement} */ (document.activeElement);
    const focused = this.#body.contains(active) ? active : null;
    const listed = new Set(sessions.map(({ id }) => id));
    for (const [id, row] of this.#rows) {
      if (listed.has(id) || (row.goneAt && why)) continue;
      if (why?.(id, true)) {
        this.#setGone(row, Date.now() + GONE);
        news.gone.push(row.session);
      } else {
        this.#remove(id, row);
      }
    }
    this.#body.classList.toggle("many", sessions.length > MANY);
    let place = this.#body.firstElementChild;
    for (const session of sessions) {
      const row = this.#rows.get(session.id) ?? this.#add(session.id);
      const text = JSON.stringify(session);
      const comes = !row.session || row.goneAt;
      if (comes || row.text !== text) {
        this.#setGone(row, null);
        const changed = this.#fill(row, session, text);
        const become = comes ? why?.(session.id, false) : why && "changed";
        if (become) {
          this.#stress(row.element, become);
          if (!comes) changed.forEach((cell) => this.#stress(cell, "fresh"));
          news[become].push(session);
        }
      }
      while (this.#rows.get(place?.dataset.id)?.goneAt) place = after(place);
      if (place === row.element) place = after(place);
      else this.#body.insertBefore(row.element, place);
      if (row.details && row.details.previousSibling !== row.element) row.element.after(row.details);
    }
    if (focused?.isConnected) focused.focus({ preventScroll: true }); // a row that moves loses it
    return news;
  }

  /** Time goes on: "3 min ago" becomes "4 min ago", news get old, and what has gone goes. */
  tick() {
    const now = Date.now();
    for (const [id, row] of this.#rows) {
      if (row.goneAt && row.goneAt <= now) this.#remove(id, row);
      else for (const time of row.times) setTime(time, now);
      if (row.details) row.view.tick();
    }
    for (const [element, until] of this.#fresh) {
      if (until > now) continue;
      element.classList.remove("fresh", "changed");
      this.#fresh.delete(element);
    }
  }

  #add(id) {
    const cells = this.#columns.map(({ name }) => make("td", { role: "cell", className: `${name} ${this.#times.has(name) ? "" : "pick"}` },
      make("bdi")));
    const values = cells.map((cell) => cell.firstChild);
    const button = make("button", { type: "button", ariaExpanded: "false" });
    cells[0].append(button);
    button.append(values[0]);
    const row = { element: make("tr", { role: "row" }, ...cells), cells, values, keys: [], times: [], details: null, view: null, goneAt: null };
    row.element.dataset.id = id;
    button.addEventListener("click", () => this.#toggle(row, button));
    this.#rows.set(id, row);
    return row;
  }

  /** A cell that was clicked is a filter. Who has no mouse, or marks text, is not to make one by mistake; a session's own view has
   * all of them as buttons. */
  #pick(target) {
    const cell = target.closest("td.pick");
    const row = this.#rows.get(cell?.parentElement.dataset.id);
    if (!row || target.closest("button") || !getSelection()?.isCollapsed || !matchMedia("(hover: hover)").matches) return;
    const { name } = this.#columns[row.cells.indexOf(cell)];
    const filter = name === "state" ? `State: ${stateOf(row.session).word}` : name !== "name" && filterFor(name, row.session[name]);
    if (filter) this.#on.only(filter);
  }

  #remove(id, { element, details, view }) {
    if (element.contains(document.activeElement)) {
      (after(element) ?? before(element))?.querySelector("button").focus({ preventScroll: true });
    }
    view?.close();
    details?.remove();
    element.remove();
    this.#rows.delete(id);
  }

  #setGone(row, at) {
    row.goneAt = at;
    row.element.classList.toggle("gone", at !== null);
  }

  /** Write the session into its row; return the cells that say something else than before. */
  #fill(row, session, text) {
    Object.assign(row, { session, text });
    const changed = this.#columns.flatMap(({ name, show }, index) => {
      const { text: label, since = null, kind, idle = false } = show(session);
      const key = JSON.stringify([label, since, kind]);
      if (row.keys[index] === key) return [];
      row.keys[index] = key;
      if (kind) row.cells[index].dataset.kind = kind;
      row.cells[index].classList.toggle("none", label === NONE);
      if (name === "hostname") row.values[index].title = label; // which may be cut there
      row.values[index].replaceChildren(...(since === null ? [label]
        : idle ? [make("span", { textContent: "idle for " }), timeOf(since, true)] : label ? [label, " ", timeOf(since)] : [timeOf(since)]));
      return [row.cells[index]];
    });
    row.times = [...row.element.getElementsByTagName("time")];
    if (row.details) row.view.update(session);
    return changed;
  }

  #stress(element, how) {
    element.classList.add(how);
    this.#fresh.set(element, Date.now() + FRESH);
  }

  #toggle(row, button) {
    button.ariaExpanded = String(!row.details);
    if (row.details) {
      row.view.close();
      row.details.remove();
      row.details = null;
    } else {
      row.view = this.#views.open(row.session);
      row.details = make("tr", { role: "row", className: "details" },
        make("td", { role: "cell", colSpan: this.#columns.length }, row.view.element));
      row.element.after(row.details);
    }
  }
}

// Details belong to the row before them and are no row of their own.
function after(element) {
  const next = element.nextElementSibling;
  return next && !next.dataset.id ? next.nextElementSibling : next;
}

function before(element) {
  const previous = element.previousElementSibling;
  return previous && !previous.dataset.id ? previous.previousElementSibling : previous;
}

function timeOf(since, idle = false) {
  const time = make("time", { title: exact(since), since, idle });
  setTime(time, Date.now());
  return time;
}

function setTime(time, now) {
  const text = time.idle ? lasting((now - time.since) / 1000) : ago(time.since, now);
  if (time.textContent !== text) time.textContent = text;
}
