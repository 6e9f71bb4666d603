// The question as people put it: filters, pages, and on the bench every parameter. The question itself is kept by the page.

import { make } from "./table.js";
import { count } from "./words.js";

const PAGE_SIZES = ["10", "25", "50", "100", "250", "1000"];
const MOST_OFFERED = 50; // params, or values, to choose from
/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);

export class QueryForm {
  /** @type {any} */
  #query = null;
  #rows = [];
  #change;
  #members = [...$("names").options].map(({ value }) => value); // that the page offers to filter and sort by

  /** `change(parts, method)` is called when the user wants another question. */
  constructor(change) {
    this.#change = change;
    $("rows-a-page").addEventListener("change", ({ target }) => change({ limit: target.value, start: "" }));
    for (const [id, way] of Object.entries({ previous: -1, following: 1 })) {
      $(id).addEventListener("click", () => {
        if ($(id).ariaDisabled !== "true") this.#turn(way);
      });
    }
    $("filter").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#add();
    });
    $("member").addEventListener("change", () => this.#offerValues());
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
    const { sortBy, sortReverse, start, limit, filter } = query;
    for (const [id, value] of Object.entries({ sortBy, start, limit })) $(id).value = value;
    $("sortReverse").checked = sortReverse;
    offer($("rows-a-page"), PAGE_SIZES.includes(limit) ? PAGE_SIZES : [...PAGE_SIZES, limit], (size) => size || "all");
    $("rows-a-page").value = limit;
    $("filters").hidden = !filter.length;
    $("filters").replaceChildren(...filter.map((text, index) => this.#chip(text, index)));
  }

  /** Show which of how many sessions are on this page; `total` is null if nobody knows. */
  showRows({ start, limit }, total, rows) {
    const first = Number(start) || 0;
    const shown = rows.length ? `${count(first + 1)}–${count(first + rows.length)}` : 0;
    $("range").textContent = total === null ? "" : `${shown} of ${count(total)}`;
    // They are not disabled, which would take the focus from somebody who has just turned to the last page.
    $("previous").ariaDisabled = String(!first);
    $("following").ariaDisabled = String(total === null || !Number(limit) || first + Number(limit) >= total);
    this.#rows = rows;
    const params = new Set(rows.flatMap(({ params }) => Object.keys(params ?? {})));
    offer($("names"), [...this.#members, ...[...params].slice(0, MOST_OFFERED).map((name) => `params.${name}`)]);
  }

  #chip(text, index) {
    const without = () => this.#query.filter.filter((_, other) => other !== index);
    const edit = make("button", { type: "button", title: "Change this filter" }, make("bdi", { textContent: text }));
    const remove = make("button", { type: "button", textContent: "×", ariaLabel: `Remove filter ${text}` });
    edit.addEventListener("click", () => {
      const [name, values] = split(text);
      [$("member").value, $("values").value] = [name, values];
      this.#change({ filter: without(), start: "" });
      $("values").focus();
    });
    remove.addEventListener("click", () => {
      this.#change({ filter: without(), start: "" });
      $("member").focus();
    });
    return make("li", {}, edit, remove);
  }

  #add() {
    const [member, values] = [$("member").value.trim(), $("values").value.trim()];
    if (!member) return $("member").focus();
    const text = member.includes("==") && !values ? member : `${member}==${values}`;
    $("member").value = $("values").value = "";
    $("member").focus();
    this.#change({ filter: [...this.#query.filter, text], start: "" });
  }

  #turn(way) {
    const start = Math.max(0, (Number(this.#query.start) || 0) + way * Number(this.#query.limit));
    this.#change({ start: start ? String(start) : "" });
  }

  #send() {
    const parts = Object.fromEntries(["sortBy", "start", "limit"].map((id) => [id, $(id).value.trim()]));
    this.#change({ ...parts, sortReverse: $("sortReverse").checked }, $("question").elements.method.value);
  }

  #offerValues() {
    const name = $("member").value.trim();
    const values = this.#rows.map((session) => session[name] ?? session.params?.[name.replace(/^params\./, "")]);
    const seen = [...new Set(values.filter((value) => ["string", "number", "boolean"].includes(typeof value)).map(String))];
    offer($("seen"), seen.sort().slice(0, MOST_OFFERED));
  }
}

// Somebody may be choosing, so what is offered is touched only if it is not the same.
function offer(list, values, label = (_) => "") {
  if (JSON.stringify([...list.children].map(({ value }) => value)) === JSON.stringify(values)) return;
  list.replaceChildren(...values.map((value) => new Option(label(value), value)));
}

const split = (text) => {
  const at = text.indexOf("==");
  return at < 0 ? [text, ""] : [text.slice(0, at), text.slice(at + 2)];
};
