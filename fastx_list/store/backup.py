"""What of a store cannot be found out again, as text that any store takes back: one line of JSON
for the file, one for each session, each token that is revoked, and each session of the history, and
a last one that says how many these are.

Agents write anew what runs. What they cannot know is the params of sessions, what was known of
those whose machine is away, revocations, and the history. So a restore never takes the place of
what is there: it adds what is missing, and readers need not notice. Events are not in it: who
follows them would be told again of what has happened before.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from io import StringIO
from typing import Any, NamedTuple

from fastx_list.model.json import from_json, to_json
from fastx_list.model.params import ParamsError
from fastx_list.store import Record, Store
from fastx_list.store.archive import RUNNING, Ended, PastRecord, Span
from fastx_list.store.division import divide
from fastx_list.store.records import Records, past_of

FORMAT = "fastx-list backup"
VERSION = 2
FIRST_WITH_END = 2  # version that says how much there is, so that one that is cut off is known
MAX_AGE = 2**40  # seconds
MAX_PAST = 100_000  # sessions of the history that a backup holds, the last ones
MAX_PAST_BYTES = 2**29  # of these, so that what is written can be restored
_COUNTED = {"session": "sessions", "revoked": "revoked", "past": "past"}  # lines, in Counts
_PAST = (
    *("began", "ended", "connected", "since", "clients", "started", "last_connect"),
    "last_disconnect",
)


class BackupError(ValueError):
    """A text that is no backup; the message says why."""


class Counts(NamedTuple):
    """How many sessions, revoked tokens, and sessions of the history are meant."""

    sessions: int
    revoked: int
    past: int = 0


def back_up(store: Store) -> tuple[str, Counts]:
    """Return a backup, and what is in it. Raises :class:`fastx_list.store.StoreError`."""
    # Before and after, as an agent may come back or be given up meanwhile
    before, snapshot, after = store.remembered(), store.snapshot(), store.remembered()
    known = (*before, *after, *snapshot.records)
    sessions = {record.id: record.text for record in known}
    lines = [to_json({"format": FORMAT, "version": VERSION, "made": int(time.time() * 1000)})]
    lines += [f'{{"session":{text}}}' for text in sessions.values()]
    lines += [
        to_json({"revoked": jti, "expires": expires}) for jti, expires in snapshot.revoked.items()
    ]
    ids = store.archive.find(Span(None, until=RUNNING), 0, MAX_PAST, last_first=True)
    past, size = list[str](), 0
    for some in divide(ids):
        told = [_past_line(each) for each in store.archive.ages(some)]
        size += sum(len(line.encode()) for line in told)
        if size > MAX_PAST_BYTES:
            break
        past += told
    past.reverse()
    counts = Counts(len(sessions), len(snapshot.revoked), len(past))
    return "\n".join([*lines, *past, to_json({"end": counts._asdict()})]) + "\n", counts


def _past_line(ended: Ended) -> str:
    (_, text, past), age = ended
    known = to_json({**{name: getattr(past, name) for name in _PAST}, "addresses": past.addresses})
    return f'{{"past":{known},"age":{round(age)},"state":{text}}}'


def restore(store: Store, text: str) -> Counts:
    """Add to ``store`` what it lacks of a backup; return of how many sessions and tokens, and how
    much history.

    Raises :class:`BackupError` before anything is written, and
    :class:`fastx_list.store.StoreError`, after which it can be done again.
    """
    sessions, revoked, past = _read(text)
    snapshot = store.snapshot()
    lacked = {jti: end for jti, end in revoked.items() if jti not in snapshot.revoked}
    store.revoke(lacked)  # first, since nothing else does harm if it is missing
    ran = {record.id for record in snapshot.records}
    kept = store.remember([each for each in sessions if each.id not in ran])
    # Read again: of those that have begun meanwhile none was kept in mind
    running = {record.id: record for record in store.snapshot().records}
    given = sum(
        _add_params(store, running[each.id], each) for each in sessions if each.id in running
    )
    return Counts(given + kept, len(lacked), store.archive.add(past))


def _add_params(store: Store, now: Record, then: Record) -> bool:
    """Give a running session the params that it lacks; return whether it lacked any. What was set
    since stays."""
    there, kept = _params(now), _params(then)
    lacking = {name: value for name, value in kept.items() if name not in there}
    if not lacking or now.login != then.login:
        return False
    try:
        return store.set_params(now.id, now.login, lacking) is not None
    except ParamsError:  # there would be too many
        return False


def _params(record: Record) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(record.text))["params"]
    return found


def _read(text: str) -> tuple[list[Record], dict[str, int], list[Ended]]:
    # Not splitlines: texts of users may have what other than JSON takes for the end of a line
    lines = enumerate(StringIO(text, newline="\n"), 1)
    head = next((_object(line, number) for number, line in lines), {})
    if head.get("format") != FORMAT:
        raise BackupError("it is no backup of fastx-list")
    version = head.get("version")
    if type(version) is not int or version < 1:
        raise BackupError("it is damaged in line 1: no fastx-list makes such a version")
    if version > VERSION:
        raise BackupError("it was made by a newer fastx-list; install that")
    records, sessions, revoked = Records("the backup"), list[Record](), dict[str, int]()
    past = list[Ended]()
    counted, end = Counter[str](), None
    for number, line in lines:
        if end is not None:
            raise BackupError(f"it is damaged in line {number}: there is more behind its end")
        found = _object(line, number)
        end = found.get("end")
        counted.update(_COUNTED.keys() & found.keys())
        session = found.get("session")
        if isinstance(session, dict):
            sessions += records.session(session.get("id"), to_json(session))
        elif "revoked" in found:
            revoked.update(_revoked(records, found))
        elif isinstance(found.get("past"), dict):
            past += _ended(records, found["past"], found.get("age"), found.get("state"))
    if version >= FIRST_WITH_END:
        _check_end(end, counted)
    return sessions, revoked, past


def _check_end(end: object, counted: Counter[str]) -> None:
    """Raise :class:`BackupError` unless ``end`` says that there are as many lines of each kind as
    were ``counted``."""
    if end is None:
        raise BackupError(
            "its end is missing: it was cut off, as on a full disk; copy it again from where it is"
            " whole, or restore an older one"
        )
    if end != {name: counted[member] for member, name in _COUNTED.items()}:
        raise BackupError(
            "it is damaged: lines of it are missing; copy it again from where it is whole, or"
            " restore an older one"
        )


def _ended(records: Records, known: dict[str, Any], age: object, state: object) -> Iterator[Ended]:
    """Yield the session of the history that a line says, if it is a sound one."""
    numbers = [known.get(name) for name in _PAST]
    past = past_of(numbers, to_json(known.get("addresses")))
    if past is None or past.ended is None or not isinstance(state, dict):
        return
    seconds = float(age) if isinstance(age, int) and 0 <= age < MAX_AGE else 0.0
    for record in records.session(state.get("id"), to_json(state)):
        yield Ended(PastRecord(record.id, str(record.text), past), seconds)


def _revoked(records: Records, found: dict[str, Any]) -> Iterator[tuple[str, int]]:
    return records.revoked(found["revoked"], found.get("expires"))


def _object(line: str, number: int) -> dict[str, Any]:
    try:
        found = from_json(line)
        to_json(found).encode()  # no number without end, nor half a character: no store takes that
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise BackupError(f"it is damaged in line {number}")
    return found
