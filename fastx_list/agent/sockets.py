"""The sockets of a network namespace: who waits for clients where, and which clients there are."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TypeAlias, TypeVar

from fastx_list.agent.diag import LISTEN, Diag, DiagError, TooMany
from fastx_list.agent.door import Unanswered
from fastx_list.agent.proc_net import ProcNet

T = TypeVar("T")
_Tcp: TypeAlias = tuple[
    dict[int, dict[int, bytes | None]],
    dict[int, dict[int, int]],
    list[tuple[int, int, bytes | None, int, int]],
]
_NONE: frozenset[int] = frozenset()
REST_SECONDS = 30.0  # that a table has in which there are too many sockets


class Heard:
    """What is kept from one look to the next: which TCP connections have spoken, since nobody
    unsays anything, and which tables have rest."""

    def __init__(self) -> None:
        # Until when a table is not asked for again, by the monotonic clock.
        self.rests: dict[str, float] = {}
        # Keys of sockets, and how many bytes were asked for.
        self._spoken: set[tuple[bytes, int]] = set()
        # The connections that were told last of each port, or name, that was asked for.
        self.connections: dict[int | str, Mapping[int, bytes | None]] = {}
        # The connections that were made from here, by maker, as they were told last, None if they
        # never were; and those of them that were told twice.
        self.made: dict[int, set[int]] | None = None
        self.lasting: dict[int, frozenset[int]] = {}
        # Of the paths that were asked for, the accepted unix sockets that were told last.
        self.accepted: dict[str, frozenset[int]] = {}

    def __contains__(self, spoken: tuple[bytes, int]) -> bool:
        return spoken in self._spoken

    def __len__(self) -> int:
        return len(self._spoken)

    def add(self, key: bytes, least: int) -> None:
        self._spoken.add((key, least))

    def keep(self, keys: Iterable[bytes]) -> None:
        """Forget what is not among ``keys``, those of the sockets that there are."""
        if self._spoken:
            here = set(keys)
            self._spoken = {spoken for spoken in self._spoken if spoken[0] in here}


class Sockets:
    """The sockets of one network namespace: ours, or that of process ``pid``. Each table is read
    once, when first asked for."""

    def __init__(self, pid: int | None = None, heard: Heard | None = None) -> None:
        self._pid = pid
        self._heard = Heard() if heard is None else heard
        # What the last look told of connections.
        self._before, self._heard.connections = self._heard.connections, {}
        self._accepted_before, self._heard.accepted = self._heard.accepted, {}
        # Why something cannot be known now that may be known another time; None if all can.
        self.unanswered: str | None = None
        # The connections that were made from here, by maker; None until asked for.
        self._made: dict[int, frozenset[int]] | None = None
        # Which sockets are unix sockets only as far as somebody says who can be lied to.
        self.unproved: frozenset[int] = frozenset()

    def tcp_clients(self, port: int, least: int = 1) -> frozenset[int] | None:
        """Return the inodes of the accepted connections to local TCP ``port`` over which at least
        ``least`` bytes have come in: who says nothing, such as a probe, is no client.

        ``None`` if it cannot be known. Of another namespace it may not be known who has spoken;
        then every connection counts.
        """
        return self._spoken(port, {} if self._tcp is None else self._tcp[0].get(port, {}), least)

    def tcp_spoken(self, name: str, inodes: frozenset[int], least: int) -> frozenset[int] | None:
        """Return those of ``inodes`` that are connections over TCP, and over which so many bytes
        have come in; ``None`` if it cannot be known. ``name`` is whose they are."""
        keys = self._established
        return self._spoken(name, {each: keys[each][2] for each in inodes if each in keys}, least)

    def tcp_made(self, uid: int) -> frozenset[int] | None:
        """Return the inodes of the connections over TCP that user ``uid`` has made from here to
        somewhere; ``None`` if it cannot be known. One that the look before did not see is left out,
        for many are short. The same object as in that look if they are the same."""
        if self._tcp is None:
            return None
        if self._made is None:
            made: dict[int, set[int]] = {}
            for inode, (maker, port, _) in self._established.items():
                if port not in self._tcp[1]:
                    made.setdefault(maker, set()).add(inode)
            before, kept = self._heard.made, self._heard.lasting
            self._heard.made = made
            self._made = {}
            for maker, inodes in made.items():
                lasting = frozenset(inodes if before is None else inodes & before.get(maker, set()))
                self._made[maker] = kept[maker] if kept.get(maker) == lasting else lasting
            self._heard.lasting = self._made
        return self._made.get(uid, _NONE)

    def tcp_inodes(self) -> Mapping[int, int] | None:
        """Return the local ports of all TCP sockets, established and listening ones, by inode;
        ``None`` if they cannot be known."""
        if self._tcp is None:
            return None
        established = {inode: port for inode, (_, port, _) in self._established.items()}
        return established | {
            inode: port for port, inodes in self._tcp[1].items() for inode in inodes
        }

    def _spoken(
        self, name: int | str, connections: Mapping[int, bytes | None], least: int
    ) -> frozenset[int] | None:
        before = self._heard.connections[name] = self._before.get(name, {})
        if self._tcp is None:
            return None
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
        return self._tcp[1] if self._tcp is not None else {}

    def unix_clients(self, path: str) -> frozenset[int] | None:
        """Return the inodes of the accepted connections to the unix socket at ``path``, or at the
        abstract one of that name, whose clients are still there. ``None`` if it cannot be known.

        A socket's path is whatever its owner chose, so an inode says something about another
        user's process only if that process has it open: see ``Machine.own_sockets``.
        """
        before = self._heard.accepted[path] = self._accepted_before.get(path, frozenset())
        if self._unix is None:
            return None
        accepted, addresses = self._unix[0], _addresses(path)
        here = frozenset().union(*(accepted.get(address, ()) for address in addresses))
        try:
            here |= {inode for inode in before - here if self._is_accepted(inode, addresses)}
        except Unanswered as error:
            self.unanswered = str(error)
            return None
        self._accepted_before[path] = self._heard.accepted[path] = here
        return here

    def unix_listeners(self, path: str) -> Mapping[int, int | None]:
        """Return the inodes of the sockets that accept connections at ``path``, with the users who
        made them, where that is known; the caution above holds."""
        listening = self._unix[1] if self._unix is not None else {}
        return {
            inode: uid
            for address in _addresses(path)
            for inode, uid in listening.get(address, {}).items()
        }

    def listening_paths(self) -> Iterable[str]:
        """Return the paths at which unix sockets accept connections; those of abstract ones begin
        with a zero character."""
        listening = self._unix[1] if self._unix is not None else {}
        return [os.fsdecode(each if each[:1] == b"\0" else each[:-1]) for each in listening]

    def unix_listeners_at(self, pattern: re.Pattern[str]) -> dict[str, Mapping[int, int | None]]:
        """Return the paths, all of which ``pattern`` matches, at which unix sockets accept
        connections, each with what :meth:`unix_listeners` says of it."""
        return {
            path: self.unix_listeners(path)
            for path in self.listening_paths()
            if pattern.fullmatch(path)
        }

    @property
    def unix_is_known(self) -> bool:
        """Whether it can be known who listens at unix sockets."""
        return self._unix is not None

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

    def _tell(self, ask: Callable[[Diag | ProcNet], T]) -> T | None:
        """Return what ``ask`` does of the best of those who can tell; ``None`` if nobody can.
        Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be known now."""
        for kind in (Diag, ProcNet):
            try:
                with kind(self._pid) as teller:
                    return ask(teller)
            except DiagError:
                continue
        return None

    @cached_property
    def _tcp(self) -> _Tcp | None:
        """Inodes and keys of the established connections by local port, inodes and makers of the
        listening sockets by port, and all as they were told. Without a key, nothing more can be
        asked of a connection."""
        found = self._table("tcp", lambda teller: teller.tcp())
        if found is None:
            return None
        connections: dict[int, dict[int, bytes | None]] = {}
        listening: dict[int, dict[int, int]] = {}
        for state, port, key, uid, inode in found:
            if state == LISTEN:
                listening.setdefault(port, {})[inode] = uid
            else:
                connections.setdefault(port, {})[inode] = key
        self._heard.keep(key for sockets in connections.values() for key in sockets.values() if key)
        return connections, listening, found

    @cached_property
    def _established(self) -> dict[int, tuple[int, int, bytes | None]]:
        """Makers, ports and keys of the established connections, by inode."""
        found = () if self._tcp is None else self._tcp[2]
        return {
            inode: (uid, port, key) for state, port, key, uid, inode in found if state != LISTEN
        }

    @cached_property
    def _unix(self) -> tuple[dict[bytes, set[int]], dict[bytes, dict[int, int | None]]] | None:
        """Inodes of the accepted sockets, and inodes and makers of the listening ones, by address:
        that of an abstract socket begins with a zero, any other ends with one."""
        found = self._table("unix", lambda teller: (*teller.unix(), teller.can_be_lied_to))
        if found is None:
            return None
        accepted: dict[bytes, set[int]] = {}
        listening: dict[bytes, dict[int, int | None]] = {}
        for address, inode, uid in found[0]:
            listening.setdefault(address, {})[inode] = uid
        for address, inode in found[1]:
            accepted.setdefault(address, set()).add(inode)
        if found[2]:
            self.unproved = frozenset(
                {inode for _, inode, _ in found[0]} | {inode for _, inode in found[1]}
            )
        return accepted, listening

    def _is_established(self, key: bytes | None) -> bool:
        return key is not None and bool(self._tell(lambda teller: teller.is_established(key)))

    def _is_accepted(self, inode: int, addresses: list[bytes]) -> bool:
        found = self._tell(lambda teller: teller.accepted(inode))
        return any(each == inode and address in addresses for address, each in found or ())

    def _has_spoken(self, key: bytes | None, least: int) -> bool:
        if key is None or (key, least) in self._heard:
            return True
        received = self._tell(lambda teller: teller.received(key))
        if received is not None and received < least:
            return False
        self._heard.add(key, least)
        return True


def _addresses(path: str) -> list[bytes]:
    name = os.fsencode(path)
    return [name] if name[:1] == b"\0" else [name + b"\0", b"\0" + name]


def all_of(*connections: frozenset[int] | None) -> frozenset[int] | None:
    """Return all ``connections`` together; ``None`` if some cannot be known."""
    together: frozenset[int] = frozenset()
    for each in connections:
        if each is None:
            return None
        together |= each
    return together
