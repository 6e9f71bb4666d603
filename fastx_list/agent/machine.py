"""What the sources look at: this machine's processes and sockets, as of one look. File formats are
those of proc(5)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Mapping, Sequence, Set
from itertools import islice
from operator import is_

from fastx_list.agent.clock import clock
from fastx_list.agent.door import EXHAUSTED, Unanswered, ask
from fastx_list.agent.far_ends import Relays
from fastx_list.agent.heard import Heard
from fastx_list.agent.idle import IDLE_SECONDS
from fastx_list.agent.limits import Limits
from fastx_list.agent.logins import Logins
from fastx_list.agent.meter import Meter
from fastx_list.agent.process import (
    Process,
    by_age,
    by_display,
    is_unix_socket,
    own_namespace,
    read_stat,
    socket_inode,
)
from fastx_list.agent.processes import Processes
from fastx_list.agent.rfb import MIRRORS, Mirrors
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.subordinates import Payer, subordinates
from fastx_list.agent.x11 import FIRST_PORT, socket_path

MAX_EXPLAINED = 10_000  # subjects that are kept in mind
MAX_DESCRIPTORS = 4096  # of a process that are looked at

log = logging.getLogger(__name__)


def _cut(name: str) -> str:
    return name[:15]  # TASK_COMM_LEN


class Machine:
    """The processes and sockets of this machine. :meth:`look` takes a new look at it."""

    def __init__(self, limits: Limits | None = None, programs: Iterable[str] = ()) -> None:
        """``programs`` are those that serve sessions: of a user who has very many processes of them
        not all are looked at."""
        # What each login may cost.
        self.limits = limits or Limits()
        self._programs = {_cut(name) for name in (*programs, *MIRRORS)}
        # Those that run.
        self.listing = Processes()
        # When they were looked at last, in seconds since the Unix epoch.
        self.last_look: float | None = None
        # When the machine was booted, by the clock as this look has it.
        self.booted = clock.booted
        # The identities of processes of which the kernel has said that they run as this look began;
        # others may as well.
        self.running: Set[str] = frozenset()
        # The users for whom this look is made sooner than at the interval; none if it is not.
        self.made_for: Set[Payer | None] = frozenset()
        # Those who have begun to wait for somebody at a socket, maybe in another program that one
        # of their processes has become.
        self.users_of_new_servers: Set[int] = frozenset()
        # The identities of the processes that a source has taken in this look.
        self.claimed: set[str] = set()
        # The inodes of the sockets at which those are X servers, as far as they are sessions.
        self.held: set[int] = set()
        # The sources whose sessions processes are, in this look and in the last one.
        self.kinds: dict[str, object] = {}
        self.kinds_before: dict[str, object] = {}
        # The displays that one has taken, each with whose it is and where.
        self._displays: set[tuple[int, str | None, str | None, int]] = set()
        self._network = own_namespace("net")
        # In this look: the sockets by network namespace.
        self._sockets: dict[str | None, Sockets] = {}
        # The processes of our programs, by name, and those of very many that are passed over, with
        # whose they are.
        self._chosen: tuple[list[list[Process]], set[int], Set[Payer]] = ([], set(), frozenset())
        # What :meth:`named` has said of them.
        self._named: dict[frozenset[str], tuple[list[list[Process]], list[Process]]] = {}
        # Each user's processes, and those of them that were started on a display, by its number.
        self._on_displays: dict[int, tuple[list[Process], Mapping[int, list[Process]]]] = {}
        # Which TCP connections have spoken, by network namespace.
        self._heard: dict[str | None, Heard] = {}
        # What shows displays to viewers.
        self.mirrors = Mirrors()
        # Through what viewers reach sessions.
        self.relays = Relays()
        # After so long without input a session is idle.
        self.idle_seconds = IDLE_SECONDS
        # What the sessions use.
        self.meter = Meter()
        # Whose processes they are.
        self.logins = Logins()
        # The identities of processes that could not be looked into in this look, so that it is not
        # known whether they serve a session.
        self.unanswered: set[str] = set()
        # The users for whose sessions there was not enough time in this look.
        self.late: set[int] = set()
        # The logins of whose sessions some may be in what has never been readable; None is anybody.
        self.unread: set[str | None] = set()
        # What keeps us from seeing all in this look, by subject, for those who run the machine.
        self.problems: dict[str, str] = {}
        # What was said last of each subject, so that it is said once.
        self._explained: dict[str, str] = {}

    @property
    def processes(self) -> Mapping[int, Process]:
        """Those that run, by pid, as of the last look."""
        return self.listing.by_pid

    def look(self) -> None:
        """Bring :attr:`processes` up to date and forget the sockets of the last look."""
        self.booted = clock.read()
        if not self.limits.left_out:
            self._heard = {network: self._heard[network] for network in self._sockets}
        self._sockets = {}
        users = self.listing.by_user.keys()
        self._on_displays = {uid: each for uid, each in self._on_displays.items() if uid in users}
        subordinates.read()
        self.mirrors.begin()
        self.relays.begin()
        self.limits.begin(is_first=self.last_look is None, made_for=self.made_for)
        self.claimed, self.held, self._displays = set(), set(), set()
        self.kinds_before, self.kinds = self.kinds, {}
        self.unanswered, self.unread, self.problems = set(), set(), {}
        self.late = set()
        self.listing.look(self.users_of_new_servers, self.limits.left_out)
        self.last_look = time.time()

    def doubt_tables(self) -> None:
        """Read our network's connections, of which something was told, anew in the next look,
        though their sign be the same."""
        if self._network in self._heard:
            self._heard[self._network].tcp = None

    def still_runs(self, process: Process) -> bool:
        """Whether ``process`` is still the one it was, and no zombie."""
        stat = read_stat(process.pid)
        return stat is not None and stat.start == process.stat.start

    def named(self, names: Iterable[str]) -> Sequence[Process]:
        """Return the processes of one user each that run a program of one of ``names``, the oldest
        first."""
        passed_over = self._pass_over()
        asked = frozenset(map(_cut, names))
        found = [theirs for name in asked if (theirs := self.listing.by_name.of(name))]
        known = self._named.get(asked)
        if known is None or not _are_same(known[0], found):
            processes = [each for theirs in found for each in theirs if each.pid not in passed_over]
            known = self._named[asked] = found, sorted(processes, key=by_age)
        return known[1]

    def _pass_over(self) -> set[int]:
        """Return those of very many processes of one user that are not looked at."""
        by_name = self.listing.by_name
        lists = [by_name.of(name) for name in sorted(self._programs & by_name.keys())]
        if not _are_same(self._chosen[0], lists):
            self._named.clear()
            passed_over = self.limits.choose(each for theirs in lists for each in theirs)
            self._chosen = lists, passed_over, frozenset(self.limits.over)
        self.limits.over |= self._chosen[2]
        return self._chosen[1]

    def on_display(self, server: Process, display: int) -> Iterable[Process]:
        """Return the processes of the same user that were started on ``display`` of ``server``, the
        first one first: there may be several displays of this number on a machine."""
        for process in self._started_on(server.uid, display):
            if _meets(process, server, display):
                yield process

    def _started_on(self, uid: int, display: int) -> Sequence[Process]:
        theirs = self.listing.by_user.of(uid)
        known = self._on_displays.get(uid)
        if known is None or known[0] is not theirs:
            known = theirs, by_display(uid, theirs)
            # Who could not be asked is asked again
            if all(each.has_told_display for each in theirs):
                self._on_displays[uid] = known
        return known[1].get(display, [])

    def children(self, pid: int) -> Sequence[Process]:
        """Return the child processes of ``pid``, the oldest first."""
        return self.listing.by_parent.of(pid)

    def is_copy(self, process: Process) -> bool:
        """Return whether a claimed process has forked ``process``, which is like it until it
        becomes another by ``exec``; or whether it just does, when it has the old sockets, and other
        arguments or none yet."""
        parent = self.processes.get(process.stat.parent)
        if (
            parent is not None
            and parent.identity in self.claimed
            and (parent.uid, parent.args) == (process.uid, process.args)
        ):
            return True
        if not process.is_young:
            return False
        stat = read_stat(process.pid)  # after its arguments, which it has later than its name
        return not process.args or stat is None or stat.name != process.stat.name

    def parent_name(self, process: Process) -> str:
        """Return the name of the program that started ``process``; nothing if that has ended."""
        parent = self.processes.get(process.stat.parent)
        return parent.stat.name if parent is not None else ""

    def sockets(self, process: Process) -> Sockets:
        """Return the sockets of the network namespace that ``process`` is in; those of ours, which
        it likely is, if we may not know."""
        network = process.network
        if network is None or network == self._network:
            return self.own_network
        return self._sockets_in(network, process.pid)

    @property
    def own_network(self) -> Sockets:
        """The sockets of the network namespace that we are in."""
        return self._sockets_in(self._network, None)

    def _sockets_in(self, network: str | None, pid: int | None) -> Sockets:
        if network not in self._sockets:
            heard = self._heard.setdefault(network, Heard())
            self._sockets[network] = Sockets(pid, heard, not self.limits.left_out)
        return self._sockets[network]

    def claim_display(self, process: Process, display: int) -> None:
        """Take note that a session of the user of ``process`` has ``display`` where that is."""
        self._displays.add((process.uid, process.network, process.mounts, display))

    def is_claimed(self, process: Process, display: int) -> bool:
        """Return whether one has."""
        return (process.uid, process.network, process.mounts, display) in self._displays

    def sockets_of_display(self, process: Process, display: int) -> frozenset[int] | None:
        """Return the inodes of the sockets of the X server of ``display`` that ``process`` has
        open; ``None`` if we may not know."""
        sockets = self.sockets(process)
        makers = {
            **sockets.unix_listeners(socket_path(display)),
            **sockets.tcp_listeners().get(FIRST_PORT + display, {}),
        }
        return self.own_listeners(process, makers)

    def own_listeners(
        self, process: Process, makers: Mapping[int, int | None]
    ) -> frozenset[int] | None:
        """Return those of the sockets ``makers``, users by inode, that ``process`` really has open
        and that its user has made; ``None`` if we may not know. A program that runs as another user
        (setuid) may have been handed sockets by who started it."""
        if process.network is None or not self.sockets(process).unix_is_known:
            return None
        made = frozenset(inode for inode, uid in makers.items() if uid in (None, process.uid))
        return self.opened(process, made)

    def waits_at(self, process: Process) -> frozenset[int] | None:
        """Return the TCP ports at which ``process`` itself waits for connections; ``None`` if we
        may not know."""
        ports = self.sockets(process).tcp_listeners()
        makers = {inode: uid for each in ports.values() for inode, uid in each.items()}
        own = self.own_listeners(process, makers)
        if own is None:
            return None
        return frozenset(port for port, inodes in ports.items() if inodes.keys() & own)

    def own_sockets(self, process: Process, inodes: frozenset[int]) -> frozenset[int]:
        """Return those of ``inodes`` that ``process`` really has open; all of them if we may not
        know."""
        opened = self.opened(process, inodes)
        return inodes if opened is None else opened

    def opened(self, process: Process, inodes: frozenset[int]) -> frozenset[int] | None:
        """Return those of the sockets ``inodes`` that ``process`` has open; ``None`` if we may not
        know. Of none, none are open, whatever we may know."""
        if not inodes:
            return inodes
        held = self.held_sockets(process)
        if held is None:
            return None
        unproved = self.sockets(process).unproved
        return frozenset(
            inode
            for descriptor, inode in held
            if inode in inodes and (inode not in unproved or is_unix_socket(descriptor))
        )

    def held_sockets(self, process: Process) -> list[tuple[str, int]] | None:
        """Return the descriptors of sockets that ``process`` has open, with their inodes; ``None``
        if we may not know."""
        directory = f"/proc/{process.pid}/fd"
        try:
            with os.scandir(directory) as entries:
                names = [entry.name for entry in islice(entries, MAX_DESCRIPTORS)]
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise Unanswered(f"what process {process.pid} has open") from None
            return None
        found = ((each, socket_inode(each)) for each in (f"{directory}/{name}" for name in names))
        return [(descriptor, inode) for descriptor, inode in found if inode is not None]

    def report_sockets(self) -> None:
        """Say which sockets cannot be known now, and when that is over."""
        subject = "sockets"
        why = {each.unanswered for each in self._sockets.values()} - {None}
        if not why:
            self.settle(subject)
            return
        problem = f"{'; '.join(sorted(map(str, why)))}; who is connected stays as it was"
        self.explain(subject, problem)
        self.problems[subject] = f"{subject}: {problem}"

    def explain(
        self, subject: str, problem: str, level: int = logging.WARNING, owner: int | None = None
    ) -> None:
        """Say, once for each ``subject``, what could not be seen and why: no more than there is
        room for about what is user ``owner``'s."""
        if self._explained.get(subject) != problem and (
            level < logging.WARNING or self.limits.may_say(owner)
        ):
            if len(self._explained) >= MAX_EXPLAINED:
                del self._explained[next(iter(self._explained))]
            self._explained[subject] = problem
            log.log(level, "%s: %s", subject, problem)

    def settle(self, subject: str) -> None:
        """Forget what was explained about ``subject``, and about "``subject``, …": it is over."""
        for name in list(self._explained):  # another thread may explain something meanwhile
            if name == subject or name.startswith(f"{subject}, "):
                self._explained.pop(name, None)


def _are_same(some: list[list[Process]], others: list[list[Process]]) -> bool:
    """Whether both are the same lists, each of which is another object when it has changed."""
    return len(some) == len(others) and all(map(is_, some, others))


def _meets(process: Process, server: Process, display: int) -> bool:
    """Return whether ``display`` is for ``process`` the one of ``server``: where both have the same
    network and files, or the same socket in different ones, such as a sandbox."""
    if (process.network, process.mounts) == (server.network, server.mounts):
        return True
    path = socket_path(display)
    try:
        return ask(
            process.uid,
            f"the files of process {process.pid}",
            lambda: os.path.samefile(process.path(path), server.path(path)),
        )
    except (OSError, Unanswered):
        return False
