"""Browsers other than Chromium, each driven by the protocol of its own that Debian's package
speaks: Firefox by WebDriver BiDi, WebKit by WebDriver. (Playwright drives builds of its own.)"""

from __future__ import annotations

import json
import os
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from tests.support import Processes, fetch, free_port, program, wait_for

MINI_BROWSERS = "/usr/lib/*/webkit*gtk-*/MiniBrowser"
_MIDDLE = """(() => {
  const element = (%s);
  if (!element?.checkVisibility()) return null;
  element.scrollIntoView({ block: "center" });
  const { x, y, width, height } = element.getBoundingClientRect();
  return [Math.round(x + width / 2), Math.round(y + height / 2)];
})()"""


class Driver(ABC):
    """One window."""

    @abstractmethod
    def go(self, url: str) -> None:
        """Load the page at ``url``."""

    @abstractmethod
    def ask(self, expression: str) -> Any:
        """Return what the JavaScript ``expression`` is, by way of JSON."""

    @abstractmethod
    def act(self, source: dict[str, Any]) -> None:
        """Do what one source of input does, as the protocols' Actions say it."""

    def until(self, what: str, expression: str) -> Any:
        """Wait until ``expression`` is true, and return it."""
        return wait_for(what, lambda: self.ask(expression))

    def sees(self, selector: str, text: str) -> None:
        """Wait until there is an element with this text, white space aside."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        said = 'each.checkVisibility() && each.innerText.replace(/\\s+/g, " ")'
        seen = f"{found}.some((each) => {said}.includes({json.dumps(text)}))"
        self.until(f"{text!r} in {selector}", seen)

    def click(self, selector: str, text: str = "") -> None:
        """Click the first element with this text, once it is to be seen."""
        found = f"[...document.querySelectorAll({json.dumps(selector)})]"
        element = f"{found}.find((each) => each.textContent.includes({json.dumps(text)}))"
        x, y = self.until(f"{selector} {text}", _MIDDLE % element)
        moves = [
            {"type": "pointerMove", "x": x, "y": y},
            {"type": "pointerDown", "button": 0},
            {"type": "pointerUp", "button": 0},
        ]
        self.act({"type": "pointer", "id": "mouse", "actions": moves})

    def write(self, text: str) -> None:
        """Type ``text`` and the Enter key."""
        presses = [
            {"type": f"key{way}", "value": key} for key in f"{text}\ue007" for way in ("Down", "Up")
        ]
        self.act({"type": "key", "id": "keyboard", "actions": presses})


class Firefox(Driver):
    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._number = 0
        self._send("session.new", capabilities={})
        tree = self._send("browsingContext.getTree")
        self._context = tree["contexts"][0]["context"]

    def go(self, url: str) -> None:
        self._send("browsingContext.navigate", context=self._context, url=url, wait="complete")

    def ask(self, expression: str) -> Any:
        answer = self._send(
            "script.evaluate",
            expression=f"JSON.stringify({expression})",
            target={"context": self._context},
            awaitPromise=False,
        )
        assert answer["type"] == "success", answer
        return json.loads(answer["result"].get("value", "null"))

    def act(self, source: dict[str, Any]) -> None:
        self._send("input.performActions", context=self._context, actions=[source])

    def _send(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (answer := json.loads(self._socket.recv(30))).get("id") != self._number:
            pass  # an event
        assert answer["type"] == "success", answer
        return answer["result"]


class WebKit(Driver):
    def __init__(self, address: str, browser: str) -> None:
        self._address = f"{address}/session"
        options = {"binary": browser, "args": ["--automation"]}
        made = self._send("", capabilities={"alwaysMatch": {"webkitgtk:browserOptions": options}})
        self._address += f"/{made['sessionId']}"

    def go(self, url: str) -> None:
        self._send("/url", url=url)

    def ask(self, expression: str) -> Any:
        script = f"return JSON.stringify({expression})"
        return json.loads(self._send("/execute/sync", script=script, args=[]) or "null")

    def act(self, source: dict[str, Any]) -> None:
        self._send("/actions", actions=[source])

    def close(self) -> None:
        fetch(self._address, "DELETE")

    def _send(self, path: str, **parameters: Any) -> Any:
        answer = fetch(self._address + path, "POST", json.dumps(parameters).encode())
        assert answer.status == 200, answer.json
        return answer.json["value"]


@contextmanager
def firefox(directory: Path, processes: Processes) -> Iterator[Driver]:
    command = [_browser("firefox-esr", "firefox-esr"), "--headless", "--no-remote"]
    profile = ["--profile", str(directory), "--remote-debugging-port", "0", "about:blank"]
    environ = {**os.environ, "HOME": str(directory)}
    processes.start([*command, *profile], "firefox", environ)
    found = wait_for(
        "Firefox", lambda: re.search(r"listening on (ws://\S+)", processes.log("firefox"))
    )
    with connect(f"{found[1]}/session", max_size=None) as socket:
        yield Firefox(socket)


@contextmanager
def webkit(directory: Path, processes: Processes) -> Iterator[Driver]:
    package = "webkit2gtk-driver"
    driver = _browser("WebKitWebDriver", package)
    browsers = sorted(str(path) for path in Path("/").glob(MINI_BROWSERS[1:]))
    if not browsers:
        pytest.skip(f"there is no MiniBrowser (Debian: apt-get install {package})")
    screen = ["-displayfd", "1", "-screen", "0", "1280x900x24", "-nolisten", "tcp"]
    processes.start([program("Xvfb", "xvfb"), *screen], "screen")
    display = wait_for("a display", lambda: re.search(r"^(\d+)\n", processes.log("screen"), re.M))
    environ = {
        **os.environ,
        "HOME": str(directory),
        "DISPLAY": f":{display[1]}",
        "GDK_BACKEND": "x11",
    }
    address = f"http://127.0.0.1:{(port := free_port())}"
    started = processes.start([driver, f"--port={port}"], "webkit", environ)
    wait_for("WebKit's driver", lambda: started.poll() is None and _answers(address))
    browser = WebKit(address, browsers[-1])
    try:
        yield browser
    finally:
        browser.close()


def _answers(address: str) -> bool:
    try:
        return fetch(f"{address}/status").status == 200
    except OSError:
        return False


def _browser(name: str, package: str) -> str:
    """Return its path. Browsers are large, so that CI does not install them either."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed (Debian: apt-get install {package})")
    return path
