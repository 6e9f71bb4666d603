// What people type to find a session: text, or a filter by a column's own name, as in "Host: node7". The API filters by exact
// values; what it cannot ask for (text within members, states) is looked for here, among the first sessions that it answers with.

import { nameOf, stateOf } from "./words.js";

export const LOOKED_THROUGH = 10_000; // sessions
export const NONE = "–"; // how a table shows that there is no value
/** @type {Record<string, string | undefined>} What those in a state have in common, for the API. */
const STATES = { connected: undefined, disconnected: "0", "never connected": "0", unknown: "" };
const MADE = /^(State|Session): (.+)$/s; // filters by columns that are made of several members

/** The columns and members, by all their names in lower case: the name that the API has for each, and its label. */
export class Names {
  #known = new Map();
  #labels = new Map();

  /** `pairs` are names and labels; of two with the same name in lower case the first counts. */
  constructor(pairs) {
    for (const [name, label] of pairs) {
      if (!this.#labels.has(name)) this.#labels.set(name, label);
      for (const key of [name, label].map((text) => text.toLowerCase())) {
        if (!this.#known.has(key)) this.#known.set(key, name);
      }
    }
  }

  find(typed) {
    return /^params\../.test(typed) ? typed : this.#known.get(typed.toLowerCase());
  }

  label(name) {
    return this.#labels.get(name) ?? name;
  }

  /** The label that is nearest to what was typed; undefined if none is near. */
  nearest(typed) {
    const text = typed.toLowerCase();
    const found = [...this.#known].map(([key, name]) => ({ name, far: distance(text, key) })).sort((a, b) => a.far - b.far)[0];
    return found && found.far <= Math.max(1, Math.floor(text.length / 3)) ? this.label(found.name) : undefined;
  }
}

/**
 * What was typed: `{ filter }`, `{ text }` to search for, or, if it is a filter by a name that there is not, `{ unknown, nearest }`
 * with the whole text mended as far as can be. `params` are names that sessions have been given.
 * @param {string} typed
 * @param {Names} names
 * @param {Set<string>} params
 * @returns {{ filter?: string, text?: string, unknown?: string, nearest?: string, why?: string }}
 */
export function parse(typed, names, params = new Set()) {
  const text = typed.trim();
  const quoted = /^"(.*)"$/s.exec(text);
  if (quoted) return { text: quoted[1] };
  const [, given, sign, said] = /^([^:="]{1,60}?)\s*(==|:)\s*(.*)$/s.exec(text) ?? [];
  if (!given) return { text };
  const name = names.find(given) ?? (params.has(given) ? `params.${given}` : undefined);
  const values = said.trim() === NONE ? "" : said.trim();
  if (name === "state") return stateFilter(values);
  if (name === "name") return values ? { filter: `Session: ${values}` } : { text };
  if (name) return sign === "==" || said.trim() ? { filter: `${name}==${values}` } : { text };
  const nearest = names.nearest(given);
  if (!nearest && sign === ":") return { text }; // such as a name with a colon in it
  return { unknown: given, nearest: nearest && `${nearest}: ${said}` };
}

function stateFilter(values) {
  const words = values.split(",").map((word) => word.trim().toLowerCase());
  const found = words.map((word) => word && Object.keys(STATES).find((state) => state.startsWith(word)));
  if (found.every(Boolean)) return { filter: `State: ${found.join(", ")}` };
  return { unknown: values, why: `State takes ${Object.keys(STATES).join(", ")}` };
}

/** The filter as people read it: "Host: node7". */
export function shown(filter, names) {
  const [name, values] = split(filter);
  return values === null ? filter : `${names.label(name)}: ${values || NONE}`;
}

/** The filter's name and values; null for values if it is none of the API's. */
export function split(filter) {
  const at = filter.indexOf("==");
  const [, made] = MADE.exec(filter) ?? [];
  return made ? [made, null] : at < 0 ? [filter, null] : [filter.slice(0, at).trim(), filter.slice(at + 2)];
}

/** The filter for exactly this value; null if there is none. */
export function filterFor(name, value) {
  if (value === null || value === undefined) return `${name}==`;
  const text = String(value);
  return typeof value === "object" || !text || text !== text.trim() || text.includes(",") ? null : `${name}==${text}`;
}

/** What of the question only this page can answer: whether a session is meant, by `textOf` it; null if the API answers all of it. */
function sieve({ search, filter }, textOf) {
  const made = filter.map((text) => MADE.exec(text)).filter(Boolean);
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (!made.length && !words.length) return null;
  return (session) => made.every(([, name, values]) => (name === "State"
    ? values.split(", ").includes(stateOf(session).word)
    : nameOf(session).toLowerCase().includes(values.toLowerCase())))
    && (!words.length || containsAll(textOf(session).toLowerCase(), words));
}

const containsAll = (text, words) => words.every((word) => text.includes(word));

/** The question to the API that has all sessions which this one is about among its answer's. */
export function asked(query) {
  const made = query.filter.map((text) => MADE.exec(text)).filter(Boolean);
  if (!made.length && !query.search.trim()) return query;
  const narrow = made.filter(([, name]) => name === "State").map(([, , values]) => values.split(", ").map((word) => STATES[word]));
  return {
    ...query, start: "", limit: String(LOOKED_THROUGH),
    filter: [
      ...query.filter.filter((text) => !MADE.test(text)),
      ...narrow.filter((values) => !values.includes(undefined)).map((values) => `clients==${[...new Set(values)].join(",")}`),
    ],
  };
}

/** The part of the answer's list that was asked for, how much there is of it, and whether it is `partial`, for there was too much to
 * look through. `textOf` a session is what can be searched for. */
export function pageOf(query, list, total, textOf) {
  const meant = sieve(query, textOf);
  if (!meant) return { rows: list, total, partial: false };
  const found = list.filter(meant);
  const start = Number(query.start) || 0;
  const rows = found.slice(start, query.limit ? start + Number(query.limit) : undefined);
  return { rows, total: found.length, partial: list.length < total };
}

/** How many letters are other, missing, too many, or changed about (optimal string alignment). */
function distance(a, b) {
  const rows = [Array.from({ length: b.length + 1 }, (_, index) => index)];
  for (let i = 1; i <= a.length; i += 1) {
    rows[i] = [i];
    for (let j = 1; j <= b.length; j += 1) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1;
      rows[i][j] = Math.min(rows[i - 1][j] + 1, rows[i][j - 1] + 1, rows[i - 1][j - 1] + same);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) rows[i][j] = Math.min(rows[i][j], rows[i - 2][j - 2] + 1);
    }
  }
  return rows[a.length][b.length];
}
