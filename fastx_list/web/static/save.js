// What is shown, as a file: JSON as the API has it, or CSV (RFC 4180) of the columns that are shown.

import { make } from "./table.js";

// What begins so is a formula to a spreadsheet (OWASP, "CSV Injection"), also behind what some take for the end of a cell
const FORMULA = /(^|[;\t\r\n])(?=[\t\r\n]|[" ]*[=+@\uff1d\uff0b\uff0d\uff20-])/g;

/** The records as CSV that no spreadsheet takes anything in for a formula. */
export function csvOf(records) {
  return records.map((cells) => `${cells.map(cellOf).join(",")}\r\n`).join("");
}

function cellOf(value) {
  if (typeof value === "number") return String(value);
  const text = (Array.isArray(value) ? value.join(" ") : String(value)).replace(FORMULA, "$1'");
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Give it to the user as a file. */
export function save(name, type, text) {
  const link = make("a", { href: URL.createObjectURL(new Blob([text], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
