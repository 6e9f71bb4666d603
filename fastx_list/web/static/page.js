// The page: the API says what is listed, the WebSocket says when to ask again, and everything shown is text, never markup.

import { addressOf, claimsOf, liveAddress, PAGE_SIZE, readQuery, requestFor, send } from "./api.js";
import { Bench } from "./bench.js";
import { copy } from "./copies.js";
import { asked, LOOKED_THROUGH, pageOf } from "./find.js";
import { Backoff, Live, Repeater } from "./live.js";
import { News } from "./news.js";
import { Past } from "./past.js";
import { QueryForm } from "./query.js";
import { csvOf, save } from "./save.js";
import { Servers } from "./servers.js";
import { Table } from "./table.js";
import { isCode, isToken, pasteInto, tokenFor, tokenIn } from "./token.js";
import { Truth } from "./truth.js";
import { Use } from "./use.js";
import { count, sessions as sessionsOf, shorten, visible } from "./words.js";

const POLL_LIVE = 30_000; // milliseconds; finds a WebSocket that has died without a word
const POLL = 5000;
const AWAY = `not live, asking every ${POLL / 1000} s`;
const ALL = { path: "api/admin/session", admin: true }, MINE = { path: "api/list", admin: false };
const REFUSALS = new Set([400, 413, 414, 431]);

/** @type {(id: string) => any} An element that the page has. */
const $ = (id) => document.getElementById(id);
let token = null;
let holder = null; // whose token the screen is of, also once that has ended
let view = MINE;
let query = null;
let method = "get";
let etag = null; // of the last answer to this question
let answered = null; // { rows, total } of it
let listed = []; // the sessions that are shown
let heard = false; // whether the list has answered at all
let problem = null; // why it does not
let told = new Map(); // what the WebSocket said since the last request: whether the session has gone, by id

const news = new News($("news"));
const bench = new Bench();
const use = new Use();
const backoff = new Backoff();
const repeater = new Repeater(ask);
const form = new QueryForm(change);
const table = new Table($("table"), {
  sort(name) {
    const reverse = (query.sortBy || "started") === name && !query.sortReverse;
    change({ sortBy: name, sortReverse: reverse, start: "" });
  },
  only: (filter) => form.only(filter),
  label: (filter) => form.label(filter),
  token: () => token,
  copy: (text, button) => copy(text, button, "Copied."), use,
  columns: () => change({}, { quietly: true }),
});
const past = new Past({ token: () => token, tokenEnded: leave });
const servers = new Servers($("machines"), (id) => form.only(`serverId==${id}`));
const live = new Live({
  opened() {
    bench.took("open", true);
    repeater.soon(); // what has happened until now, nobody has told
    drawState();
  },
  message(text) {
    const { id, data } = JSON.parse(text);
    told.set(id, data === null);
    if (data) use.take(data);
    bench.took(text);
    repeater.soon();
  },
  closed(code, reason) {
    bench.took(`closed, ${code} ${reason}`.trim(), true);
    repeater.soon(); // it may be the token, which only the list tells
    drawState();
  },
  tokenEnded: leave,
});
const truth = new Truth($("bar"), () => {
  $("ask").hidden = !$("ask").hidden;
  if (!$("ask").hidden) $("token").focus();
});

// The address may hold a code or a token behind "#", which browsers send to nobody; it is taken out of the address and the tab's
// history, but a browser keeps a history on disk, too, where a code is of no use. What stays there is the question, by the API's names, so that a view can be kept as a bookmark.
function readAddress() {
  const parameters = new URLSearchParams(location.hash.slice(1));
  query = readQuery(parameters);
  writeAddress();
  const given = parameters.get("code") || parameters.get("token") || sessionStorage.getItem("token");
  if (!given) forget("");
  else if (given === token) change({}, { quietly: true });
  else begin(given);
}

function writeAddress(quietly = true) {
  const behind = addressOf(query);
  if (behind === location.hash.slice(1)) return;
  const address = location.pathname + location.search + (behind ? `#${behind}` : "");
  if (quietly) history.replaceState(null, "", address);
  else history.pushState(null, "", address); // so that one can go back to what one asked before
}

/** Say why there is no token; who had one keeps the screen. */
function refuseToken(reason) {
  if (holder) $("why").textContent = reason;
  else if (sessionStorage.getItem("token")) begin(sessionStorage.getItem("token"));
  else forget(reason);
}

function begin(given) {
  if (!isToken(given)) return refuseToken("This is no token, which has three parts with dots between them.");
  if (isCode(given)) return void tokenFor(given).then(begin, ({ message }) => refuseToken(message));
  const { sub, admin } = claimsOf(given);
  const whose = JSON.stringify([sub, admin === true]);
  if (whose === holder) rest(); // who signs in again goes on with what is on the screen
  else clear();
  bench.begin(given, whose === holder);
  [token, holder] = [given, whose];
  $("why").textContent = "";
  sessionStorage.setItem("token", token);
  $("ask").hidden = true;
  $("view").hidden = $("forget").hidden = false;
  look(claimsOf(token).admin === true ? ALL : MINE);
  past.look();
  change({}, { quietly: true });
}

function look(at) {
  view = at;
  table.admin = past.admin = at.admin;
  if (!at.admin) servers.stop();
  const login = visible(claimsOf(token).sub ?? "");
  $("who").textContent = $("who").title = at.admin ? `${login}, administrator` : login;
  $("table").caption.textContent = at.admin ? "Sessions of all logins" : "Your sessions";
}

/** The token no longer holds. What it showed stays to be seen, as old, if it has only ended. */
function leave(reason) {
  if (!/expired/.test(reason)) return forget(reason);
  rest();
  sessionStorage.removeItem("token");
  token = null;
  truth.missed("your token has ended");
  $("why").textContent = reason;
  $("ask").hidden = false;
  $("token").focus();
  drawState();
}

function forget(reason) {
  clear();
  sessionStorage.removeItem("token");
  token = holder = null;
  bench.begin(null);
  $("who").textContent = $("who").title = "";
  $("why").textContent = reason;
  $("ask").hidden = false;
  $("view").hidden = $("forget").hidden = true;
  $("token").focus();
  drawState();
}

/** Ask no more. */
function rest() {
  etag = problem = null;
  heard = false;
  repeater.stop();
  live.stop();
  servers.rest();
  past.rest();
  backoff.reset();
  told.clear();
}

function clear() {
  rest();
  [answered, listed] = [null, []];
  servers.stop();
  past.clear();
  truth.clear();
  form.clear();
  table.clear();
  use.clear();
  news.clear();
  $("table").hidden = $("empty").hidden = $("refused").hidden = true;
}

/** Ask another question: the last one but for these parts of it. What was not asked by the user is `quietly` asked. */
function change(parts, { method: by = method, quietly = false } = {}) {
  query = { ...query, ...parts };
  method = by;
  etag = answered = null;
  $("refused").hidden = true;
  writeAddress(quietly);
  form.showQuestion(query);
  table.sorted(query.sortBy || "started", query.sortReverse);
  backoff.reset();
  if (token) repeater.now();
  drawState();
}

async function ask(signal) {
  const question = asked(query);
  const request = requestFor(view.path, token, question, method);
  const sent = etag ? { ...request, headers: { ...request.headers, "If-None-Match": etag } } : request;
  bench.asks({
    sent, request, url: requestFor(view.path, token, question, "get").url, live: liveAddress(view.path, token, question),
  });
  const before = told;
  told = new Map();
  try {
    const answer = await send(sent, signal);
    bench.answered(answer);
    take(answer, before);
  } catch (error) {
    if (signal.aborted) return;
    told = new Map([...before, ...told]);
    const { message } = /** @type {Error} */ (error);
    bench.failed(message);
    failed(message);
  }
}

function take({ status, data, headers }, before) {
  const message = data?.error?.message ?? `the answer has status ${status}`;
  if (status === 401) return leave(message);
  if (view.admin && (status === 403 || status === 404)) {
    look(MINE);
    return change({}, { quietly: true });
  }
  const list = data?.result ?? data;
  if (status === 200 && Array.isArray(list)) show(list, headers, before);
  else if (REFUSALS.has(status)) refuse(message);
  else if (status !== 304) return failed(status === 200 ? "the answer is no list" : message);
  if (problem) live.tryNow(); // what cut us off from the list may have cut off the WebSocket without a word
  problem = null;
  heard = true;
  backoff.reset();
  const warning = /"(.*)"/.exec(headers.get("Warning") ?? "")?.[1] ?? "";
  truth.heard(headers, warning);
  repeater.in(live.open && !warning ? POLL_LIVE : POLL);
  drawState();
}

function failed(reason) {
  problem = reason;
  truth.missed(reason);
  repeater.in(backoff.next());
  drawState();
}

function refuse(message) {
  table.clear();
  news.clear();
  form.showRows(query, null, []);
  $("refused").hidden = false;
  $("refused").firstElementChild.textContent = `The list refused this: ${message}`;
  $("table").hidden = $("empty").hidden = true;
}

function show(list, headers, before) {
  const all = Number(headers.get("X-Total-Count") ?? list.length);
  const { rows, total, partial } = pageOf(query, list, all, (session) => table.textOf(session));
  $("scope").hidden = !partial;
  $("scope").textContent = `Looked through the first ${count(LOOKED_THROUGH)} of ${sessionsOf(all)}, in this order. A filter such as`
    + " “Host: node7” goes through all.";
  if (answered?.rows && !rows.length && total) { // the last page has ended under us
    return change({ start: String(Math.floor((total - 1) / query.limit) * query.limit || "") }, { quietly: true });
  }
  for (const session of listed = rows) use.take(session);
  const happened = table.show(rows, answered && reasons(rows, total, new Map([...before, ...told])));
  if (answered) news.add(happened);
  else news.say(sessionsOf(total));
  live.follow(liveAddress(view.path, token, asked(query))); // only now, for what the list refuses the WebSocket does, too
  if (view.admin) servers.follow(token);
  etag = headers.get("ETag");
  answered = { rows: rows.length, total };
  form.showRows(query, total, rows);
  drawEmpty();
}

// Why a session comes or is missing: if all are on one page, because it is new or has gone; else that is what the WebSocket told.
function reasons(rows, total, since) {
  if (rows.length === total && answered.rows === answered.total) return (_, missing) => (missing ? "gone" : "fresh");
  const ended = [...since.values()].filter(Boolean).length;
  const more = total - answered.total + ended > 0;
  return (id, missing) => (missing !== since.get(id) ? null : missing ? "gone" : more ? "fresh" : "changed");
}

function drawEmpty() {
  const { rows, total } = answered;
  const first = { start: "", limit: PAGE_SIZE };
  const [text, label, parts] = total ? [`None of ${sessionsOf(total)} is on this page.`, "First page", first]
    : query.search ? [`No session has “${shorten(visible(query.search), 60)}”.`, "Clear the search", { start: "", search: "" }]
      : query.filter.length ? ["No session matches the filter.", "Clear the filter", { start: "", filter: [] }]
        : view.admin ? ["Nobody has a session now. When somebody starts one, it appears here by itself."]
        : ["You have no session now. Start one, and it appears here by itself."];
  const [said, button] = $("empty").children;
  $("empty").hidden = rows > 0;
  said.textContent = text;
  button.hidden = !label;
  button.textContent = label ?? "";
  button.onclick = () => change(parts);
  drawTable();
}

const drawTable = () => void ($("table").hidden = !$("rows").children.length);

function drawState() {
  truth.draw(token);
  const [kind, text, next] = !token ? ["none", "not connected"]
    : problem ? ["offline", "offline", repeater.nextAt] // the bar says why
      : live.open && heard ? ["live", "live"]
        : live.failed && heard ? ["polling", AWAY, live.nextAt] : ["connecting", "connecting …"];
  $("connection").dataset.state = kind;
  if ($("state").textContent !== text) $("state").textContent = text; // a screen reader says it each time it is set
  $("next").textContent = next ? `; next attempt in ${Math.max(0, Math.ceil((next - Date.now()) / 1000))} s` : "";
  const away = kind === "offline" || kind === "polling";
  if (!away && document.activeElement === $("now")) $("connection").focus();
  $("now").hidden = !away;
}

function tryNow() {
  if (!token) return;
  if (!live.open) live.tryNow();
  if (view.admin) servers.tryNow();
  repeater.soon();
}

pasteInto($("token"));
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const given = tokenIn($("token").value);
  $("token").value = "";
  begin(given);
});
$("forget").addEventListener("click", () => forget("The token is forgotten."));
$("save-csv").addEventListener("click", () => save("sessions.csv", "text/csv", csvOf(table.records(listed))));
$("save-json").addEventListener("click", () => save("sessions.json", "application/json", JSON.stringify(listed, null, 2)));
$("now").addEventListener("click", tryNow);
$("refused").lastElementChild.addEventListener("click", () => change(readQuery(new URLSearchParams())));
addEventListener("online", tryNow);
addEventListener("offline", () => token && repeater.soon());
addEventListener("hashchange", readAddress);
setInterval(() => {
  table.tick();
  if (answered) drawTable();
  drawState();
}, 1000);
readAddress();
