// Any request to the API, also a wrong one, and any WebSocket: each is kept with its answer, whatever the page itself asks meanwhile.

import { send, socketAddress, textOf } from "./api.js";
import { copy, COPIES } from "./copies.js";
import { make } from "./table.js";
import { count, visible } from "./words.js";

const MOST = 50; // requests and WebSockets that are kept
const MOST_CHARACTERS = 100_000; // of an answer
const MOST_MESSAGES = 200; // of a WebSocket
const FORM = "application/x-www-form-urlencoded", JSON_TYPE = "application/json";
// Refused, or read as the API says
const ODD = {
  sortBy: ["no such member", ""], sortReverse: ["maybe"], start: ["-1", "x"], limit: ["-1", "1.5", "99999999999999999999"],
  filter: ["clients", "nothing==1", "clients==x"], unknown: ["1"], sortby: ["started"],
};
const ODD_MOMENTS = { since: ["yesterday", "2026-02-30"], until: ["-1"], format: ["xml"] };
const ODD_EVENTS = { since: ["no such event"], sortBy: ["at"] };
/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);

/** What can be tried at once, by name. What `writes` is never sent but by itself. */
const EXAMPLES = [
  { name: "Every parameter", query: "sortBy=started\nsortReverse=true\nstart=0\nlimit=10\nfilter=clients==0,1" },
  { name: "Every parameter as JSON", method: "POST", kind: "json", body: '{"sortBy": "started", "sortReverse": true, "start": 0, "limit": 10, "filter": ["clients==0,1"]}' },
  { name: "Every parameter as a form", method: "POST", kind: "form", body: "sortBy=started\nsortReverse=true\nstart=0\nlimit=10\nfilter=clients==0,1" },
  { name: "History", path: "api/history", query: "since=2026-01-01\nuntil=2099-01-01T03:12:00Z\nlimit=10" },
  { name: "History as CSV", path: "api/history", query: "format=csv\nlimit=10" },
  { name: "Events", path: "api/events", query: "since=2026-01-01\nsortReverse=true\nlimit=10" },
  { name: "Events of a kind", path: "api/events", query: "filter=event==clientConnected,clientLeft" },
  { name: "No token", token: "none" }, { name: "Wrong token", token: "wrong" },
  { name: "Token in Authorization", token: "bearer" }, { name: "Token in X-FASTX-TOKEN", token: "header" },
  { name: "Token in the query", token: "query" }, { name: "Token in the body", method: "POST", kind: "form", token: "body" },
  ...odd("api/list", ODD), ...odd("api/history", ODD_MOMENTS), ...odd("api/events", ODD_EVENTS),
  { name: "Wrong method", method: "DELETE" }, { name: "Wrong address", path: "api/nothing" },
  { name: "Wrong JSON", method: "POST", kind: "json", body: '{"limit": ' },
  { name: "Wrong params call", path: "api/params", method: "POST", kind: "json", body: '{"id": "nobody", "params": 7}' },
  { name: "Params call", path: "api/params", method: "POST", kind: "json", writes: true },
].map((example) => ({ path: "api/list", method: "GET", token: "path", query: "", headers: "", kind: "none", body: "", writes: false, ...example }));

function odd(path, values) {
  return Object.entries(values).flatMap(([name, texts]) => texts.map((text) => ({ name: `${name}=${text}`, path, query: `${name}=${text}` })));
}

export class Tries {
  #token;
  #masked;
  /** @type {Map<HTMLElement, () => void>} What is kept, the newest last, and how to end it. */
  #kept = new Map();
  #busy = false;
  #disconnect = () => {};

  /** `on` has token() and masked(text). */
  constructor(on) {
    this.#token = on.token;
    this.#masked = on.masked;
    $("try-example").append(...EXAMPLES.map(({ name }, index) => new Option(name, String(index))));
    $("try-example").addEventListener("change", ({ target }) => fill(EXAMPLES[target.value]));
    $("try-request").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#all([read()]);
    });
    $("try-all").addEventListener("click", () => this.#all(EXAMPLES.filter(({ writes }) => !writes)));
    $("try-socket").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#connect();
    });
    $("try-disconnect").addEventListener("click", () => this.#disconnect());
    $("try-clear").addEventListener("click", () => this.clear());
    fill(EXAMPLES[0]);
  }

  /** Forget all that was tried and typed. */
  forget() {
    this.clear();
    $("try-socket").reset();
    fill(EXAMPLES[0]);
    $("try-example").value = "0";
  }

  /** Forget all that was tried. */
  clear() {
    for (const end of this.#kept.values()) end();
    this.#kept.clear();
    $("tries").replaceChildren();
    say("");
  }

  async #all(asked) {
    if (this.#busy) return;
    this.#busy = true;
    try {
      for (const one of asked) await this.#send(one);
    } finally {
      this.#busy = false;
    }
  }

  async #send(asked) {
    say("");
    let request;
    try {
      request = requestOf(asked, this.#token() ?? "");
    } catch (error) {
      return say(/** @type {Error} */ (error).message);
    }
    const at = new Date(), aborts = new AbortController();
    const { element, summary, body } = this.#keep(at, `${request.method} ${new URL(request.url).pathname}${new URL(request.url).search}`, () => aborts.abort());
    body.append(make("pre", { tabIndex: 0, textContent: this.#masked(textOf(request)) }), copiesOf(request));
    try {
      const { status, statusText, milliseconds, bytes, headers, text, data } = await send(request, aborts.signal);
      summary.textContent = `${status} ${statusText} · ${count(Math.round(milliseconds))} ms · ${count(bytes)} bytes`;
      element.dataset.ok = String(status < 400);
      const whole = this.#masked(data === undefined ? text : JSON.stringify(data, null, 2));
      const said = [...headers].map(([name, value]) => `${name}: ${value}`).join("\n");
      body.append(make("pre", { tabIndex: 0, textContent: this.#masked(said) }), make("pre", { tabIndex: 0, textContent: whole.slice(0, MOST_CHARACTERS) }));
      if (whole.length > MOST_CHARACTERS) body.append(make("p", { textContent: `The first ${count(MOST_CHARACTERS)} of ${count(whole.length)} characters.` }));
    } catch (error) {
      if (aborts.signal.aborted) return;
      summary.textContent = /** @type {Error} */ (error).message;
      element.dataset.ok = "false";
    }
  }

  #connect() {
    say("");
    const pairs = ["snapshot", "since", "bookmarks"].map((name) => [name, $(`try-${name}`).value.trim()]).filter(([, value]) => value);
    pairs.push(...linesOf($("try-filter").value).map((text) => ["filter", text]));
    const token = { none: [], wrong: [["token", wrongOf(this.#token() ?? "")]] }[$("try-socket-token").value] ?? [["token", this.#token() ?? ""]];
    const address = socketAddress($("try-socket-path").value.trim(), [...token, ...pairs]);
    let socket;
    try {
      socket = new WebSocket(address);
    } catch (error) {
      return say(/** @type {Error} */ (error).message);
    }
    this.#disconnect();
    const kept = this.#keep(new Date(), `WebSocket ${new URL(address).pathname}${new URL(address).search}`, () => socket.close());
    this.#disconnect = () => socket.close();
    const messages = make("ol", { className: "messages", tabIndex: 0, ariaLabel: "Messages of this one, newest first" });
    kept.body.append(make("pre", { tabIndex: 0, textContent: this.#masked(address) }), messages);
    kept.element.open = true;
    let heard = 0;
    const tell = (text) => {
      const time = make("span", { className: "when", textContent: new Date().toTimeString().slice(0, 8) });
      messages.prepend(make("li", {}, time, " ", make("bdi", { textContent: visible(this.#masked(text)).slice(0, 2000) })));
      if (messages.children.length > MOST_MESSAGES) messages.lastChild?.remove();
    };
    const state = (text) => {
      kept.summary.textContent = `${text} · ${count(heard)} message${heard === 1 ? "" : "s"}`;
      $("try-disconnect").disabled = socket.readyState > 1;
    };
    state("connecting …");
    socket.onopen = () => state("open");
    socket.onmessage = ({ data }) => {
      heard += 1;
      tell(data);
      state("open");
    };
    socket.onclose = ({ code, reason }) => {
      kept.element.dataset.ok = String(code === 1000 || code === 1005);
      tell(`closed, ${code} ${reason}`.trim());
      state(`closed, ${code} ${reason}`.trim());
    };
  }

  /** A new entry in the list: its summary's last part and its body are to be filled. */
  #keep(at, what, end) {
    const summary = make("b", { textContent: "…" });
    const body = make("div");
    const element = make("details", {}, make("summary", {},
      make("span", { className: "when", textContent: at.toTimeString().slice(0, 8) }), " ",
      make("bdi", { textContent: visible(this.#masked(what)) }), " ", summary), body);
    $("tries").prepend(make("li", {}, element));
    this.#kept.set(element, end);
    for (const [oldest, stop] of [...this.#kept].slice(0, -MOST)) {
      stop();
      oldest.parentElement?.remove();
      this.#kept.delete(oldest);
    }
    return { element, summary, body };
  }
}

function fill({ path, method, token, query, headers, kind, body, writes }) {
  const first = /** @type {HTMLElement | null} */ (document.querySelector("#rows tr[data-id]"));
  const call = writes ? JSON.stringify({ id: first?.dataset.id ?? "", params: { name: "Thesis" } }) : body;
  for (const [name, value] of Object.entries({ path, method, token, query, headers, kind, body: call })) $(`try-${name}`).value = value;
}

function read() {
  const names = ["path", "method", "token", "query", "headers", "kind", "body"];
  return Object.fromEntries(names.map((name) => [name, $(`try-${name}`).value]));
}

/** The request that was put together; throws an Error for people where a browser cannot send it. */
function requestOf({ path, method, token: place, query, headers: given, kind, body: typed }, token) {
  const url = new URL(path.trim(), document.baseURI);
  if (url.origin !== location.origin) throw new Error("The token goes to this host alone.");
  const headers = Object.fromEntries(linesOf(given).map((line) => line.split(/:\s*(.*)/s, 2)));
  const pairs = [...url.searchParams, ...pairsOf(query)];
  let body = kind === "none" ? undefined : kind === "form" ? new URLSearchParams(pairsOf(typed)).toString() : typed;
  if (kind === "form") headers["Content-Type"] ??= FORM;
  if (kind === "json") headers["Content-Type"] ??= JSON_TYPE;
  if (place === "path") url.pathname += `/${encodeURIComponent(token)}`;
  if (place === "wrong") url.pathname += `/${encodeURIComponent(wrongOf(token))}`;
  if (place === "bearer") headers.Authorization = `Bearer ${token}`;
  if (place === "header") headers["X-FASTX-TOKEN"] = token;
  if (place === "query") pairs.push(["token", token]);
  if (place === "body") body = bodyWith(token, kind, body);
  url.search = new URLSearchParams(pairs).toString();
  new Request(url, { method, headers, body }); // throws for what a browser does not send
  return { method, url: url.href, headers, body };
}

function bodyWith(token, kind, body = "") {
  if (kind === "json") return JSON.stringify({ ...JSON.parse(body || "{}"), token });
  if (kind !== "form") throw new Error("A token in the body goes into a form or JSON.");
  return new URLSearchParams([...new URLSearchParams(body), ["token", token]]).toString();
}

/** A token of the same form that does not hold; it is on the screen, so nothing of the signature is in it. */
const wrongOf = (token) => token.replace(/[^.]*$/, (signature) => "A".repeat(signature.length));
const linesOf = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const pairsOf = (text) => linesOf(text).map((line) => [line.split("=", 1)[0], line.slice(line.split("=", 1)[0].length + 1)]);

function copiesOf(request) {
  const buttons = Object.entries(COPIES).map(([name, text]) => {
    const button = make("button", { type: "button", textContent: name, ariaLabel: `Copy as ${name}`, title: "With your token in it" });
    button.addEventListener("click", () => copy(text(request), button));
    return button;
  });
  return make("p", { className: "line" }, "Copy as", ...buttons, make("span", { className: "copied quiet", role: "status" }));
}

function say(text) {
  $("try-said").textContent = text;
}
