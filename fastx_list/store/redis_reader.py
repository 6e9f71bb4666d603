"""The reading side of the store in Redis.

Changes are a stream whose ids are the revisions. A reader that finds the head as it left it, which
is one short question, has missed nothing. Else it reads the stream from where it was. Each entry
says which one it follows, so that a reader of an order that is no longer kept (a server that was
emptied, or took over without the last writes) starts over. Who is asked often leaves a read open
that Redis answers as soon as there is something new: until it has, not even that question is
needed.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress

from fastx_list.store import (
    AT_ONCE,
    KEEP_REVOKED_SECONDS,
    Changes,
    OrderLost,
    Record,
    Revision,
    SnapshotNeeded,
    StoreError,
)
from fastx_list.store.beats import Beats, Renewal
from fastx_list.store.records import Records, pairs, readable, whole
from fastx_list.store.redis_address import Address
from fastx_list.store.redis_errors import FORMAT, MADE_BY_A_NEWER, StoreFull
from fastx_list.store.redis_link import Command, Link
from fastx_list.store.redis_script import Script
from fastx_list.store.redis_watch import Watch

WATCH_SECONDS = 1.0  # until one asks again, though nothing was written
PAGE = 1000  # sessions read at once
FULL_SECONDS = 1.0  # until one tries again to write what could not be saved


class Reader:
    """Follows one store. Whatever it reads, it first ends the leases that have run out; if Redis
    takes no writes, it tells which have."""

    def __init__(
        self, address: Address, script: Script, records: Records, link: Link, watch: Watch
    ) -> None:
        self._address = address  # where the store is
        self._script = script  # its keys, and what is written to them
        self._records = records  # decodes what is read
        self._link = link  # the connection that is read from
        self._watch = watch  # the read that is left open
        # The revision after which the watch sees what is written; ``None``: no longer any
        self._watched_revision: Revision | None = None
        self._next_end = 0.0  # when the next lease may run out, by time.monotonic()
        self.beats = Beats()  # whose leases are renewed, and who is overdue
        self._made: bytes | None = None  # the random name of the store that was read last

    def distrust_watch(self) -> None:
        """Ask Redis next time: this process has just written. Whichever of two answers comes first,
        who writes reads it at once."""
        self._watched_revision = None

    def expect_ends(self) -> None:
        """Ask Redis next time when the next lease runs out: one was taken or renewed."""
        self._next_end = 0.0
        self.beats.expect_news()

    def changes(self, revision: Revision, timeout: float = 0) -> Changes | None:
        """See :meth:`fastx_list.store.Followed.changes`."""
        now = time.monotonic()
        if not timeout and now < self._next_look() and self._is_watched(revision):
            return None
        deadline = now + timeout
        while True:
            self._look_at_leases()
            changes = self._new_changes(revision)
            if changes is not None:
                return changes
            now = time.monotonic()
            if now >= deadline:
                if not timeout:
                    self._begin_watch(revision)
                return None
            wait = max(0.001, min(deadline, self._next_look()) - now)
            self._link.ask(self._until_written(revision, wait), more=wait)

    def read_all(self) -> Generator[None, None, Changes]:
        """See :meth:`fastx_list.store.Followed.read_all`. What changed meanwhile is read in the
        end."""
        self._end_leases()
        [head] = self._link.ask(("GET", self._script.head))
        sessions, last = yield from self._read_sessions(self._position(head))
        revoked, servers, written = self._link.transaction(
            ("ZRANGE", self._script.key("revoked"), 0, -1, "WITHSCORES"),
            ("HGETALL", self._script.key("servers")),
            ("HGET", self._script.key("clock"), "now"),
        )
        tokens = dict(each for token in pairs(revoked) for each in self._records.revoked(*token))
        there = {
            record.id: record
            for name, text in pairs(servers)
            for record in self._records.server(name, text)
        }
        self._goes_on_from(last)
        revision, looked, steps = self._position(head), None, set[str]()
        while looked is None or looked.step not in steps:
            later = self._read_changes(revision)
            sessions.update((record.id, record) for record in later.records)
            there.update((record.id, record) for record in later.servers)
            tokens.update(later.revoked)
            revision = later.revision
            steps |= {revision.step, *later.steps}
            if later.more:
                yield
            elif looked is None:
                # A renewal vouches for what is read only if that goes as far, in the same order
                looked = self._look_at_renewals()
            elif looked.step not in steps:
                raise OrderLost
        return Changes(
            revision,
            [record for record in sessions.values() if record.text is not None],
            tokens,
            tuple(record for record in there.values() if record.text is not None),
            (revision.step,),
            kept_from=later.kept_from,
            age=int(written) / 1000 if written is not None and written.isdigit() else 0,
        )

    def _read_sessions(
        self, last: Revision
    ) -> Generator[None, None, tuple[dict[str, Record], Revision]]:
        """Read the sessions a page at a time, each from a state that comes after that of the page
        before, which was ``last`` at first; return the last one, too."""
        sessions: dict[str, Record] = {}
        cursor = b"0"
        while True:
            head, (cursor, page) = self._link.transaction(
                ("GET", self._script.head),
                ("HSCAN", self._script.key("sessions"), cursor, "COUNT", PAGE),
            )
            if self._position(head) != last:
                self._goes_on_from(last)
                last = self._position(head)
            for name, text in pairs(page):
                sessions.update((record.id, record) for record in self._records.session(name, text))
            if cursor == b"0":
                return sessions, last
            yield

    def _goes_on_from(self, revision: Revision) -> None:
        """Raise :class:`OrderLost` if this is not part of the order, :class:`SnapshotNeeded` if
        that is no longer known."""
        self._read_changes(revision, 2)

    def _new_changes(self, revision: Revision) -> Changes | None:
        [head] = self._link.ask(("GET", self._script.head))
        if self._position(head) == revision:
            return None
        changes = self._read_changes(revision)
        if changes.servers:
            self.expect_ends()  # the lease of one of them may be the first to run out
        return changes if changes.revision != revision else None

    def _read_changes(self, revision: Revision, count: int = 2 * AT_ONCE) -> Changes:
        """Read the next ``count`` changes after ``revision``, or a step if that has more."""
        head, entries, (certain, made, written) = self._link.transaction(
            ("GET", self._script.head),
            ("XRANGE", self._script.changes, f"({revision.number}-0", "+", "COUNT", count),
            ("HMGET", self._script.key("clock"), "certain", "made", "format"),
        )
        if _is_newer(written):
            raise StoreError(f"the store, {self._address}, {MADE_BY_A_NEWER}")
        current = self._position(head)
        last = whole(entries[-1][0].partition(b"-")[0]) if entries else revision.number
        more = len(entries) == count and last < current.number
        is_complete = len(entries) == last - revision.number and (more or last == current.number)
        fields = [dict(pairs(values)) for _, values in entries]
        # The name before each change, and the last one
        names = [readable(entry.get(b"p", b"")) for entry in fields]
        if not more:
            names.append(current.step)
        if current.number < revision.number or (is_complete and names[0] != revision.step):
            raise OrderLost
        if not is_complete:
            raise SnapshotNeeded if made == self._made else OrderLost
        self._made = made
        if more:
            # What is read ends where a step does, or it has no name
            ends = [at for at in range(1, count - 1) if names[at] != names[at + 1]]
            if not ends:
                return self._read_changes(revision, 2 * count)
            fields, names = fields[: ends[-1]], names[: ends[-1] + 1]
            current = Revision(revision.number + ends[-1], names[-1])
        steps = list(dict.fromkeys(names[1:]))
        return self._records.changes(current, fields, steps, more, _kept_from(certain))

    def _position(self, head: bytes | None) -> Revision:
        """Return the revision that ``head`` is at."""
        if head is None:
            return Revision(0, "")
        number, _, name = head.partition(b" ")
        try:
            return Revision(whole(number), readable(name))
        except ValueError:
            raise StoreError(
                f"the store, {self._address}, holds at {self._script.head!r} what it has not"
                " written; remove that key"
            ) from None

    def _is_watched(self, revision: Revision) -> bool:
        """Return whether the watch says that nothing was written after ``revision``."""
        return revision == self._watched_revision and self._watch.goes_on()

    def _begin_watch(self, revision: Revision) -> None:
        """Leave a read open for what is written after ``revision``, which is the last one read."""
        if revision == self._watched_revision and self._watch.is_asked:
            return
        self._watched_revision = revision
        self._watch.begin(
            ("GET", self._script.head),
            f"{revision.number} {revision.step}".encode() if revision.number else None,
            self._until_written(revision, WATCH_SECONDS),
            WATCH_SECONDS,
        )

    def _until_written(self, revision: Revision, seconds: float) -> Command:
        """Return what Redis answers once anything is written after ``revision``, or after so many
        seconds."""
        milliseconds = round(seconds * 1000) or 1
        where = "STREAMS", self._script.changes, f"{revision.number}-0"
        return ("XREAD", "COUNT", 1, "BLOCK", milliseconds, *where)

    def _next_look(self) -> float:
        return min(self._next_end, self.beats.next_look)

    def _look_at_leases(self) -> None:
        """Carry out the ends of leases, and see whose are renewed, when it is time to."""
        self._end_leases()
        if time.monotonic() >= self.beats.next_look:
            self._look_at_renewals()

    def _end_leases(self) -> None:
        if time.monotonic() >= self._next_end:
            try:
                again = self._script.run(self._link, "end_leases") / 1000
            except StoreFull:  # which takes no new state but can still be read
                again = FULL_SECONDS
            self._next_end = time.monotonic() + again

    def _look_at_renewals(self) -> Revision:
        """See whose leases are renewed; return the revision at which they are so."""
        now = time.monotonic()  # first, so that nothing seems renewed later than it was
        head, *found = self._script.run(self._link, "renewals")
        fields = iter(found)
        self.beats.look(
            (
                Renewal(
                    readable(server), name, whole(lasts) / 1000, float(age) / 1000, bool(is_all)
                )
                for server, name, lasts, age, is_all in zip(
                    fields, fields, fields, fields, fields, strict=True
                )
            ),
            now,
        )
        return self._position(head or None)


def _is_newer(written: bytes | None) -> bool:
    """Whether a store says that it has a format which this release does not know. What is no number
    is none: anybody may have written it."""
    with suppress(ValueError):
        return written is not None and whole(written) > FORMAT
    return False


def _kept_from(certain: bytes | None) -> int:
    """Return from when on revocations are kept in a store that is sure of this time, in ms."""
    try:
        return whole(certain or b"0") // 1000 - KEEP_REVOKED_SECONDS
    except ValueError:  # anybody may have written it
        return 0
