"""Sessions that launchers register themselves: one ``*.json`` file each in a directory,
which says what :class:`fastx_list.model.session.Said` declares.

The file is the session: it appears, the session is listed; it changes, the session does; it goes,
the session has ended.
"""

from __future__ import annotations

import os
import pwd
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from marshmallow import ValidationError

from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.model.json import from_json, to_json
from fastx_list.model.params import ParamsError, check_params
from fastx_list.model.query import describe
from fastx_list.model.registration import load_said
from fastx_list.model.session import Said

MAX_FILE_BYTES = 64 * 1024
WRITING_SECONDS = 2.0  # a file that was written so recently may not be finished
TICK_SECONDS = 0.1  # more than the kernel's, which is at most 0.01
NEVER = -1


class _Refused(Exception):
    """The file does not count; the message says why."""


class _File(NamedTuple):
    """What was read: from which inode, as it was changed when (in nanoseconds; ``NEVER`` to have it
    read again)."""

    inode: int
    changed: int
    facts: Facts | None


class Spool:
    """Reads the session files of ``directory``; one that has not changed is not read again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # What was read, by name.
        self._files: dict[str, _File] = {}
        # What the files say, together.
        self._facts: list[Facts] = []
        # Whether others than the directory's owner could write to it at the last look.
        self._anyone_writes = False

    def scan(self, machine: Machine) -> Iterable[Facts]:
        files: dict[str, _File] = {}
        unchanged = True
        try:
            # Through a descriptor, so that the kernel does not walk the directory's path for each
            # file.
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                anyone_writes = bool(os.fstat(directory).st_mode & (stat.S_IWGRP | stat.S_IWOTH))
                known = self._files if anyone_writes == self._anyone_writes else {}
                self._anyone_writes = anyone_writes
                with os.scandir(directory) as entries:
                    # Of which there may be tens of thousands, as a rule unchanged
                    for entry in entries:
                        name = entry.name
                        file = known.get(name)
                        if file is None:
                            if name.startswith(".") or not name.endswith(".json"):
                                continue
                        else:
                            try:
                                if (
                                    file.changed == entry.stat(follow_symlinks=False).st_ctime_ns
                                    and file.inode == entry.inode()
                                ):
                                    files[name] = file
                                    continue
                            except OSError:
                                continue  # it has gone meanwhile
                        unchanged = False
                        file = self._look_at(entry, directory, anyone_writes, machine)
                        if file is not None:
                            files[name] = file
            finally:
                os.close(directory)
        except FileNotFoundError:
            pass  # no launcher has made it yet
        except OSError as error:
            machine.explain(
                f"spool {self._directory}",
                f"cannot be read: {error.strerror}; its sessions stay as they were",
            )
            files = self._files
        else:
            machine.settle(f"spool {self._directory}")
        if not unchanged or len(files) != len(self._files):
            for name in self._files.keys() - files.keys():
                machine.settle(self._subject(name))
            self._files = files
            self._facts = [file.facts for file in files.values() if file.facts is not None]
        return self._facts

    def _subject(self, name: str) -> str:
        return f"session file {self._directory / name}".encode("utf-8", "backslashreplace").decode()

    def _look_at(
        self, entry: os.DirEntry[str], directory: int, anyone_writes: bool, machine: Machine
    ) -> _File | None:
        known = self._files.get(entry.name)
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return None  # it has gone meanwhile
        # The kernel dates changes by its tick, so a file that changed just now may change again
        # under the same date.
        is_fresh = abs(time.time() - status.st_ctime) < TICK_SECONDS
        changed = NEVER if is_fresh else status.st_ctime_ns
        try:
            facts = self._read(entry.name, directory, status, anyone_writes)
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            # An unfinished file is not wrong yet, and what it said before still holds.
            if 0 <= time.time() - status.st_mtime < WRITING_SECONDS:
                return _File(entry.inode(), NEVER, known.facts if known else None)
            machine.explain(
                self._subject(entry.name),
                f"skipped: it is not well-formed JSON in UTF-8: {_one_line(error)}",
            )
            return _File(entry.inode(), changed, None)
        except (_Refused, OSError) as error:
            machine.explain(self._subject(entry.name), f"skipped: {_one_line(error)}")
            return _File(entry.inode(), changed, None)
        machine.settle(self._subject(entry.name))
        return _File(entry.inode(), changed, facts)

    def _read(
        self, name: str, directory: int, status: os.stat_result, anyone_writes: bool
    ) -> Facts:
        if not stat.S_ISREG(status.st_mode):
            raise _Refused("it is no regular file")
        if status.st_size > MAX_FILE_BYTES:
            raise _Refused(f"it is over {MAX_FILE_BYTES} bytes")
        descriptor = os.open(
            name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory
        )
        with os.fdopen(descriptor, "rb") as file:
            opened = os.fstat(descriptor)
            if not stat.S_ISREG(opened.st_mode):  # exchanged since it was listed
                raise _Refused("it is no regular file")
            data = file.read(MAX_FILE_BYTES + 1)
        if len(data) > MAX_FILE_BYTES:
            raise _Refused(f"it is over {MAX_FILE_BYTES} bytes")
        said = _parse(data)
        others_write = anyone_writes or opened.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if others_write and not _may_speak_for(opened.st_uid, said.login):
            raise _Refused(
                f"others can write here, and its owner is neither root nor {said.login!r}"
            )
        identity = f"spool:{os.fsencode(name).hex()}:{said.login}:{said.started}"
        return Facts(identity=identity, stated=True, **vars(said))


def _parse(data: bytes) -> Said:
    try:
        said = load_said(from_json(data.decode("utf-8")))
        check_params(said.params)
        to_json(vars(said)).encode("utf-8")
    except ValidationError as error:
        raise _Refused(describe(error)) from None
    except ParamsError as error:
        raise _Refused(str(error)) from None
    return said


def _may_speak_for(uid: int, login: str) -> bool:
    if uid == 0:
        return True
    try:
        return pwd.getpwnam(login).pw_uid == uid
    except (KeyError, ValueError):
        return login == str(uid)


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "".join(character if character.isprintable() else "?" for character in text)[:300]
