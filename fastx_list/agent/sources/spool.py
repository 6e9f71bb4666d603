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
from collections import Counter
from collections.abc import Iterable
from contextlib import nullcontext, suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from marshmallow import ValidationError

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.facts import Facts
from fastx_list.agent.files import FileBusy, FileError, read_regular
from fastx_list.agent.logins import FRESH_SECONDS
from fastx_list.agent.machine import Machine
from fastx_list.model.json import from_json, to_json
from fastx_list.model.params import ParamsError, check_params
from fastx_list.model.query import describe
from fastx_list.model.registration import load_said
from fastx_list.model.session import Said

MAX_FILE_BYTES = 64 * 1024
MAX_ENTRIES = 100_000  # of the directory
READ_SECONDS = 1.0  # that one look waits for what may be on a dead network mount
WRITING_SECONDS = 2.0  # a file that was written so recently may not be finished
TICK_SECONDS = 0.1  # more than the kernel's, which is at most 0.01
NEVER = -1


class _Refused(Exception):
    """The file does not count; the message says why."""


class _NotSaid(Exception):
    """Nobody says now whose the file is; the message says so."""


class _File(NamedTuple):
    """What was read: from which inode, as it was changed when (in nanoseconds; ``NEVER`` to have it
    read again)."""

    inode: int
    changed: int
    facts: Facts | None
    owner: int
    # The user who may only speak for themselves; None if this one may speak for everybody.
    speaker: int | None = None


class Spool:
    """Reads the session files of ``directory``; one that has not changed is not read again."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # What was read, by name.
        self._files: dict[str, _File] = {}
        # What the files say, together; None until they were read.
        self._facts: list[Facts] | None = None
        # Whether others than the directory's owner could write to it at the last look.
        self._anyone_writes = False
        # Whose the directory is, and, where others can write to it, how many files each user has
        # there that are read.
        self._owner = 0
        self._numbers: Counter[int] = Counter()
        # The logins of those who can, and until when they hold, by the monotonic clock.
        self._logins: dict[int, tuple[str, float]] = {}

    def scan(self, machine: Machine) -> Iterable[Facts]:
        """Return what the files say; what they said when they were last read, while they hang.

        Raises :class:`Unanswered` while they have hung from the beginning.
        """
        with suppress(Unanswered):
            ask(f"spool {self._directory}", "its files", lambda: self._read(machine), READ_SECONDS)
        if self._facts is None:
            raise Unanswered("its files")
        return self._facts

    def _read(self, machine: Machine) -> None:
        """Bring what is known of the files up to date."""
        files = self._files
        try:
            # Through a descriptor, so that the kernel does not walk the directory's path for each
            # file.
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files = self._read_directory(directory, machine)
            finally:
                os.close(directory)
        except FileNotFoundError:
            files = {}  # no launcher has made it yet
        except OSError as error:
            machine.explain(
                f"spool {self._directory}",
                f"cannot be read: {error.strerror}; its sessions stay as they were",
            )
        else:
            machine.settle(f"spool {self._directory}")
        if files is not self._files or self._facts is None:
            for name in self._files.keys() - files.keys():
                machine.settle(self._subject(name))
            self._files = files
            self._facts = [file.facts for file in files.values() if file.facts is not None]

    def _read_directory(self, directory: int, machine: Machine) -> dict[str, _File]:
        """Return the files in it; those that are known already if nothing has changed."""
        status = os.fstat(directory)
        anyone_writes = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        known = self._files if anyone_writes == self._anyone_writes else {}
        self._anyone_writes, self._owner = anyone_writes, status.st_uid
        self._numbers = (
            Counter(each.owner for each in known.values()) if anyone_writes else Counter()
        )
        files: dict[str, _File] = {}
        unchanged = True
        with os.scandir(directory) as entries:
            # Of which there may be tens of thousands, as a rule unchanged
            for entry in islice(entries, MAX_ENTRIES):
                name = entry.name
                file = known.get(name)
                if file is None:
                    if name.startswith(".") or not name.endswith(".json"):
                        continue
                elif self._is_unchanged(file, entry):
                    files[name] = file
                    continue
                unchanged = False
                self._look_at(name, directory, files, machine)
            if next(entries, None) is not None:
                subject = f"spool {self._directory}"
                machine.problems[subject] = f"{subject}: only {MAX_ENTRIES} files are looked at"
        # One that the listing has left out has not gone until it is asked for itself.
        for name in self._files.keys() - files.keys():
            unchanged = False
            self._look_at(name, directory, files, machine)
        return self._files if unchanged else files

    def _is_bounded(self, owner: int) -> bool:
        return self._anyone_writes and owner not in (0, self._owner)

    def _has_too_many(self, owner: int, machine: Machine) -> bool:
        """Return whether user ``owner`` has as many files as one may have where everybody can
        write; otherwise count one more."""
        if not self._is_bounded(owner):
            return False
        if self._numbers[owner] >= machine.limits.sessions:
            machine.limits.over.add(owner)
            return True
        self._numbers[owner] += 1
        return False

    def _is_unchanged(self, file: _File, entry: os.DirEntry[str]) -> bool:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            return False
        return (
            file.changed == status.st_ctime_ns
            and file.inode == status.st_ino
            and (
                file.speaker is None
                or file.facts is None
                or self._login_of(file.speaker) in (None, file.facts.login)
            )
        )

    def _subject(self, name: str) -> str:
        return f"session file {self._directory / name}".encode("utf-8", "backslashreplace").decode()

    def _look_at(
        self, name: str, directory: int, files: dict[str, _File], machine: Machine
    ) -> None:
        """Put what the file ``name`` says among ``files``; nothing if it has gone meanwhile."""
        known = self._files.get(name)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except OSError:
            return
        if known is None and self._has_too_many(status.st_uid, machine):
            return  # and nobody's time is spent on reading it
        # The kernel dates changes by its tick, so a file that changed just now may change again
        # under the same date.
        is_fresh = abs(time.time() - status.st_ctime) < TICK_SECONDS
        file = _File(status.st_ino, NEVER if is_fresh else status.st_ctime_ns, None, status.st_uid)
        problem = ""
        bounded = self._is_bounded(status.st_uid)
        try:
            with machine.limits.spending(status.st_uid) if bounded else nullcontext():
                file = self._read_file(name, directory, file)
        except FileNotFoundError:
            return
        except Unanswered:  # its owner has no time left in this look
            files[name] = file._replace(changed=NEVER, facts=known.facts if known else None)
            return
        except (FileBusy, _NotSaid) as error:  # what it said before still holds
            file = file._replace(changed=NEVER, facts=known.facts if known else None)
            problem = f"it stays as it was, since it {_one_line(error)}"
        except (ValueError, RecursionError) as error:
            # An unfinished file is not wrong yet.
            if 0 <= time.time() - status.st_mtime < WRITING_SECONDS:
                files[name] = file._replace(changed=NEVER, facts=known.facts if known else None)
                return
            problem = f"skipped: it is not well-formed JSON in UTF-8: {_one_line(error)}"
        except FileError as error:
            problem = f"skipped: it {_one_line(error)}"
        except (_Refused, OSError) as error:
            problem = f"skipped: {_one_line(error)}"
        files[name] = file
        if problem:
            owner = status.st_uid if bounded else None
            machine.explain(self._subject(name), problem, owner=owner)
        else:
            machine.settle(self._subject(name))

    def _read_file(self, name: str, directory: int, file: _File) -> _File:
        data, opened = read_regular(name, MAX_FILE_BYTES, directory=directory)
        said = _parse(data)
        identity = f"spool:{os.fsencode(name).hex()}:{said.login}:{said.started}"
        facts = Facts(identity=identity, stated=True, is_vouched=True, **vars(said))
        others_write = self._anyone_writes or opened.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        if not others_write or opened.st_uid == 0:
            return file._replace(facts=facts)
        login = self._login_of(opened.st_uid)
        if said.login not in (login, str(opened.st_uid) if login is None else login):
            if login is None:
                raise _NotSaid(f"belongs to user {opened.st_uid}, of whom nobody says the name")
            raise _Refused(
                f"others can write here, and its owner is neither root nor {said.login!r}"
            )
        return file._replace(facts=replace(facts, is_vouched=False), speaker=opened.st_uid)

    def _login_of(self, uid: int) -> str | None:
        """Return the login of ``uid`` as it was within the last minute; ``None`` while nobody says
        it."""
        login, until = self._logins.get(uid, (None, 0.0))
        if time.monotonic() < until:
            return login
        try:
            login = pwd.getpwuid(uid).pw_name
        except (KeyError, UnicodeDecodeError):
            return None
        self._logins[uid] = login, time.monotonic() + FRESH_SECONDS
        return login


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


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "".join(character if character.isprintable() else "?" for character in text)[:300]
