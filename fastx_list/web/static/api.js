// One question to the list: its parameters, how it is asked, shown, copied and sent. Addresses are relative to the page's own.

export const PAGE_SIZE = "50";
const ANSWER_MILLISECONDS = 15_000;
const MAX_ADDRESS = 6000; // servers take request lines of 8 KiB, and a WebSocket has no body to put the rest in

/** A question, all texts as the user typed them; an empty one is left out. Wrong ones too are the server's to refuse. Without an
 * order the newest come first. */
export function readQuery(parameters) {
  const sortBy = parameters.get("sortBy") ?? "";
  return {
    sortBy, sortReverse: (parameters.get("sortReverse") ?? String(!sortBy)) === "true", start: parameters.get("start") ?? "",
    limit: parameters.get("limit") ?? PAGE_SIZE, filter: parameters.getAll("filter"), search: parameters.get("search") ?? "",
  };
}

/** The question as it stands in the page's own address: what is not as usual. */
export function addressOf(query) {
  const usual = (name, text) => (name === "limit" && text === PAGE_SIZE) || (name === "sortReverse" && !query.sortBy);
  const pairs = parametersOf(query).filter(([name, text]) => !usual(name, text));
  if (query.limit === "") pairs.push(["limit", ""]);
  if (!query.sortBy && !query.sortReverse) pairs.push(["sortReverse", "false"]);
  if (query.search) pairs.push(["search", query.search]);
  return new URLSearchParams(pairs).toString();
}

/** The question as the API's parameters: pairs of name and text. */
export function parametersOf({ sortBy, sortReverse, start, limit, filter, since = "", until = "", format = "" }) {
  const single = [
    ["sortBy", sortBy], ["sortReverse", sortReverse ? "true" : ""], ["start", start], ["limit", limit], ["since", since], ["until", until],
    ["format", format],
  ];
  return [...single.filter(([, text]) => text), ...filter.map((text) => ["filter", text])];
}

/** What the token says of itself. Only the server can tell whether it is true; this chooses what to ask for, no more. */
export function claimsOf(token) {
  try {
    const bytes = Uint8Array.from(atob(token.split(".")[1].replace(/-/g, "+").replace(/_/g, "/")), (byte) => byte.charCodeAt(0));
    return Object(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return {};
  }
}

/** The request that asks `path` (api/list) this question: "get", "form" or "json". */
export function requestFor(path, token, query, method) {
  const url = new URL(`${path}/${encodeURIComponent(token)}`, document.baseURI);
  const pairs = parametersOf(query);
  const form = new URLSearchParams(pairs).toString();
  if (method === "get") {
    url.search = form;
    return { method: "GET", url: url.href, headers: {}, body: undefined };
  }
  const [type, body] = method === "form" ? ["application/x-www-form-urlencoded", form] : ["application/json", toJson(pairs)];
  return { method: "POST", url: url.href, headers: { "Content-Type": type }, body };
}

function toJson(pairs) {
  const body = {};
  for (const [name, text] of pairs) {
    if (name === "filter") (body.filter ??= []).push(text);
    else body[name] = name === "sortReverse" ? true : name !== "sortBy" && /^\d{1,15}$/.test(text) ? Number(text) : text;
  }
  return escaped(JSON.stringify(body));
}

/** What of JSON a terminal might take for an order, or show out of order, is escaped: the text is there to be copied as well. */
export const escaped = (json) => json.replace(/[\x7f-\x9f\u2028-\u202e\u2066-\u2069]/g, (character) =>
  `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** The WebSocket that tells of changes to what the question finds; what there is, only with `snapshot` (and then bookmarks, too):
 * as a rule the list tells. */
export function liveAddress(path, token, query, snapshot = false) {
  const told = [["token", token], snapshot ? ["bookmarks", "1"] : ["snapshot", "0"]];
  const address = socketAddress(path, [...told, ...query.filter.map((text) => ["filter", text])]);
  return address.length > MAX_ADDRESS ? socketAddress(path, told) : address; // then it tells of more than need be
}

/** The address of a WebSocket with these parameters: pairs of name and text. */
export function socketAddress(path, pairs) {
  const url = new URL(path, document.baseURI);
  const port = document.body.dataset.livePort;
  if (port) url.port = port;
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  url.search = new URLSearchParams(pairs).toString();
  return url.href;
}

/** The request as it goes over the wire. */
export function textOf({ method, url, headers, body }) {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  return [`${method} ${url}`, ...lines, ...(body === undefined ? [] : ["", body])].join("\n");
}

/** Send it. Resolves to the answer, whatever its status; throws an Error for people if there is none, an AbortError on `signal`. */
export async function send({ method, url, headers, body }, signal) {
  const begun = performance.now();
  const signals = /** @type {any} */ (AbortSignal); // of any() and timeout() Debian's TypeScript does not know yet
  const late = signals.timeout(ANSWER_MILLISECONDS);
  try {
    // no-store: the URL holds the token, so the answer is not to lie in the browser's cache under it.
    const response = await fetch(url, { method, headers, body, cache: "no-store", signal: signals.any([signal, late]) });
    const bytes = await response.arrayBuffer();
    const text = new TextDecoder().decode(bytes);
    return {
      status: response.status, statusText: response.statusText, headers: response.headers, data: parse(text), text,
      bytes: bytes.byteLength, milliseconds: performance.now() - begun,
    };
  } catch (error) {
    if (signal.aborted) throw error;
    throw new Error(late.aborted ? "the list does not answer" : "the list cannot be reached");
  }
}

function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
