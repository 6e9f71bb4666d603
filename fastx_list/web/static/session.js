// A session's own view, below its row: how to connect, what it is called, what it uses, what has become of it, and all its members.

import { claimsOf, send } from "./api.js";
import { drawLine, steps } from "./chart.js";
import { Course } from "./course.js";
import { filterFor } from "./find.js";
import { make } from "./table.js";
import { exact, lasting, size, visible } from "./words.js";

const NEVER = new AbortController().signal;

const CHARTS = [
  { name: "cpu", label: "CPU", say: (percent) => `${percent} %`, least: 100 },
  { name: "memory", label: "Memory", say: size, least: 1 },
];

/** What the view needs of the page. */
export class SessionViews {
  #on;
  #template = document.body.dataset.connect ?? "";

  /** `on` has token(), admin(), label(filter), only(filter), copy(text, button), use (see use.js), and kind(name), which is "times"
   * or "sizes" of members that are such. */
  constructor(on) {
    this.#on = on;
  }

  /** Return the view of this session: an element, `update(session)`, `tick()` for what time alone changes, and `close()`. */
  open(session) {
    const members = make("div");
    const course = new Course(this.#on, session);
    const actions = make("div", { className: "line" });
    const charts = CHARTS.map((chart) => ({ ...chart, figure: make("figure", {}, make("figcaption", {}, make("b"), make("span", { className: "quiet" })), make("div")) }));
    const element = make("div", {}, actions, make("div", { className: "charts" }, ...charts.map(({ figure }) => figure)), course.element, members);
    let shown = session;
    this.#act(actions, () => shown);
    const tick = () => charts.forEach((chart) => this.#chart(chart, shown));
    const update = (now) => {
      shown = now;
      members.replaceChildren(this.#members(now));
      const [link] = actions.children;
      const address = connectAddress(this.#template, now);
      link.hidden = !address;
      if (address) link.href = address;
      course.look(now);
      tick();
    };
    update(session);
    return { element, update, tick, close: () => course.stop() };
  }

  /** What the session has used since one has looked: in words, and as a line. */
  #chart({ figure, name, label, say, least }, session) {
    const now = Date.now(), samples = this.#on.use.of(session.id, name, now);
    figure.hidden = session[name] === null || session[name] === undefined || !samples.length;
    if (figure.hidden) return;
    const values = samples.map(([, value]) => value), [lowest, highest] = [Math.min(...values), Math.max(...values)];
    const since = samples[0][0], [caption, place] = figure.children;
    const range = say(lowest) === say(highest) ? "the same" : `${say(lowest)} to ${say(highest)}`;
    const words = [`${label} ${say(values[values.length - 1])}`, `, ${range} in the last ${lasting((now - since) / 1000)}`];
    words.forEach((text, index) => {
      if (caption.children[index].textContent !== text) caption.children[index].textContent = text;
    });
    drawLine(place, steps(samples, now), { since, until: now, top: Math.max(least, highest) });
  }

  #act(actions, session) {
    const link = make("a", { className: "button", textContent: "Connect", rel: "noopener noreferrer" });
    if (/^https?:/i.test(this.#template)) link.target = "_blank";
    const copyId = make("button", { type: "button", textContent: "Copy id" });
    const rename = make("button", { type: "button", textContent: "Rename", ariaExpanded: "false" });
    const said = make("span", { className: "copied quiet", role: "status" });
    copyId.addEventListener("click", () => this.#on.copy(session().id, copyId));
    actions.append(link, copyId);
    if (claimsOf(this.#on.token()).sub === session().login) {
      const form = this.#renaming(session, rename, said);
      rename.addEventListener("click", () => {
        form.hidden = !form.hidden;
        rename.ariaExpanded = String(!form.hidden);
        if (!form.hidden) form.querySelector("input").select();
      });
      actions.append(rename, form);
    }
    actions.append(said);
  }

  /** A form that gives the session another name: `params.name`, by the params call. */
  #renaming(session, button, said) {
    const { params } = session();
    const input = make("input", { value: params?.name ?? "", ariaLabel: "Name", autocomplete: "off", maxLength: 200 });
    const form = make("form", { className: "line", hidden: true }, input, make("button", { textContent: "Save" }));
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const name = input.value.trim() || null;
      const url = new URL(`api/params/${encodeURIComponent(this.#on.token())}`, document.baseURI).href;
      const body = JSON.stringify({ id: session().id, params: { name } });
      try {
        const { status, data } = await send({ method: "POST", url, headers: { "Content-Type": "application/json" }, body }, NEVER);
        if (status !== 200) throw new Error(data?.error?.message ?? `the answer has status ${status}`);
        form.hidden = true;
        button.ariaExpanded = "false";
        button.focus();
        said.textContent = "Saved.";
      } catch (error) {
        said.textContent = `Not saved: ${/** @type {Error} */ (error).message}`;
      }
    });
    return form;
  }

  /** Every member as the API names it, in full. */
  #members({ params, ...members }) {
    const all = [...Object.entries(members), ...Object.entries(params ?? {}).map(([name, value]) => [`params.${name}`, value])];
    const unknown = all.filter(([, value]) => value === null).map(([name]) => visible(name)).join(", ");
    return make("dl", {}, ...all.filter(([, value]) => value !== null).map(([name, value]) => {
      const kind = this.#on.kind(name);
      const text = kind === "times" ? exact(value) : kind === "sizes" ? `${value} (${size(value)})`
        : typeof value === "string" ? value : JSON.stringify(value);
      const [term, said] = [name, text].map((part) => make("bdi", { textContent: visible(part) }));
      const filter = kind === "times" || name === "id" ? null : filterFor(name, value);
      const only = filter === null ? [] : [make("button", {
        type: "button", className: "only", textContent: "only", ariaLabel: `Show only ${visible(this.#on.label(filter))}`,
      })];
      only[0]?.addEventListener("click", () => this.#on.only(filter));
      return make("div", {}, make("dt", {}, term), make("dd", {}, said, ...only));
    }), unknown ? make("div", { className: "unknown" }, make("dt", { textContent: "not known" }), make("dd", { textContent: unknown })) : "");
  }
}

/** The address to connect to the session at, from the template that the administrator gave; null if it has a member that is unknown. */
export function connectAddress(template, session) {
  let known = Boolean(template);
  const address = template.replace(/\{([A-Za-z]+)\}/g, (_, name) => {
    const value = session[name];
    known &&= ["string", "number"].includes(typeof value) && value !== "";
    return encodeURIComponent(value ?? "");
  });
  return known ? address : null;
}
