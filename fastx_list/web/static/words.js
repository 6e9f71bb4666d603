// What people read of a session: its name, its state, its times. Always text, never markup.

const exactly = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });
const numbers = new Intl.NumberFormat("en"); // made once, for it is asked a thousand times a second
const hours = new Intl.DateTimeFormat(undefined, { timeStyle: "short" });
const days = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const MINUTE = 60, HOUR = 3600, DAY = 86_400, YEAR = 365.25 * DAY; // seconds
/** @type {[number, number, string][]} Up to how long, in steps of what, and its name. */
const UNITS = [[MINUTE, 1, "s"], [HOUR, MINUTE, "min"], [DAY, HOUR, "h"], [2 * YEAR, DAY, "d"], [Infinity, YEAR, "y"]];

// What cannot be seen, or turns the direction of what can: Unicode's format characters, ends of lines and blank letters. What joins
// letters or pictures, and has a meaning there, stays: in scripts that need it, and within emoji.
const UNSEEN = new RegExp(
  "(?<=[\\p{Extended_Pictographic}\\ufe0f\\u{1f3fb}-\\u{1f3ff}])\\u200d(?=\\p{Extended_Pictographic})"
  + "|(?<=[\\p{sc=Arab}\\p{sc=Deva}\\p{sc=Beng}\\p{sc=Mlym}\\p{sc=Sinh}\\p{sc=Knda}\\p{sc=Telu}\\p{M}])[\\u200c\\u200d](?=[\\p{sc=Arab}\\p{sc=Deva}\\p{sc=Beng}\\p{sc=Mlym}\\p{sc=Sinh}\\p{sc=Knda}\\p{sc=Telu}])"
  + "|([\\p{Cf}\\p{Zl}\\p{Zp}\\u034f\\u115f\\u1160\\u17b4\\u17b5\\u2800\\u3164\\uffa0])", "gu");

/** The text with what cannot be seen made visible, so that a name cannot pass for another or break a line. */
export const visible = (text) => String(text)
  .replace(UNSEEN, (all, hidden) => (hidden ? `⟨U+${hidden.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}⟩` : all))
  .replace(/[\0-\x1f]/g, (character) => String.fromCharCode(0x2400 + character.charCodeAt(0)))
  .replace(/[\x7f-\x9f]/g, "\ufffd");

/** A number of bytes in the largest unit that fits, such as 7.7 GiB. */
export function size(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  const power = Math.min(Math.max(Math.floor(Math.log2(count) / 10), 0), units.length - 1);
  const number = count / 1024 ** power;
  return `${number.toFixed(number >= 10 || !power ? 0 : 1)} ${units[power]}`;
}

/** The text cut to so many characters; what is cut off stands where a session's members are shown in full. */
export const shorten = (text, most = 160) =>
  text.length <= most ? text : `${text.slice(0, most).replace(/[\ud800-\udbff]$/, "")}…`; // not half of a surrogate pair

/** `params.name`, else the command, else the display. */
export function nameOf({ params, command, display, id }) {
  const given = [params?.name, command].find((text) => ["string", "number"].includes(typeof text) && String(text).trim());
  return visible(given ?? (display === null ? id : `Display :${display}`));
}

/** Whether somebody is connected: a kind for the eye, its word, a text, and, if there is one, the time that goes with it. */
export function stateOf({ clients, lastConnect, lastDisconnect }) {
  if (clients === null) return { kind: "unknown", word: "unknown", text: "unknown" };
  if (clients > 0) {
    return { kind: "connected", word: "connected", text: clients === 1 ? "connected" : `connected, ${count(clients)}\u00a0clients` };
  }
  if (lastConnect === null && lastDisconnect === null) return { kind: "never", word: "never connected", text: "never connected" };
  return { kind: "away", word: "disconnected", text: "disconnected", since: lastDisconnect };
}

/** "3 h". */
export function lasting(seconds) {
  const [, divisor, unit] = UNITS.find(([limit]) => seconds < limit) ?? UNITS[UNITS.length - 1];
  return `${count(Math.floor(Math.max(0, seconds) / divisor))} ${unit}`;
}

/** "3 h ago". */
export const ago = (time, now = Date.now()) => (now - time < 5000 ? "just now" : `${lasting((now - time) / 1000)} ago`);

/** "07:31", and the day if it is another. */
export function clock(time, now = new Date()) {
  const date = new Date(time);
  return (date.toDateString() === now.toDateString() ? hours : days).format(date);
}

/** The time where the reader is, and as ISO 8601 in UTC; a number that is no time stays a number. */
export function exact(time) {
  const date = new Date(time);
  return Number.isNaN(date.valueOf()) ? String(time) : `${exactly.format(date)} (${date.toISOString()})`;
}

/** The number as English text writes it: 1,000. */
export const count = (number) => numbers.format(number);

/** "1 session", "2 sessions". */
export const sessions = (number) => `${count(number)} session${number === 1 ? "" : "s"}`;
