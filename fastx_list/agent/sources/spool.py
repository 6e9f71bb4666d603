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

from marshmallow import ValidationError

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.facts import Facts
from fastx_list.agent.files import FileBusy, FileDenied, FileError, read_regular
from fastx_list.agent.logins import FRESH_SECONDS
from fastx_list.agent.machine import Machine
from fastx_list.agent.serving import NEVER, File, Serving, being_written
from fastx_list.agent.subordinates import Payer, payer
from fastx_list.model.json import from_json, to_json
from fastx_list.model.params import ParamsError, check_params
from fastx_list.model.query import describe
from fastx_list.model.registration import load_said
from fastx_list.model.session import Said

MAX_FILE_BYTES = 64 * 1024
MAX_ENTRIES = 100_000  # of the directory
# Of the first reading: the directory is listed again until so many listings in a row, of so many
# altogether, bring no name that is new
QUIET_LISTINGS, MAX_LISTINGS = 8, 64
READ_SECONDS = 1.0  # that one look waits for what may be on a dead network mount
TICK_SECONDS = 0.1  # more than the kernel's, which is at most 0.01


class _Refused(Exception):
    """The file does not count; the message says why."""


class _NotSaid(Exception):
    """Nobody says now whose the file is; the message says so."""


class Spool:
    """Reads the session files of ``directory``; one that has not changed is not read again."""

    def __init__(
        self, directory: Path, kept: Path | None = None, earlier: Path | None = None
    ) -> None:
        """What is to be known after a restart is kept at ``kept``, and was at ``earlier``."""
        self._directory = directory
        # A change there is told at once.
        self.directories = (directory,)
        # Which of the sessions have processes that serve them.
        self._serving = Serving(kept, earlier)
        # What was read, by name.
        self._files: dict[str, File] = {}
        # Whether they could be read at all.
        self._has_answered = False
        # Whether others than the directory's owner could write to it at the last look.
        self._anyone_writes = False
        # Whose the directory is, and, where others can write to it, how many files each user has
        # there that are read.
        self._owner = 0
        self._numbers: Counter[Payer] = Counter()
        # The logins of those who can, and until when they hold, by the monotonic clock.
        self._logins: dict[int, tuple[str, float]] = {}
        # The logins whose sessions may be in files that could not be read yet; None is anybody.
        self._unread: set[str | None] = set()

    def scan(self, machine: Machine) -> Iterable[Facts]:
        """Return what the files say; what they said when they were last read, while they cannot be
        read now.

        Raises :class:`Unanswered` if they could not be read from the beginning.
        """
        with suppress(Unanswered):
            ask(f"spool {self._directory}", "its files", lambda: self._read(machine), READ_SECONDS)
        if not self._has_answered:
            raise Unanswered("its files")
        machine.unread |= self._unread
        try:
            return self._serving.running(self._files, machine)
        finally:
            subject = f"processes of the spool {self._directory}"
            if self._serving.problem is None:
                machine.settle(subject)
            else:
                machine.explain(subject, self._serving.problem)
                self._tell(", processes", self._serving.problem, machine)

    def _read(self, machine: Machine) -> None:
        """Bring what is known of the files up to date."""
        subject, files = f"spool {self._directory}", self._files
        try:
            # Through a descriptor, so that the kernel does not walk the directory's path for each
            # file.
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                files = self._read_directory(directory, machine)
            finally:
                os.close(directory)
        except FileNotFoundError:
            files, self._unread = {}, set()  # no launcher has made it yet
        except OSError as error:
            problem = f"cannot be read: {error.strerror}; its sessions stay as they were"
            machine.explain(subject, problem)
            self._tell("", problem, machine)
            return
        else:
            machine.settle(subject)
        for name in self._files.keys() - files.keys() if files is not self._files else ():
            machine.settle(self._subject(name))
        self._files, self._has_answered = files, True

    def _read_directory(self, directory: int, machine: Machine) -> dict[str, File]:
        """Return the files in it; those that are known already if nothing has changed."""
        status = os.fstat(directory)
        anyone_writes = bool(status.st_mode & (stat.S_IWGRP | stat.S_IWOTH))
        known = self._files if anyone_writes == self._anyone_writes else {}
        self._anyone_writes, self._owner = anyone_writes, status.st_uid
        self._numbers = Counter(payer(each.owner) for each in known.values() if anyone_writes)
        files: dict[str, File] = {}
        changed: list[str] = []
        new: list[str] = []
        for entry in self._list(directory, machine):
            # Of which there may be tens of thousands, as a rule unchanged
            name = entry.name
            file = known.get(name)
            if file is None:
                if _is_session_file(name):
                    new.append(name)
            elif self._is_unchanged(file, entry):
                files[name] = file
            else:
                changed.append(name)
        if not self._has_answered:
            new += _find_more(directory, status, new)
        # A listing leaves out what is renamed meanwhile: a name has not gone until it is asked for
        # itself.
        changed += self._files.keys() - files.keys()
        if not changed and not new:
            return self._files
        for name in islice(dict.fromkeys([*changed, *new]), MAX_ENTRIES - len(files)):
            self._look_at(name, directory, files, machine)
        unread = (each.owner for each in files.values() if not each.has_answered)
        self._unread = set().union(*map(self._speaks_for, unread))
        return files

    def _speaks_for(self, owner: int) -> set[str | None]:
        """Return the logins of whose sessions user ``owner`` may say something; ``None`` is
        anybody. Subordinate users have no login, and so no session."""
        if not self._is_bounded(owner):
            return {None}
        return {self._login_of(owner)} if isinstance(payer(owner), int) else set()

    def _list(self, directory: int, machine: Machine) -> list[os.DirEntry[str]]:
        """Return what is in the directory, before anything else is done: the longer that takes, the
        more is renamed meanwhile."""
        with os.scandir(directory) as listing:
            entries = list(islice(listing, MAX_ENTRIES + 1))
        if len(entries) > MAX_ENTRIES:
            del entries[-1]
            self._tell("", f"only {MAX_ENTRIES} files are looked at", machine)
        return entries

    def _tell(self, which: str, problem: str, machine: Machine) -> None:
        """Tell those who run the machine of a problem with ``which`` files of this look."""
        subject = f"spool {self._directory}{which}"
        machine.problems[subject] = f"{subject}: {problem}"

    def _is_bounded(self, owner: int) -> bool:
        return self._anyone_writes and owner not in (0, self._owner)

    def _has_too_many(self, owner: int, machine: Machine) -> bool:
        """Return whether user ``owner`` has as many files as one may have where everybody can
        write; otherwise count one more."""
        if not self._is_bounded(owner):
            return False
        pays = payer(owner)
        if self._numbers[pays] >= machine.limits.sessions:
            machine.limits.over.add(pays)
            return True
        self._numbers[pays] += 1
        return False

    def _is_unchanged(self, file: File, entry: os.DirEntry[str]) -> bool:
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

    def _look_at(self, name: str, directory: int, files: dict[str, File], machine: Machine) -> None:
        """Put what the file ``name`` says among ``files``; nothing if it has gone meanwhile."""
        known = self._files.get(name)
        try:
            status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return
        except OSError as error:
            unknown = File(0, NEVER, None, self._owner, has_answered=False)
            files[name] = (known or unknown)._replace(changed=NEVER)
            problem = _kept(FileBusy(f"cannot be asked for: {error.strerror}"))
            self._explain(name, problem, None, machine, is_read=False)
            return
        if known is None and self._has_too_many(status.st_uid, machine):
            return  # and nobody's time is spent on reading it
        # The kernel dates changes by its tick, so a file that changed just now may change again
        # under the same date.
        is_fresh = abs(time.time() - status.st_ctime) < TICK_SECONDS
        file = File(status.st_ino, NEVER if is_fresh else status.st_ctime_ns, None, status.st_uid)
        problem, is_read = "", True
        bounded = self._is_bounded(status.st_uid)
        try:
            with machine.limits.spending(payer(status.st_uid)) if bounded else nullcontext():
                file = self._read_file(name, directory, file)
        except Unanswered:  # its owner has no time left in this look
            files[name] = self._unanswered(name, file)
            return
        except (FileBusy, FileDenied, _NotSaid) as error:  # what it said before still holds
            file, problem, is_read = self._unanswered(name, file), _kept(error), False
        except FileNotFoundError:  # it was exchanged, or has gone: the next look knows
            files[name] = self._unanswered(name, file)
            return
        except (ValueError, RecursionError) as error:
            # An unfinished file is not wrong yet.
            if since := being_written(known, status):
                files[name] = self._unanswered(name, file)._replace(unfinished=since)
                return
            problem = f"skipped: it is not well-formed JSON in UTF-8: {_one_line(error)}"
        except FileError as error:
            problem = f"skipped: it {_one_line(error)}"
        except _Refused as error:
            problem = f"skipped: {_one_line(error)}"
        files[name] = file
        self._explain(name, problem, status.st_uid if bounded else None, machine, is_read)

    def _unanswered(self, name: str, file: File) -> File:
        """Return what holds of ``file``, which cannot be read now: what it said last, unless its
        owner may not say that, who has just taken its name."""
        known = self._files.get(name)
        if known is None or (
            known.facts and self._speaks_for(file.owner).isdisjoint({None, known.facts.login})
        ):
            return file._replace(changed=NEVER, facts=None, has_answered=False)
        return known._replace(
            inode=file.inode, changed=NEVER, owner=file.owner, speaker=file.speaker
        )

    def _explain(
        self, name: str, problem: str, owner: int | None, machine: Machine, is_read: bool
    ) -> None:
        """Say what is wrong with a file, or that nothing is."""
        if not problem:
            machine.settle(self._subject(name))
            return
        machine.explain(self._subject(name), problem, owner=owner)
        if not is_read:
            self._tell(", files", "some cannot be read now, as the log says", machine)

    def _read_file(self, name: str, directory: int, file: File) -> File:
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


def _find_more(directory: int, before: os.stat_result, names: Iterable[str]) -> list[str]:
    """Return the session files that a first listing has left out of ``names``; ``before`` is the
    directory's status as it was before that. A listing of a directory in which files are renamed
    may miss any of those, so that each needs to be missed by many."""
    is_fresh = abs(time.time() - before.st_mtime) < TICK_SECONDS
    if not is_fresh and os.fstat(directory).st_mtime_ns == before.st_mtime_ns:
        return []
    found, more, quiet = set(names), list[str](), 0
    for _ in range(MAX_LISTINGS):
        with os.scandir(directory) as listing:
            here = {entry.name for entry in islice(listing, MAX_ENTRIES)}
        new = [name for name in here - found if _is_session_file(name)]
        found.update(new)
        more += new
        quiet = 0 if new else quiet + 1
        if quiet == QUIET_LISTINGS:
            break
    return more


def _is_session_file(name: str) -> bool:
    return name.endswith(".json") and not name.startswith(".")


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


def _kept(error: Exception) -> str:
    return f"it stays as it was, since it {_one_line(error)}"


def _one_line(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return "".join(character if character.isprintable() else "?" for character in text)[:300]
