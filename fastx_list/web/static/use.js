// What sessions have used of processor and memory while one looked: what was told of them since the page was opened, and no more.

const LONG = 3_600_000; // milliseconds that are remembered
const MOST = 1000; // sessions, those told of last
const DENSE = 240; // samples of each; what is measured is told once a minute, what is simulated more often

export class Use {
  /** @type {Map<string, [number, number | null, number | null][]>} by session id: when, percent of a core, bytes */
  #samples = new Map();

  /** Remember what is told of this session. */
  take({ id, cpu = null, memory = null }, now = Date.now()) {
    const samples = this.#samples.get(id) ?? [];
    const last = samples[samples.length - 1];
    if (!last || last[1] !== cpu || last[2] !== memory) samples.push([now, cpu, memory]);
    // What held an hour ago is known from the sample before
    while (samples.length > DENSE || (samples.length > 1 && samples[1][0] <= now - LONG)) samples.shift();
    this.#samples.delete(id);
    this.#samples.set(id, samples);
    if (this.#samples.size > MOST) this.#samples.delete(String(this.#samples.keys().next().value));
  }

  clear() {
    this.#samples.clear();
  }

  /** The times and values of "cpu" or "memory" of a session, from when on one looked, the oldest first. */
  of(id, name, now = Date.now()) {
    const place = name === "cpu" ? 1 : 2;
    return (this.#samples.get(id) ?? []).filter((sample) => sample[place] !== null)
      .map((sample) => /** @type {[number, number]} */ ([Math.max(sample[0], now - LONG), sample[place]]));
  }
}
