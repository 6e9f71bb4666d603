// Tokens as people have them, and codes of links, each of which is changed for a token once.

import { claimsOf, send } from "./api.js";

const TOKEN = /(?<![\w-])e[yw][\w-]+\.[\w-]+\.[\w-]*/; // a JSON Web Token wherever it stands: it begins with the base64 of a brace

/** The token or code in what was pasted: `Bearer …`, `TOKEN=…`, with quotes, over several lines, a whole link; else the text. */
export function tokenIn(pasted) {
  const text = pasted.replace(/\s*[\r\n]+\s*/g, "").trim();
  return TOKEN.exec(text)?.[0] ?? text;
}

/** Take into this field what is pasted there, before the browser makes one line of several. */
export function pasteInto(input) {
  input.addEventListener("paste", (event) => {
    event.preventDefault();
    input.value = tokenIn(event.clipboardData.getData("text"));
  });
}

/** Whether it looks like one: three parts with dots between them. */
export const isToken = (text) => /^[\w-]+\.[\w-]+\.[\w-]*$/.test(text);

export const isCode = (text) => claimsOf(text).aud === "code";

/** Change the code for a token. Throws an Error for people. */
export async function tokenFor(code) {
  const url = new URL("code", document.baseURI).href;
  const body = JSON.stringify({ code });
  const asked = { method: "POST", url, headers: { "Content-Type": "application/json" }, body };
  const { status, data } = await send(asked, new AbortController().signal);
  const token = (data?.result ?? data)?.token;
  if (status !== 200 || typeof token !== "string") throw new Error(data?.error?.message ?? `the answer has status ${status}`);
  return token;
}
