// How old what is on the screen is, and how long the token still holds: a bar that stays in sight says so.

import { claimsOf } from "./api.js";
import { clock } from "./words.js";

const OLD = 40_000; // milliseconds without an answer, longer than one is waited for while all is well
const SOON = 5 * 60_000; // milliseconds before a token ends

export class Truth {
  #bar;
  /** @type {number | null} */
  #asOf = null; // when the list last said that all was up to date
  #reason = ""; // why it is not
  #ahead = 0; // milliseconds by which the list's clock is ahead of this one

  /** `bar` has a text for what is old, and one for a token that ends soon, with a button that calls `renew()`. */
  constructor(bar, renew) {
    this.#bar = bar;
    bar.querySelector("button").addEventListener("click", renew);
    // What else stays in sight stands below it
    new ResizeObserver(() => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`)).observe(bar);
  }

  /** The list has answered; `warning` is why it doubts what it said, if it does. */
  heard(headers, warning) {
    const date = Date.parse(headers.get("Date"));
    if (!Number.isNaN(date)) this.#ahead = date - Date.now();
    if (!warning) this.#asOf = Date.now();
    this.#reason = warning;
  }

  /** There is no answer. */
  missed(reason) {
    this.#reason = reason;
  }

  clear() {
    this.#asOf = null;
    this.#reason = "";
  }

  /** Draw it; `token` is null once it has ended. */
  draw(token) {
    const old = this.#asOf !== null && Date.now() - this.#asOf > OLD && !document.hidden;
    const reason = this.#reason || (old ? "the list has not answered since" : "");
    document.body.classList.toggle("old", reason !== "");
    const [said, soon] = this.#bar.children;
    say(said, !reason ? "" : this.#asOf === null ? `Out of date: ${reason}.` : `As of ${clock(this.#asOf)}: ${reason}.`);
    const ends = token ? claimsOf(token).exp * 1000 - this.#ahead : NaN;
    const left = ends - Date.now();
    soon.hidden = !(left > 0 && left <= SOON);
    if (!soon.hidden) say(soon.firstElementChild, `Your token ends at ${clock(ends)}.`);
    this.#bar.hidden = said.hidden && soon.hidden;
  }
}

// A screen reader says what is set, each time it is set.
function say(element, text) {
  element.hidden = !text;
  if (element.textContent !== text) element.textContent = text;
}
