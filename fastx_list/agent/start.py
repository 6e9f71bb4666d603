"""What a session was started with: from ``session.json`` as it stood then, and from its launcher's
environment variables."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from marshmallow import ValidationError

from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.config import SESSION_PREFIX
from fastx_list.model.member import declared
from fastx_list.model.registration import load_start
from fastx_list.model.session import Start, complete
from fastx_list.state import read_file

MAX_NAME = 256
# The variables of a launcher, and the member that each says
VARIABLES = {
    f"{SESSION_PREFIX}{each.attribute.upper()}": each.member.name for each in declared(Start)
}
NAME_VARIABLE = f"{SESSION_PREFIX}NAME"


class SessionJson:
    """The file ``session.json``, read again when it has changed; while it is broken, the last good
    one stays in force."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Inode, dates and size of the file as it was read last; None if it could not be.
        self._version: tuple[int, ...] | None = None
        # What it said when it was last in order; None if it never was.
        self._start: Start | None = None
        # What is wrong with it.
        self._problem: str | None = None

    def read(self, machine: Machine) -> Start | None:
        """Return what a session that starts now starts with; ``None`` while that is not known,
        since the file could not be read from the beginning."""
        try:
            data, status = read_file(self._path)
        except FileNotFoundError:
            self._version, self._start, self._problem = None, Start(), None
        except OSError as error:
            self._version, self._problem = None, error.strerror or str(error)
        else:
            self._take(data, status)
        self._report(machine)
        return self._start

    def _take(self, data: bytes, status: os.stat_result) -> None:
        version = (status.st_ino, status.st_mtime_ns, status.st_ctime_ns, status.st_size)
        if version == self._version:
            return
        self._version, self._problem = version, None
        try:
            # Nobody else's file under our name, which an agent with capabilities may read
            if status.st_nlink > 1:
                raise ValueError("it has several names (hard links)")
            self._start = _parse(data)
        except (ValueError, RecursionError) as error:
            self._problem = str(error)

    def _report(self, machine: Machine) -> None:
        subject = f"session settings {self._path}"
        if self._problem is None:
            machine.settle(subject)
            return
        holds = "the last good ones stay in force"
        if self._start is None:
            holds = "sessions get them once they can be read"
        problem = f"{self._problem}; {holds}"
        machine.explain(subject, problem)
        machine.problems[subject] = f"{subject}: {problem}"


def overrides(process: Process, machine: Machine, subject: str) -> tuple[Start, dict[str, str]]:
    """Return what a launcher says of a session in the environment of the ``process`` that serves
    it: what it was started with, and its params."""
    start = Start()
    for variable, member in VARIABLES.items():
        text = process.environ.get(variable)
        if text:
            try:
                start = complete(start, load_start({member: _value(text)}))
            except ValidationError as error:
                machine.explain(
                    f"{subject}, {variable}", f"ignored: {' '.join(error.messages_dict[member])}"
                )
    name = process.environ.get(NAME_VARIABLE)
    return start, {"name": name[:MAX_NAME]} if name else {}


def _value(text: str) -> Any:
    """Return a variable's text as JSON would have it: a number where it is one."""
    return json.loads(text) if re.fullmatch(r"(0|[1-9][0-9]{0,14})(\.[0-9]{1,15})?", text) else text


def _parse(data: bytes) -> Start:
    """Return what the file that holds ``data`` says; raises ``ValueError`` with line and member."""
    text = data.decode("utf-8")
    try:
        return load_start(json.loads(text))
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: it is not well-formed JSON: {error.msg}") from None
    except ValidationError as error:
        raise ValueError(
            "; ".join(
                f"line {_line_of(member, text)}: {member}: {' '.join(map(str, texts))}"
                for member, texts in error.messages_dict.items()
            )
        ) from None


def _line_of(member: str, text: str) -> int:
    match = re.search(rf'"{re.escape(member)}"\s*:', text)
    return text.count("\n", 0, match.start()) + 1 if match else 1
