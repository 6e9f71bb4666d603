// The question as people put it: what they search for, filters, pages. The question itself is kept by the page.

import { filterFor, Names, parse, shown, split } from "./find.js";
import { make } from "./table.js";
import { count, shorten, visible } from "./words.js";

const PAGE_SIZES = ["10", "25", "50", "100", "250", "1000"];
const MOST_OFFERED = 50; // params, or values, to choose from
const TYPING = 200; // milliseconds without a key after which a search begins
/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);

export class QueryForm {
  /** @type {any} */
  #query = null;
  #change;
  #members = [...$("names").options].map(({ value }) => value); // that the page offers to filter and sort by
  #names;
  #columns; // names of those whose values are offered
  #params = new Set();
  /** @type {any[]} */
  #rows = []; // sessions on this page
  /** @type {number | undefined} */
  #typing;
  /** @type {string | null} */
  #entered = null; // what the search box had as Enter was pressed, until it is sent

  /** `change(parts, { method, quietly })` is called when the user wants another question. */
  constructor(change) {
    this.#change = change;
    const columns = [...$("table").tHead.rows[0].cells].map((cell) => [cell.className, cell.textContent]);
    this.#names = new Names([...columns, ...[...$("names").options].map(({ value, label }) => [value, label])]);
    this.#columns = columns.map(([name]) => name).filter((name) => !["name", "state", "started"].includes(name));
    $("rows-a-page").addEventListener("change", ({ target }) => change({ limit: target.value, start: "" }));
    for (const [id, way] of Object.entries({ previous: -1, following: 1 })) {
      $(id).addEventListener("click", () => {
        if ($(id).ariaDisabled !== "true") this.#turn(way);
      });
    }
    $("find").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#entered = null;
      this.#find($("search").value);
    });
    // In WebKit Enter closes the list of what is offered, and sends nothing
    $("search").addEventListener("keydown", ({ key, isComposing }) => {
      if (key === "Enter" && !isComposing) this.#entered = $("search").value;
    });
    $("search").addEventListener("keyup", ({ key }) => {
      if (key === "Enter" && this.#entered === $("search").value) $("find").requestSubmit();
    });
    $("search").addEventListener("focus", () => this.#offerValues());
    $("search").addEventListener("input", () => {
      clearTimeout(this.#typing);
      this.#refuse({});
      this.#typing = setTimeout(() => this.#search(), TYPING);
    });
    const [, nearest, asText] = $("unknown").children;
    nearest.addEventListener("click", () => this.#find(nearest.textContent));
    asText.addEventListener("click", () => this.#find(`"${$("search").value}"`));
    addEventListener("keydown", (event) => {
      const writes = /** @type {HTMLElement} */ (event.target).closest("input, select, textarea");
      const asks = event.key === "/" ? !writes && !event.ctrlKey && !event.metaKey && !event.altKey
        : event.key === "k" && (event.ctrlKey || event.metaKey);
      if (!asks || $("view").hidden) return;
      event.preventDefault();
      $("search").focus();
      $("search").select();
    });
    $("question").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#send();
    });
    $("question").addEventListener("change", ({ target }) => {
      if (target.name === "method") this.#send();
    });
  }

  showQuestion(query) {
    if (query === this.#query) return;
    this.#query = query;
    const { sortBy, sortReverse, start, limit, filter, search } = query;
    for (const [id, value] of Object.entries({ sortBy, start, limit })) $(id).value = value;
    $("sortReverse").checked = sortReverse;
    offer($("rows-a-page"), PAGE_SIZES.includes(limit) ? PAGE_SIZES : [...PAGE_SIZES, limit], (size) => size || "all");
    $("rows-a-page").value = limit;
    if (document.activeElement !== $("search")) $("search").value = search;
    $("filters").hidden = !filter.length;
    $("filters").replaceChildren(...filter.map((text, index) => this.#chip(text, index)));
  }

  /** Forget what was offered of sessions that are not to be seen any more. */
  clear() {
    clearTimeout(this.#typing);
    this.#query = null;
    this.#rows = [];
    this.#refuse({});
    $("search").value = "";
    $("offers").replaceChildren();
    $("filters").replaceChildren();
    offer($("names"), this.#members, (name) => this.#names.label(name));
  }

  /** Show which of how many sessions are on this page; `total` is null if nobody knows. */
  showRows({ start, limit }, total, rows) {
    const first = Number(start) || 0;
    const range = rows.length ? `${count(first + 1)}–${count(first + rows.length)}` : 0;
    $("range").textContent = total === null ? "" : `${range} of ${count(total)}`;
    // They are not disabled, which would take the focus from somebody who has just turned to the last page.
    $("previous").ariaDisabled = String(!first);
    $("following").ariaDisabled = String(total === null || !Number(limit) || first + Number(limit) >= total);
    this.#params = new Set(rows.flatMap(({ params }) => Object.keys(params ?? {})));
    const params = [...this.#params].slice(0, MOST_OFFERED).map((name) => `params.${name}`);
    offer($("names"), [...this.#members, ...params], (name) => this.#names.label(name));
    this.#rows = rows;
    if (document.activeElement === $("search")) this.#offerValues();
  }

  /** Offer what the sessions on this page are like; rows change often, and few people search meanwhile. */
  #offerValues() {
    const values = this.#columns.flatMap((name) => [...new Set(this.#rows.map((session) => filterFor(name, session[name])))]
      .filter(Boolean).slice(0, MOST_OFFERED).map((filter) => shown(filter, this.#names)));
    offer($("offers"), ["State: connected", "State: disconnected", ...values]);
  }

  /** Show only what is like this, in place of what the same name was to be. All other filters stay. */
  only(filter) {
    const [name] = split(filter);
    this.#change({ filter: [...this.#query.filter.filter((other) => split(other)[0] !== name), filter], start: "" });
  }

  label(filter) {
    return shown(filter, this.#names);
  }

  #chip(text, index) {
    const without = () => this.#query.filter.filter((_, other) => other !== index);
    const words = this.label(text);
    const edit = make("button", { type: "button", title: "Change this filter" }, make("bdi", { textContent: visible(words) }));
    const remove = make("button", { type: "button", textContent: "×", ariaLabel: `Remove filter ${visible(words)}` });
    edit.addEventListener("click", () => {
      $("search").value = words;
      $("search").focus();
      this.#change({ filter: without(), start: "", search: "" });
    });
    remove.addEventListener("click", () => {
      this.#change({ filter: without(), start: "" });
      $("search").focus();
    });
    return make("li", {}, edit, remove);
  }

  /** While somebody types: search for it, unless it becomes a filter. */
  #search() {
    const { text = "" } = parse($("search").value, this.#names, this.#params);
    if (text !== this.#query.search) this.#change({ search: text, start: "" }, { quietly: true });
  }

  #find(typed) {
    clearTimeout(this.#typing);
    const found = parse(typed, this.#names, this.#params);
    this.#refuse(found);
    $("search").focus();
    if (found.filter) {
      $("search").value = "";
      const others = this.#query.filter.filter((text) => text !== found.filter);
      this.#change({ filter: [...others, found.filter], search: "", start: "" });
    } else if (found.text !== undefined) {
      $("search").value = found.text;
      this.#change({ search: found.text, start: "" });
    }
  }

  /** @param {{ unknown?: string, nearest?: string, why?: string }} found */
  #refuse({ unknown, nearest, why }) {
    const [said, near, asText] = $("unknown").children;
    $("unknown").hidden = unknown === undefined;
    $("search").ariaInvalid = String(unknown !== undefined);
    said.textContent = why ? `${why}.` : `There is no column “${shorten(visible(unknown ?? ""), 40)}”${nearest ? "; did you mean" : "."}`;
    near.hidden = !nearest;
    near.textContent = nearest ?? "";
    asText.hidden = unknown === undefined;
  }

  #turn(way) {
    const start = Math.max(0, (Number(this.#query.start) || 0) + way * Number(this.#query.limit));
    this.#change({ start: start ? String(start) : "" });
  }

  #send() {
    const parts = Object.fromEntries(["sortBy", "start", "limit"].map((id) => [id, $(id).value.trim()]));
    this.#change({ ...parts, sortReverse: $("sortReverse").checked }, { method: $("question").elements.method.value });
  }
}

// Somebody may be choosing, so what is offered is touched only if it is not the same.
function offer(list, values, label = (_) => "") {
  if (JSON.stringify([...list.children].map(({ value }) => value)) === JSON.stringify(values)) return;
  list.replaceChildren(...values.map((value) => new Option(label(value), value)));
}
