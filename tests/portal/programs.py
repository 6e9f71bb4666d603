"""The programs in docs/portal.md: taken from there as they stand, and run by their own interpreters
against real servers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastx_list.model.session import Session
from tests.conftest import session
from tests.support import Processes, Service, lacks_package, program

Observe = Callable[..., None]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "portal.md").read_text(encoding="utf-8")
GSON = Path("/usr/share/java/gson.jar")
NODE_WS = Path("/usr/share/nodejs/ws")
FOLLOWERS = ("sessions.pl", "Follow.java", "sessions.mjs", "sessions.py")


def blocks(language: str) -> list[str]:
    """Return the document's blocks of code in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """Return the document's programs by the file name that each has in its first two lines."""
    found = {}
    for language in ("php", "perl", "java", "js", "html", "python"):
        for text in blocks(language):
            name = re.search(
                r"\b\w+\.(php|pl|java|mjs|html|py)\b", "".join(text.splitlines(keepends=True)[:2])
            )
            assert name and name[0] not in found
            found[name[0]] = text
    return found


@dataclass
class Portal:
    """Starts the programs and reads what they print; nothing of that may hold a token."""

    folder: Path
    service: Service
    processes: Processes

    def environ(self, **others: str) -> dict[str, str]:
        environ = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "LIST_URL": self.service.url,
            "LIST_LIVE_URL": self.service.live_url.removesuffix("/api/list"),
            "LIST_SECRET_FILE": str(self.service.state / "secret"),
            "LIST_KEY_FILE": str(self.folder / "portal.key"),
        }
        return environ | others

    def start(self, name: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        command = [*interpreter(name, self.folder), *arguments]
        return self.processes.start(command, name, self.environ(**environ), cwd=self.folder)

    def log(self, name: str) -> str:
        """Return the lines that the program has finished."""
        log = self.processes.log(name)
        assert "eyJ" not in log  # which is how every token begins
        return log[: log.rfind("\n") + 1]

    def shown(self, name: str) -> dict[str, str]:
        """Return what the program shows now: the rest of a session's line by its id."""
        lines: dict[str, str] = {}
        for line in self.log(name).splitlines():
            session_id, tab, rest = line.partition("\t")
            if re.match(r"\d+ of \d+ sessions|live:$", line):
                lines = {}
            elif rest == "ended":
                lines.pop(session_id, None)
            elif tab:
                lines[session_id] = rest
        return lines

    def lists(self, name: str) -> int:
        """Return how many lists, each under its heading, the program has printed."""
        return len(re.findall(r"^\d+ of \d+ sessions", self.log(name), re.MULTILINE))


def interpreter(name: str, folder: Path) -> list[str]:
    """Return the command that runs the program ``name``, as the document says."""
    if name == "sessions.pl":
        return [program("perl", "perl"), name]
    if name == "sessions.py":
        return [sys.executable, "-u", name]
    if name == "sessions.mjs":
        node = program("node", "nodejs")
        native = subprocess.run(
            [node, "-p", "typeof WebSocket"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if native == "undefined" and not NODE_WS.exists():
            lacks_package("node-ws", "this node has no WebSocket and there is no ws")
        return [node, name]
    compiler, java = (
        program("javac", "default-jdk-headless"),
        program("java", "default-jdk-headless"),
    )
    if not GSON.exists():
        lacks_package("libgoogle-gson-java", "there is no Gson")
    if name == "Sessions.java":
        return [java, "-cp", str(GSON), name]
    if not (folder / "Follow.class").exists():
        subprocess.run(
            [compiler, "-cp", GSON, "Sessions.java", "Follow.java"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return [java, "-cp", f"{GSON}:.", "Follow"]


def desktop(session_id: str, started: int, login: str = "alice", **facts: Any) -> Session:
    known = {
        "geometry": "800x600",
        "window_mode": "desktop",
        "command": "startxfce4",
        "clients": 0,
        "started": started,
    }
    return session(session_id, login, **{**known, **facts})


THESIS = desktop("thesis", 7, params={"name": "Größe <b>\U0001f600"}, clients=2)
NIGHT = [desktop(f"night{number}", number) for number in range(1, 6)]
OTHERS = [desktop("rootless", 8, window_mode="rootless"), desktop("of-bob", 9, "bob")]
