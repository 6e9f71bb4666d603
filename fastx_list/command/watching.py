"""The sessions as they change: a table that moves with the keys, or messages."""

from __future__ import annotations

import os
import select
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

from rich.live import Live
from rich.text import Text

from fastx_list.command.source import NOTHING, Asked, Away, Found, Source, Whose
from fastx_list.command.tables import session_columns
from fastx_list.command.terminal import echo_json, encoding_of, lines_of
from fastx_list.model.json import to_json
from fastx_list.text import amount

ROUND_SECONDS = 1.0  # the table says "3 s ago", so it is drawn anew each second
KEYS_SECONDS = 0.25  # until a key counts, at the latest
# What a key makes of the first line, the lines there are room for, and the last one to begin with
_KEYS: dict[str, Callable[[int, int, int], int]] = {
    "\x1b[A": lambda top, room, last: top - 1,
    "\x1b[B": lambda top, room, last: top + 1,
    "\x1b[5~": lambda top, room, last: top - room,
    "\x1b[6~": lambda top, room, last: top + room,
    "\x1b[H": lambda top, room, last: 0,
    "\x1b[F": lambda top, room, last: last,
}
_KEYS |= {"\x1b[1~": _KEYS["\x1b[H"], "\x1b[4~": _KEYS["\x1b[F"]}
_KEYS |= {"k": _KEYS["\x1b[A"], "j": _KEYS["\x1b[B"], " ": _KEYS["\x1b[6~"]}


def watch_lines(source: Source, whose: Whose, asked: Asked) -> NoReturn:
    """Print the published message for each session, then for each that changes."""
    shown: dict[str, dict[str, Any]] = {}
    found = None
    while True:
        found = _latest(source, whose, asked, found)
        now = {each["id"]: each for each in found.items}
        for name in shown.keys() - now.keys():
            echo_json(to_json({"id": name, "data": None}))
        for name, members in now.items():
            if shown.get(name) != members:
                echo_json(to_json({"id": name, "data": members}))
        shown = now
        source.wait(ROUND_SECONDS)


def watch_table(source: Source, whose: Whose, asked: Asked) -> None:
    """Show the sessions until q is pressed."""
    columns = list(session_columns(whose.everybody).values())
    found, top = None, 0
    with _keys(), Live(screen=True, auto_refresh=False) as display:
        while True:
            found = _latest(source, whose, asked, found)
            for _ in range(round(ROUND_SECONDS / KEYS_SECONDS)):
                width, height = display.console.size
                room = max(1, height - 2)
                last = max(0, len(found.items) - room)
                top = min(top, last)
                rows = found.items[top : top + room]
                lines = lines_of(columns, rows, width, encoding_of(sys.stdout))
                display.update(_drawn(lines, found, top, width), refresh=True)
                for key in _pressed(KEYS_SECONDS):
                    if key == "q":
                        return
                    if key in _KEYS:
                        top = max(0, min(last, _KEYS[key](top, room, last)))


def _latest(source: Source, whose: Whose, asked: Asked, before: Found | None) -> Found:
    """Return what is found now, or, while nobody answers, what was found ``before``."""
    try:
        return source.sessions(whose, asked, before and before.etag) or before or NOTHING
    except Away as error:
        if before is None:
            raise
        return before._replace(warning=error.message)


def _drawn(lines: list[str], found: Found, top: int, width: int) -> Text:
    head, *rows = lines
    connected = sum(1 for each in found.items if each["clients"])
    count = f"{amount(len(found.items), 'session')}, {connected} connected"
    if len(rows) < len(found.items):
        count += f"; {top + 1} to {top + len(rows)}"
    if found.warning:
        count = f"{count}; {found.warning}"
    body = "".join(f"\n{row}" for row in rows)
    return Text.assemble((head, "bold"), body, "\n", (count[:width], "reverse"), no_wrap=True)


@contextmanager
def _keys() -> Iterator[None]:
    """Take keys as they are pressed, within the block. Ctrl-C still ends it."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _pressed(seconds: float) -> list[str]:
    """Return which keys are pressed within so long."""
    streams = [sys.stdin] if sys.stdin.isatty() else []
    if not select.select(streams, [], [], seconds)[0]:
        return []
    text = os.read(sys.stdin.fileno(), 1024).decode("utf-8", "replace")
    keys = []
    while text:
        key = next((each for each in _KEYS if text.startswith(each)), text[0])
        keys.append(key)
        text = text[len(key) :]
    return keys
