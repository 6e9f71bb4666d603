// The page follows the WebSocket; what it shows is what the API says, put in with textContent, never as markup.

const $ = (id) => document.getElementById(id);
const sessions = new Map();
const rows = new Map();
let token = takeToken();
let socket = null;
let wait = 500; // milliseconds until the next attempt to connect

// The address may carry the token behind "#", which browsers send to nobody; it is taken out of the address and its history.
function takeToken() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given) {
    sessionStorage.setItem("token", given);
    history.replaceState(null, "", location.pathname);
  }
  return given || sessionStorage.getItem("token");
}

function forget(message) {
  sessionStorage.removeItem("token");
  token = null;
  socket?.close();
  sessions.clear();
  draw();
  say("offline", message);
  $("ask").hidden = false;
  $("table").hidden = $("empty").hidden = $("forget").hidden = true;
  $("token").focus();
}

function say(state, text) {
  $("connection").dataset.state = state;
  $("connection").textContent = text;
}

function liveAddress() {
  const port = document.body.dataset.livePort;
  const host = port ? `${location.hostname}:${port}` : location.host;
  const path = new URL("api/list", document.baseURI).pathname;
  return `${location.protocol === "https:" ? "wss" : "ws"}://${host}${path}`;
}

// The list tells what has ended while we were away, and why a token is refused, which a WebSocket does not.
async function connect() {
  if (!token) return forget("no token");
  $("ask").hidden = true;
  $("forget").hidden = false;
  say("offline", "connecting …");
  const mine = token;
  try {
    const response = await fetch(new URL("api/list", document.baseURI), { headers: { Authorization: `Bearer ${mine}` } });
    const answer = await response.json();
    if (response.status === 401) return forget(answer.error.message);
    if (!response.ok) throw new Error(answer.error.message);
    const list = answer.result ?? answer;
    sessions.clear();
    for (const session of list) sessions.set(session.id, session);
    draw();
  } catch (error) {
    return retry(error.message);
  }
  if (token !== mine) return;
  socket = new WebSocket(`${liveAddress()}?token=${encodeURIComponent(mine)}`);
  socket.onopen = () => { wait = 500; say("live", "live"); };
  socket.onmessage = (event) => take(JSON.parse(event.data));
  socket.onclose = (event) => {
    if (token !== mine) return;
    if (event.code === 4401) forget(event.reason);
    else retry(event.reason || "the live connection is away");
  };
}

function retry(reason) {
  const seconds = Math.round(wait / 1000) || 1;
  say("offline", `${reason}; next attempt in ${seconds} s`);
  setTimeout(connect, wait * (0.75 + Math.random() / 2));
  wait = Math.min(wait * 2, 30000);
}

function take({ id, data }) {
  const before = sessions.get(id);
  if (JSON.stringify(before) === JSON.stringify(data ?? undefined)) return;
  if (data) sessions.set(id, data); else sessions.delete(id);
  const name = nameOf(data ?? before ?? {});
  $("news").textContent = !before ? `New: ${name}` : data ? `Changed: ${name}` : `Ended: ${name}`;
  draw(id);
}

const nameOf = (session) => String(session.params?.name ?? session.command ?? `Display :${session.display}`);

function stateOf(session) {
  if (session.clients === null) return "unknown";
  if (session.clients > 0) return session.clients === 1 ? "connected" : `connected (${session.clients} clients)`;
  if (session.lastDisconnect !== null) return `disconnected ${ago(session.lastDisconnect)}`;
  return session.lastConnect === null ? "never connected" : "disconnected";
}

function ago(time) {
  const seconds = Math.max(0, (Date.now() - time) / 1000);
  for (const [limit, unit, name] of [[60, 1, "s"], [3600, 60, "min"], [86400, 3600, "h"], [Infinity, 86400, "d"]]) {
    if (seconds < limit) return seconds < 5 ? "just now" : `${Math.floor(seconds / unit)} ${name} ago`;
  }
}

function draw(changed) {
  const ordered = [...sessions.values()].sort((a, b) => (a.started ?? Infinity) - (b.started ?? Infinity) || (a.id < b.id ? -1 : 1));
  for (const id of rows.keys()) if (!sessions.has(id)) { rows.get(id).remove(); rows.delete(id); }
  for (const session of ordered) {
    const row = rows.get(session.id) ?? document.createElement("tr");
    fill(row, session);
    if (session.id === changed) { row.classList.remove("fresh"); void row.offsetWidth; row.classList.add("fresh"); }
    rows.set(session.id, row);
    $("rows").append(row);
  }
  $("table").hidden = !token || sessions.size === 0;
  $("empty").hidden = !token || sessions.size > 0;
}

function fill(row, session) {
  const host = session.display === null ? session.hostname : `${session.hostname} :${session.display}`;
  const started = document.createElement("time");
  if (session.started !== null) {
    started.textContent = ago(session.started);
    started.dateTime = started.title = new Date(session.started).toISOString();
  }
  const cells = [["", nameOf(session)], ["Kind", session.windowMode], ["State", stateOf(session)], ["Host", host],
    ["Geometry", session.geometry], ["Started", started]];
  row.replaceChildren(...cells.map(([label, value]) => {
    const cell = document.createElement("td");
    if (label) cell.dataset.label = label;
    cell.append(value ?? "–");
    return cell;
  }));
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token = $("token").value.trim();
  $("token").value = "";
  sessionStorage.setItem("token", token);
  wait = 500;
  connect();
});
$("forget").addEventListener("click", () => forget("token forgotten"));
setInterval(() => draw(), 10000); // "3 min ago" moves on
connect();
