"""What a process was started with, its command line and its environment, as proc(5) shows them:
texts of any size, which cost their user nothing, so of what is long the beginning is kept."""

from __future__ import annotations

import os
from collections.abc import Iterator

from fastx_list.config import SESSION_PREFIX

MAX_TEXT = 4096  # characters of an argument or an environment variable that are kept
MAX_ARGS_BYTES, MAX_ARGS = 16 * 1024, 256
MAX_ENVIRON_BYTES, MAX_ENVIRON_TEXT = 64 * 1024, 16 * 1024  # read, and characters of it kept
_OURS = SESSION_PREFIX.encode()
_CONCERNING_US = (b"DISPLAY", b"WAYLAND_DISPLAY", b"XAUTHORITY", b"XRDP_SESSION")


def args_in(data: bytes) -> list[str]:
    """Return the arguments that a command line consists of."""
    return [_clean(os.fsdecode(arg)) for arg in _split(data)]


def _split(data: bytes) -> list[bytes]:
    args = data.split(b"\0", MAX_ARGS)[:MAX_ARGS]
    # A program that writes a title of its own there may leave out the zeros.
    if not any(args[1:]) and b" " in data:
        args = data.rstrip(b"\0").split(b" ", MAX_ARGS)[:MAX_ARGS]
    elif args[-1] == b"" and len(data) < MAX_ARGS_BYTES:
        args.pop()
    return args


def variables_in(environ: bytes) -> Iterator[tuple[str, str]]:
    """Yield those variables of ``environ`` that concern us, as far as there is room for them."""
    room = MAX_ENVIRON_TEXT
    for variable in environ.split(b"\0"):
        name, equals, value = variable.partition(b"=")
        if equals and (name in _CONCERNING_US or name.startswith(_OURS)):
            found = _clean(os.fsdecode(name)), _clean(os.fsdecode(value))
            room -= sum(map(len, found))
            if room < 0:
                return
            yield found


def _clean(text: str) -> str:
    """Return text of another user's making as Unicode that can be stored and sent, cut where it
    gets too long."""
    return text[:MAX_TEXT].encode("utf-8", "surrogateescape").decode("utf-8", "replace")
