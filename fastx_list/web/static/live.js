// Staying up to date: a WebSocket that comes back by itself, and a request that is repeated, but never too often.

const FIRST_WAIT = 500, LONGEST_WAIT = 30_000; // milliseconds between attempts
const OPEN_MILLISECONDS = 10_000;
const BETWEEN_REQUESTS = 250; // at most four a second, however much changes
const LONG = 3; // how much longer than the last one took
const TOKEN_ENDED = 4401;

/** How long to wait before the next attempt: twice as long each time, and not in step with everybody else's browser. */
export class Backoff {
  #wait = FIRST_WAIT;

  next() {
    const wait = this.#wait * (0.75 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT);
    return wait;
  }

  reset() {
    this.#wait = FIRST_WAIT;
  }
}

/** A WebSocket that reconnects until it is stopped. A new address takes over from the old one without a gap. */
export class Live {
  open = false;
  failed = false;
  /** @type {number | null} */
  nextAt = null; // when the next attempt is due, in milliseconds as Date.now() counts
  /** @type {string | null} */
  since = null; // the revision of what is known already, so that only what has changed since is sent
  /** @type {string | null} */
  #address = null;
  /** @type {WebSocket | null} */
  #socket = null;
  /** @type {number | undefined} */
  #timer;
  #backoff = new Backoff();
  #on;

  /** `on` has opened(resumes), message(text), closed(code, reason) and tokenEnded(reason). */
  constructor(on) {
    this.#on = on;
  }

  follow(address) {
    if (address === this.#address) return;
    this.#address = address;
    this.since = null;
    this.tryNow();
  }

  /** Make the next attempt at once; a connection that stands stays until the new one does. */
  tryNow() {
    if (!this.#address) return;
    this.#backoff.reset();
    this.#connect();
  }

  stop() {
    clearTimeout(this.#timer);
    this.#socket?.close();
    this.#socket = this.#address = this.nextAt = this.since = null;
    this.open = this.failed = false;
  }

  #connect() {
    clearTimeout(this.#timer);
    this.nextAt = null;
    const before = this.#socket;
    const url = new URL(/** @type {string} */ (this.#address));
    const resumes = this.since !== null;
    if (this.since !== null) url.searchParams.set("since", this.since);
    const socket = this.#socket = new WebSocket(url);
    const late = setTimeout(() => socket.close(), OPEN_MILLISECONDS);
    socket.onopen = () => {
      clearTimeout(late);
      before?.close();
      if (socket !== this.#socket) return;
      this.open = true;
      this.failed = false;
      this.#backoff.reset();
      this.#on.opened(resumes);
    };
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#on.message(data);
    };
    socket.onclose = ({ code, reason }) => {
      clearTimeout(late);
      before?.close();
      if (socket !== this.#socket) return;
      this.open = false;
      this.failed = true;
      if (code === TOKEN_ENDED) return this.#on.tokenEnded(reason);
      const wait = this.#backoff.next();
      this.nextAt = Date.now() + wait;
      this.#timer = setTimeout(() => this.#connect(), wait);
      this.#on.closed(code, reason);
    };
  }
}

/** Runs one action again and again, one at a time: what is wanted meanwhile is done once, after it. Rests while nobody looks. */
export class Repeater {
  /** @type {number | null} */
  nextAt = null;
  #action;
  /** @type {AbortController | null} */
  #running = null;
  #wanted = false;
  #between = BETWEEN_REQUESTS;
  #begun = -Infinity;
  /** @type {number | undefined} */
  #timer;
  /** @type {number | undefined} */
  #later;

  constructor(action) {
    this.#action = action;
    document.addEventListener("visibilitychange", () => this.#go());
  }

  soon() {
    this.#wanted = true;
    this.#go();
  }

  /** Give up what is running, for something else is to be asked. */
  now() {
    this.#abort();
    this.#begun = -Infinity;
    this.soon();
  }

  in(milliseconds) {
    clearTimeout(this.#later);
    this.nextAt = Date.now() + milliseconds;
    this.#later = setTimeout(() => this.soon(), milliseconds);
  }

  stop() {
    this.#abort();
    clearTimeout(this.#later);
    this.#wanted = false;
    this.nextAt = null;
  }

  #abort() {
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
    this.#timer = undefined;
  }

  #go() {
    if (!this.#wanted || this.#running || this.#timer || document.hidden) return;
    this.#timer = setTimeout(() => this.#run(), Math.max(0, this.#begun + this.#between - performance.now()));
  }

  async #run() {
    const running = this.#running = new AbortController();
    this.nextAt = null;
    this.#timer = undefined;
    clearTimeout(this.#later);
    this.#wanted = false;
    this.#begun = performance.now();
    try {
      await this.#action(running.signal);
    } finally {
      if (this.#running === running) this.#running = null;
      // What takes long is asked less often
      this.#between = Math.max(BETWEEN_REQUESTS, LONG * (performance.now() - this.#begun));
      this.#go();
    }
  }
}
