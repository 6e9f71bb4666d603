"""Where settings come from: the environment, and a file for the services of a machine, with
``NAME=value`` lines.

Services and command line read the file alike. gunicorn's settings come from it before gevent's
worker patches the standard library, and what is imported by then is not patched. So this module
imports next to nothing.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from fastx_list.state import read_own

FILE = Path("/etc/fastx-list/fastx-list.conf")
FORMER = Path("/etc/default/fastx-list")  # of release 0.1.0, which systemd reads for the services
VARIABLE = "FASTX_LIST_CONFIG"  # names another file; no file at all: /dev/null
NONE = "/dev/null"
_STATE_DIR = "FASTX_LIST_STATE_DIR"


class FileError(ValueError):
    """The file cannot be used; the message names it and says what to do."""


class _NotAllowed(FileError):
    """This user may not read the file; the message is its name."""


class Line(NamedTuple):
    """A line that sets something."""

    where: str  # the file and the line's number, for people
    value: str


class Sources(NamedTuple):
    """What is set, and where."""

    environ: Mapping[str, str]  # all of it, by the names of variables
    lines: Mapping[str, Line]  # what of it is from the file
    errors: tuple[str, ...] = ()  # lines that are none
    warnings: tuple[str, ...] = ()


class _Content(NamedTuple):
    """What a file says; see :class:`Sources`."""

    lines: Mapping[str, Line] = {}
    errors: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def sources(environ: Mapping[str, str] | None = None) -> Sources:
    """Return what this process's environment and the file set, or ``environ`` and the file that it
    names, if it does. The environment wins.

    Raises :class:`FileError` for a file that cannot be used. One that this user may not read is no
    matter to those who have a state directory of their own.
    """
    has_file = environ is None or VARIABLE in environ
    environ = os.environ if environ is None else environ
    content = _content(environ) if has_file else _Content()
    is_set = {name for name, value in environ.items() if value.strip()}
    lines = {name: line for name, line in content.lines.items() if name not in is_set}
    values = {name: line.value for name, line in lines.items()}
    return Sources({**environ, **values}, lines, content.errors, content.warnings)


def value_of(name: str) -> str | None:
    """Return what ``name`` is set to; ``None`` if it is not, or while nobody can tell."""
    try:
        environ = sources().environ
    except FileError:
        environ = os.environ
    return environ.get(name, "").strip() or None


def _content(environ: Mapping[str, str]) -> _Content:
    named = environ.get(VARIABLE, "").strip()
    try:
        if named == NONE:
            return _Content()
        if named:
            return _read(Path(named).absolute())
        content = _read(FILE) if _is_there(FILE) else _Content()
    except _NotAllowed as error:
        if named:
            raise FileError(
                f"{error} may not be read by this user (uid {os.geteuid()}); let a group of that"
                " user's read it: chgrp GROUP and chmod 640"
            ) from None
        if environ.get(_STATE_DIR, "").strip():
            return _Content()
        raise FileError(
            f"{error} has this machine's settings, and is closed to you: run this as root (sudo),"
            " or ask an administrator for the page's address and a token; for a list of your own,"
            f" set {_STATE_DIR} to a directory of yours"
        ) from None
    former = _former()
    return _Content(
        {**content.lines, **former.lines},
        content.errors + former.errors,
        content.warnings + former.warnings,
    )


def _former() -> _Content:
    """Return what the file of release 0.1.0 says, if it says anything to this user."""
    try:
        found = _read(FORMER) if os.geteuid() == 0 and _is_there(FORMER) else _Content()
    except FileError as error:
        return _Content(warnings=(str(error),))
    if not found.lines:
        return _Content()
    takes_over = f"{FORMER} is still in force; move its lines to {FILE}, and remove it"
    return found._replace(warnings=(*found.warnings, takes_over))


def _is_there(path: Path) -> bool:
    """Raises :class:`_NotAllowed` if this user may not know."""
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except PermissionError:
        raise _NotAllowed(str(path)) from None
    except OSError:
        pass  # reading it says what is wrong
    return True


def _read(path: Path) -> _Content:
    try:
        data, status = read_own(path)
    except PermissionError:
        raise _NotAllowed(str(path)) from None
    except OSError as error:
        raise FileError(f"{path} cannot be used: {error.strerror or error}") from None
    if status.st_uid not in (0, os.geteuid()):
        raise FileError(
            f"{path} belongs to another user (uid {status.st_uid}); mend with: chown root {path}"
        )
    if status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise FileError(f"{path} can be written by others; close it with: chmod go-w {path}")
    try:
        return _parse(path, data.decode())
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise FileError(f"{path}, line {number}: it is not UTF-8") from None


def _parse(path: Path, text: str) -> _Content:
    lines: dict[str, Line] = {}
    errors, warnings = [], []
    for number, whole in enumerate(text.split("\n"), 1):
        line, where = whole.strip(), f"{path}, line {number}"
        if line.startswith(("#", ";")) or not line:
            continue
        match = re.fullmatch(r"([A-Za-z_][A-Za-z0-9_]{0,127})=(.*)", line)
        if match is None or not line.isprintable():
            # It is not repeated: it may be a secret
            errors.append(f"{where}: takes NAME=value, or # and a comment")
            continue
        name, value = match[1], match[2].strip()
        quoted = re.fullmatch(r"""(["'])(.*)\1""", value)
        if name in lines:
            warnings.append(f"{where}: {name} is set once more; this one holds")
        lines[name] = Line(where, quoted[2].strip() if quoted else value)
    return _Content(lines, tuple(errors), tuple(warnings))
