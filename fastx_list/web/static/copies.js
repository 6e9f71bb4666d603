// A request as something to run elsewhere: commands for a POSIX shell, and programs that need nothing but their language.

import { escaped } from "./api.js";
import { make } from "./table.js";

const shell = (text) => `'${text.replaceAll("'", "'\\''")}'`;
const literal = (value) => escaped(JSON.stringify(value)); // of JavaScript, and of Python
const php = (text) => `'${text.replace(/[\\']/g, "\\$&")}'`;
const lines = (headers) => Object.entries(headers).map(([name, value]) => `${name}: ${value}`);

/** @type {Record<string, (request: any) => string>} By the name that people know it by. */
export const COPIES = {
  curl({ method, url, headers, body }) {
    const usual = method === (body === undefined ? "GET" : "POST");
    const options = [
      ...(usual ? [] : [method === "HEAD" ? "-I" : `-X ${shell(method)}`]), ...lines(headers).map((line) => `-H ${shell(line)}`),
      ...(body === undefined ? [] : [`--data-raw ${shell(body)}`]),
    ];
    return ["curl", ...options, shell(url)].join(" ");
  },
  wget({ method, url, headers, body }) {
    const options = [
      "-qO- --content-on-error", ...(method === "GET" ? [] : [`--method=${shell(method)}`]),
      ...lines(headers).map((line) => `--header=${shell(line)}`), ...(body === undefined ? [] : [`--body-data=${shell(body)}`]),
    ];
    return ["wget", ...options, shell(url)].join(" ");
  },
  Python({ method, url, headers, body }) {
    const given = [literal(url), `method=${literal(method)}`, `headers=${literal(headers)}`];
    if (body !== undefined) given.push(`data=${literal(body)}.encode()`);
    return [
      "from urllib.error import HTTPError", "from urllib.request import Request, urlopen", "", "try:",
      `    answer = urlopen(Request(${given.join(", ")}))`, "except HTTPError as error:", "    answer = error",
      "print(answer.read().decode())", "",
    ].join("\n");
  },
  JavaScript({ method, url, headers, body }) {
    return `fetch(${literal(url)}, ${literal({ method, headers, body })})\n  .then((answer) => answer.text())\n  .then(console.log);\n`;
  },
  PHP({ method, url, headers, body }) {
    const options = [
      `'method' => ${php(method)}`, `'header' => [${lines(headers).map(php).join(", ")}]`,
      ...(body === undefined ? [] : [`'content' => ${php(body)}`]), "'ignore_errors' => true",
    ];
    return `<?php\necho file_get_contents(${php(url)}, false, stream_context_create(['http' => [${options.join(", ")}]]));\n`;
  },
};

/** Copy it, and say so beside the button. */
export async function copy(text, button, done = "Copied, with your token in it.") {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // a page that came without TLS has no clipboard, and not everybody lets a page use it
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  const said = button.parentElement.querySelector(".copied");
  said.textContent = done;
  setTimeout(() => { said.textContent = ""; }, 15000); // time to look up, also on a busy machine
}
