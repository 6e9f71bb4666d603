// The tester's bench: the request, its response and the WebSocket's messages as they are. The token is shown as $TOKEN.

import { textOf } from "./api.js";
import { copy, COPIES } from "./copies.js";
import { make } from "./table.js";
import { Tries } from "./try.js";
import { count, visible } from "./words.js";

const MOST_CHARACTERS = 100_000; // of a response's JSON, so that the page stays quick
const BETWEEN_ANSWERS = 1000; // milliseconds, for the same reason and so that somebody can read
const MOST_MESSAGES = 200;
const HEADERS = ["Content-Type", "ETag", "X-Revision", "X-Total-Count", "Cache-Control", "Warning", "WWW-Authenticate", "Retry-After"];
/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);

export class Bench {
  #tokens = new Set(); // that are hidden
  #token = null; // what is tried is tried with
  #tries = new Tries({ token: () => this.#token, masked: (text) => this.#masked(text) });
  /** @type {any} */
  #request = null; // what copies are made of
  #url = "";
  #live = "";
  /** @type {any} */
  #answer = null;
  #answerDrawn = -Infinity;
  /** @type {number | undefined} */
  #answerTimer;
  /** @type {{ text: string, event: boolean, at: Date }[]} */
  #messages = []; // the newest last
  #undrawn = 0; // how many of them are not on the screen yet
  #count = 0;
  #drawing = false;

  constructor() {
    $("bench").addEventListener("toggle", () => this.#draw());
    const copies = { "copy-url": () => this.#url, "copy-curl": () => COPIES.curl(this.#request), "copy-live": () => this.#live };
    for (const [id, text] of Object.entries(copies)) $(id).addEventListener("click", ({ target }) => copy(text(), target));
    $("pause").addEventListener("click", () => {
      $("pause").ariaPressed = String(!this.#paused);
      this.#drawSoon();
    });
    $("clear").addEventListener("click", () => this.#clear());
  }

  /** Show the request that is `sent` and what can be copied: it without its condition, the same as a `url`, and the WebSocket's. */
  asks({ sent, request, url, live }) {
    [this.#request, this.#url, this.#live] = [request, url, live];
    $("request").textContent = this.#masked(textOf(sent));
    $("address").textContent = this.#masked(live);
  }

  /** Show the response; one without a body leaves the last body, which it confirms. */
  answered(answer) {
    const { status, statusText, milliseconds, bytes, headers } = answer;
    const facts = [`${status} ${statusText}`.trim(), `${count(Math.round(milliseconds))} ms`, `${count(bytes)} bytes`];
    $("status").textContent = facts.join(" · ");
    $("status").dataset.ok = String(status < 400);
    const sent = HEADERS.filter((name) => headers.has(name));
    $("headers").textContent = sent.map((name) => `${name}: ${headers.get(name)}`).join("\n");
    if (status !== 304) this.#answer = answer;
    this.#drawAnswer();
  }

  /** Say why there is no response. */
  failed(reason) {
    clearTimeout(this.#answerTimer);
    $("status").textContent = reason;
    $("status").dataset.ok = "false";
    $("headers").textContent = $("response").textContent = "";
    $("cut").hidden = true;
  }

  /** Show a message of the WebSocket, or, as `event`, what became of the WebSocket. */
  took(text, event = false) {
    this.#count += event ? 0 : 1;
    this.#messages.push({ text: this.#masked(text), event, at: new Date() });
    if (this.#messages.length > MOST_MESSAGES) this.#messages.shift();
    this.#undrawn = Math.min(this.#undrawn + 1, MOST_MESSAGES);
    this.#drawSoon();
  }

  /** Hide this token from now on. Forget all that was seen with the last one, unless it was the same user's. */
  begin(token, same = false) {
    if (!same) this.#forget();
    this.#token = token;
    if (token) this.#tokens.add(token);
  }

  #forget() {
    this.#tokens.clear();
    this.#url = this.#live = "";
    this.#request = this.#answer = null;
    $("cut").hidden = true;
    for (const id of ["request", "address", "status", "headers", "response"]) $(id).textContent = "";
    this.#clear();
    this.#tries.forget();
  }

  get #paused() {
    return $("pause").ariaPressed === "true";
  }

  #masked(text) {
    return [...this.#tokens].reduce((shown, token) => shown.replaceAll(token, "$TOKEN"), text);
  }

  #clear() {
    this.#messages = [];
    this.#undrawn = this.#count = 0;
    $("messages").replaceChildren();
    this.#drawCount();
  }

  #draw() {
    this.#drawAnswer();
    this.#drawMessages();
  }

  #drawAnswer() {
    clearTimeout(this.#answerTimer);
    if (!$("bench").open || !this.#answer) return;
    const wait = this.#answerDrawn + BETWEEN_ANSWERS - performance.now();
    if (wait > 0) {
      this.#answerTimer = setTimeout(() => this.#drawAnswer(), wait);
      return;
    }
    this.#answerDrawn = performance.now();
    const { data, text } = this.#answer;
    const whole = data === undefined ? text : JSON.stringify(data, null, 2);
    const shown = this.#masked(whole).slice(0, MOST_CHARACTERS);
    if ($("response").textContent !== shown) $("response").textContent = shown; // somebody may be reading or marking it
    $("cut").hidden = whole.length <= MOST_CHARACTERS;
    $("cut").textContent = `The first ${count(MOST_CHARACTERS)} of ${count(whole.length)} characters are shown.`;
  }

  #drawSoon() {
    if (this.#drawing) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#drawMessages();
    });
  }

  #drawMessages() {
    if (!$("bench").open || this.#paused) return;
    const news = this.#messages.slice(this.#messages.length - this.#undrawn).reverse().map(messageOf);
    this.#undrawn = 0;
    $("messages").prepend(...news);
    while ($("messages").children.length > MOST_MESSAGES) $("messages").lastChild.remove();
    this.#drawCount();
  }

  #drawCount() {
    $("count").textContent = `${count(this.#count)} message${this.#count === 1 ? "" : "s"}`;
  }
}

function messageOf({ text, event, at }) {
  const time = make("span", { className: "when", textContent: at.toTimeString().slice(0, 8) });
  if (event) return make("li", { className: "event" }, time, " ", text);
  const details = make("details", {}, make("summary", {}, time, " ", make("bdi", { textContent: visible(text.slice(0, 300)) })));
  details.addEventListener("toggle", () => {
    details.append(make("pre", { tabIndex: 0, textContent: JSON.stringify(JSON.parse(text), null, 2) }));
  }, { once: true });
  return make("li", {}, details);
}
