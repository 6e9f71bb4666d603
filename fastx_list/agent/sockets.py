"""The sockets of a network namespace: who waits for clients where, and which clients there are."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import NamedTuple, TypeVar

from fastx_list.agent.diag import Diag, TooMany
from fastx_list.agent.diag_messages import DiagError, remote_address
from fastx_list.agent.door import Unanswered
from fastx_list.agent.heard import Heard, Read
from fastx_list.agent.proc_net import ProcNet
from fastx_list.agent.signs import Signs, signs_of
from fastx_list.agent.tables import TcpTable, UnixTable, addresses
from fastx_list.model.addresses import LOCAL, address_in

T = TypeVar("T")
_NONE: frozenset[int] = frozenset()
LASTING_SECONDS = 0.9  # between two looks that are to see a connection that was made from here
REST_SECONDS = 30.0  # that a table has in which there are too many sockets
# For which a table of TCP sockets holds whose sign is the same: so long, and so many times what it
# took to read it, but not longer
HOLDS_SECONDS, HOLDS_TIMES, HOLDS_AT_MOST = 5.0, 1000, 60.0


class OtherEnd(NamedTuple):
    """The other end of a connection."""

    address: str | None  # as :mod:`fastx_list.model.addresses` has it; None if it is not known
    # Who has made it, and which it is; None if it is elsewhere, or not known
    uid: int | None = None
    inode: int | None = None


class Sockets:
    """The sockets of one network namespace: ours, or that of process ``pid``. Each table is read
    once, when first asked for."""

    def __init__(
        self, pid: int | None = None, heard: Heard | None = None, is_all: bool = True
    ) -> None:
        """``is_all``: whether all is asked for that is to be told, and nothing holds of what was
        heard of before that is not."""
        self._pid = pid
        self._heard = Heard() if heard is None else heard
        self._is_all = is_all
        # What the last look told of connections.
        self._before, self._accepted_before = self._heard.connections, self._heard.accepted
        self._least_before = self._heard.least
        self._heard.connections = {} if is_all else dict(self._before)
        self._heard.accepted = {} if is_all else dict(self._accepted_before)
        self._heard.least = {} if is_all else dict(self._least_before)
        if self._heard.has_asked or not is_all:
            self._heard.tables, self._heard.has_asked = None, False
        # Why something cannot be known now that may be known another time; None if all can.
        self.unanswered: str | None = None
        # Whether the kernel could not be asked, but only proc(5) be read.
        self._is_only_listed = False
        # Whether who tells of unix sockets can be lied to.
        self._can_be_lied_to = False
        # The connections that were made from here, by maker; None until asked for.
        self._made: dict[int, frozenset[int]] | None = None

    def tcp_clients(self, port: int, least: int = 1) -> frozenset[int] | None:
        """Return the inodes of the accepted connections to local TCP ``port`` over which at least
        ``least`` bytes have come in: who says nothing, such as a probe, is no client.

        ``None`` if it cannot be known. Of another namespace it may not be known who has spoken;
        then every connection counts.
        """
        self._heard.least[port] = min(least, self._heard.least.get(port, least))
        connections = self._tcp.connections.get(port, {}) if self._tcp is not None else {}
        return self._spoken(port, connections, least)

    def tcp_spoken(self, name: str, inodes: frozenset[int], least: int) -> frozenset[int] | None:
        """Return those of ``inodes`` that are connections over TCP, and over which so many bytes
        have come in; ``None`` if it cannot be known. ``name`` is whose they are."""
        keys = self._tcp.connected if self._tcp is not None else {}
        return self._spoken(name, {each: keys[each][2] for each in inodes if each in keys}, least)

    def tcp_made(self, uid: int) -> frozenset[int] | None:
        """Return the inodes of the connections over TCP that user ``uid`` has made from here to
        somewhere; ``None`` if it cannot be known. One that was not seen for some time is left out,
        for many are short. The same object as in the look before if they are the same."""
        if self._tcp is None:
            return None
        if self._made is None:
            self._made = self._find_lasting(self._tcp)
        return self._made.get(uid, _NONE)

    def _find_lasting(self, table: TcpTable) -> dict[int, frozenset[int]]:
        """Return the connections that were made from here and have lasted, by maker."""
        heard, now = self._heard, time.monotonic()
        before = heard.made_in
        if before is None or now - heard.made_at >= LASTING_SECONDS:
            heard.made_in, heard.made_at = table, now
        kept, heard.lasting = heard.lasting, {}
        for maker, inodes in table.made.items():
            lasting = inodes if before is None else inodes & before.made.get(maker, _NONE)
            heard.lasting[maker] = kept[maker] if kept.get(maker) == lasting else lasting
        return heard.lasting

    def tcp_accepted(self) -> frozenset[int]:
        """Return the inodes of the connections over TCP that were accepted here, as far as they are
        known."""
        return self._tcp.accepted if self._tcp is not None else _NONE

    def other_end(self, inode: int) -> OtherEnd | None:
        """Return the other end of a connection, over TCP or a unix socket; ``None`` if there is no
        such one any more, or it cannot be known. Raises
        :class:`fastx_list.agent.door.Unanswered` if it cannot be known now."""
        key = self._tcp.connected[inode][2] if self._tcp and inode in self._tcp.connected else None
        if key is not None:
            uid, other = self._tell_of_one(lambda teller: teller.other_end(key)) or (None, None)
            return OtherEnd(address_in(remote_address(key)), uid, other)
        if self._unix is None or inode not in self._unix.inodes:
            return None
        return OtherEnd(LOCAL, *(self._tell_of_one(lambda teller: teller.unix_peer(inode)) or ()))

    def tcp_inodes(self) -> Mapping[int, int] | None:
        """Return the local ports of all TCP sockets, established and listening ones, by inode;
        ``None`` if they cannot be known."""
        return self._tcp.ports if self._tcp is not None else None

    def _spoken(
        self, name: int | str, connections: Mapping[int, bytes | None], least: int
    ) -> frozenset[int] | None:
        before = self._heard.connections[name] = self._before.get(name, {})
        if self._tcp is None:
            return None
        if not connections and not before:
            return _NONE
        try:
            # The table may leave out one whose neighbour in it has gone while it was told
            left_out = {
                inode: key
                for inode, key in before.items()
                if inode not in connections and self._is_established(key)
            }
            connections = {**connections, **left_out} if left_out else connections
            self._before[name] = self._heard.connections[name] = connections
            return frozenset(
                inode for inode, key in connections.items() if self._has_spoken(key, least)
            )
        except Unanswered as error:
            self.unanswered = str(error)
            return None

    def tcp_listeners(self) -> Mapping[int, Mapping[int, int]]:
        """Return the TCP ports at which connections are accepted, each with the inodes of the
        sockets that do and the users who made them."""
        return self._tcp.listening if self._tcp is not None else {}

    def unix_clients(self, path: str) -> frozenset[int] | None:
        """Return the inodes of the accepted connections to the unix socket at ``path``, or at the
        abstract one of that name, whose clients are still there. ``None`` if it cannot be known.

        A socket's path is whatever its owner chose, so an inode says something about another
        user's process only if that process has it open: see ``Machine.own_sockets``.
        """
        before = self._heard.accepted[path] = self._accepted_before.get(path, frozenset())
        if self._unix is None:
            return None
        accepted, names = self._unix.accepted, addresses(path)
        here = _NONE.union(*(accepted.get(address, ()) for address in names))
        try:
            here |= {inode for inode in before - here if self._is_accepted(inode, names)}
        except Unanswered as error:
            self.unanswered = str(error)
            return None
        self._accepted_before[path] = self._heard.accepted[path] = here
        return here

    def unix_listeners(self, path: str) -> Mapping[int, int | None]:
        """Return the inodes of the sockets that accept connections at ``path``, with the users who
        made them, where that is known; the caution above holds."""
        return self._unix.listeners(path) if self._unix is not None else {}

    def listening_paths(self) -> Iterable[str]:
        """Return the paths at which unix sockets accept connections; those of abstract ones begin
        with a zero character."""
        return self._unix.paths if self._unix is not None else ()

    def unix_listeners_at(self, pattern: re.Pattern[str]) -> dict[str, Mapping[int, int | None]]:
        """Return the paths, all of which ``pattern`` matches, at which unix sockets accept
        connections, each with what :meth:`unix_listeners` says of it: the same object while nothing
        changes."""
        return self._unix.listeners_at(pattern) if self._unix is not None else {}

    @property
    def unproved(self) -> frozenset[int]:
        """Which sockets are unix sockets only as far as somebody says who can be lied to."""
        return self._unix.inodes if self._unix is not None and self._can_be_lied_to else _NONE

    @property
    def unix_is_known(self) -> bool:
        """Whether it can be known who listens at unix sockets."""
        return self._unix is not None

    @property
    def signs(self) -> Signs | None:
        """By what a change of these sockets is told; ``None`` if that cannot be told."""
        heard, stamp = self._heard, self.stamp
        if self._tcp is None or self._unix is None or self._is_only_listed:
            return None
        if stamp is None or heard.has_asked:
            return signs_of(heard, self._tcp, self._unix)
        # While the stamp is the same, nothing is left out of what was asked for
        of = stamp, len(heard.connections), len(heard.accepted), dict(heard.least)
        if heard.signs is None or heard.signs[0] != of:
            heard.signs = of, signs_of(heard, self._tcp, self._unix)
        return heard.signs[1]

    @cached_property
    def stamp(self) -> object:
        """The same object as in the look before while all that was said of connections still holds:
        who then has the answer need not ask. ``None`` if there is no such object."""
        heard, tcp, unix = self._heard, self._tcp, self._unix
        if tcp is None or unix is None or not self._is_all:
            return None
        if heard.tables is not None and heard.tables[0] is tcp and heard.tables[1] is unix:
            heard.connections = {**self._before, **heard.connections}
            heard.accepted = {**self._accepted_before, **heard.accepted}
            heard.least = {**self._least_before, **heard.least}
        else:
            # Of connections that were made from here some last only when they are told again
            lasts = heard.made_in is None or heard.made_in is tcp
            heard.tables, heard.stamp = (tcp, unix) if lasts else None, object()
        return heard.stamp

    def _table(self, name: str, ask: Callable[[Diag | ProcNet], T]) -> T | None:
        """Return the table ``name``, which ``ask`` asks for; ``None`` if it cannot be known. One
        that has too many sockets has rest then: somebody may have made them to keep us busy."""
        now, rests = time.monotonic(), self._heard.rests
        try:
            if now < rests.get(name, now):
                raise TooMany
            rests.pop(name, None)
            return self._tell(ask)
        except TooMany as error:
            rests.setdefault(name, now + REST_SECONDS)
            self.unanswered = str(error)
        except Unanswered as error:
            self.unanswered = str(error)
        return None

    def _tell_of_one(self, ask: Callable[[Diag | ProcNet], T]) -> T | None:
        """Return the same of a single socket. Raises the same error."""
        self._heard.has_asked = True
        return self._tell(ask)

    def _tell(self, ask: Callable[[Diag | ProcNet], T]) -> T | None:
        """Return what ``ask`` does of the best of those who can tell; ``None`` if nobody can.
        Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be known now."""
        for kind in (Diag, ProcNet):
            self._is_only_listed |= kind is ProcNet
            try:
                with kind(self._pid, self._heard.kept) as teller:
                    return ask(teller)
            except DiagError:
                continue
        return None

    @cached_property
    def _tcp(self) -> TcpTable | None:
        read = self._table("tcp", self._read_tcp)
        if read is None:
            return None
        if read is not self._heard.tcp:
            self._heard.tcp = read
            if self._is_all:
                self._heard.keep(read.table.keys)
        return read.table

    def _read_tcp(self, teller: Diag | ProcNet) -> Read:
        """Return the table of TCP sockets: the one that is known if that holds."""
        known, sign, now = self._heard.tcp, teller.tcp_sign(), time.monotonic()
        if known is not None and sign is not None and sign == known.sign and now < known.until:
            return known
        began = time.thread_time()
        table = TcpTable(teller.tcp())
        took = time.thread_time() - began
        holds = min(max(HOLDS_SECONDS, HOLDS_TIMES * took), HOLDS_AT_MOST)
        return Read(table, sign, now + holds if teller.has_told_all else now)

    @cached_property
    def _unix(self) -> UnixTable | None:
        found = self._table("unix", lambda teller: (*teller.unix(), teller.can_be_lied_to))
        if found is None:
            return None
        listening, accepted, self._can_be_lied_to = found
        known = self._heard.unix
        if known is None or known[0] is not listening or known[1] is not accepted:
            known = self._heard.unix = listening, accepted, UnixTable(listening, accepted)
        return known[2]

    def _is_established(self, key: bytes | None) -> bool:
        return key is not None and bool(
            self._tell_of_one(lambda teller: teller.is_established(key))
        )

    def _is_accepted(self, inode: int, addresses: list[bytes]) -> bool:
        found = self._tell_of_one(lambda teller: teller.accepted(inode))
        return any(each == inode and address in addresses for address, each in found or ())

    def _has_spoken(self, key: bytes | None, least: int) -> bool:
        if key is None or (key, least) in self._heard:
            return True
        received = self._tell_of_one(lambda teller: teller.received(key))
        if received is not None and received < least:
            return False
        self._heard.add(key, least)
        return True


def all_of(*connections: frozenset[int] | None) -> frozenset[int] | None:
    """Return all ``connections`` together; ``None`` if some cannot be known."""
    together = _NONE
    for each in connections:
        if each is None:
            return None
        if each:
            together = together | each if together else each
    return together
