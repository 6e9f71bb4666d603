"""Where the clients of a session come from, as the kernel's tables have it.

Who reaches a session through a relay on this machine (xrdp, websockify, guacd, the server of an ssh
tunnel) seems to be here. The relay has both connections open: the one to the session, and the one
that its client has made to it. So the far end is known where all that a relay has accepted comes
from one address. What somebody runs over ssh, such as ``xpra _proxy``, has accepted nothing itself;
the server of ssh that has started it has. Where all comes from several addresses, or a relay may
not be looked into, it is the nearer end.
"""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

from fastx_list.agent.door import Unanswered
from fastx_list.agent.process import Process
from fastx_list.model.addresses import in_order

if TYPE_CHECKING:
    from fastx_list.agent.machine import Machine

# What the names of relays begin with: a name proves nothing, but spares looking into all others
RELAYS = ("xrdp", "websockify", "python", "guacd", "sshd", "dropbear", "xpra", "stunnel", "haproxy")
SSH_SERVERS = ("sshd", "dropbear")
MAX_ABOVE = 10  # processes between a server of ssh and what somebody runs through it
MAX_BEHIND = 3  # relays, one behind the other
MAX_RELAYS = 1000  # of one user that are looked into
MAX_ACCEPTED = 64  # connections of one relay that are followed
ATTEMPTS = 10  # looks in which one connection is asked about


class FarEnds:
    """Where the clients of one session come from. Each connection is asked about once."""

    def __init__(self, process: Process) -> None:
        """``process`` serves the session."""
        self._process = process
        # By connection: where it comes from, or in how many looks that was not to be known.
        self._known: dict[int, str | int] = {}
        # The connections that were asked for last, and where they come from.
        self._connections: frozenset[int] | None = None
        self._addresses: tuple[str, ...] | None = None
        # Whether some of them are to be asked about again.
        self._is_unsure = False

    def of(self, connections: frozenset[int] | None, machine: Machine) -> tuple[str, ...] | None:
        """Return where ``connections`` come from, which are the inodes of their ends here; ``None``
        if there are some, and of none that is known."""
        if connections == self._connections and not self._is_unsure:
            return self._addresses
        self._connections, self._addresses, self._is_unsure = connections, None, False
        if connections is None:
            return None
        self._known = {inode: self._known.get(inode, 0) for inode in connections}
        for inode, known in self._known.items():
            if isinstance(known, int) and known < ATTEMPTS:
                if not machine.limits.has_time():
                    self._is_unsure = True
                    break
                self._known[inode] = self._ask(inode, machine, known + 1)
        found = [each for each in self._known.values() if isinstance(each, str)]
        if found or not connections:
            self._addresses = in_order(found)
        return self._addresses

    def _ask(self, inode: int, machine: Machine, attempt: int) -> str | int:
        try:
            behind = MAX_BEHIND if attempt < ATTEMPTS else 0
            return _far_end(inode, self._process, machine, behind) or ATTEMPTS
        except Unanswered:
            self._is_unsure |= attempt < ATTEMPTS
            return attempt


class Relays:
    """The relays that run, and what they have open, as of one look."""

    def __init__(self) -> None:
        # The youngest first, by user.
        self._of_users: dict[int, list[Process]] = {}
        # The sockets that each has open, by pid; None if we may not know.
        self._opened: dict[int, frozenset[int] | None] = {}
        # Where all comes from that each has accepted, by pid and how many may be behind it.
        self._origins: dict[tuple[int, int], str | None] = {}

        # Those that have begun since this look has.
        self._newer: list[Process] | None = None

    def begin(self) -> None:
        """Begin a look."""
        self._of_users, self._opened, self._origins, self._newer = {}, {}, {}, None

    def holder(self, inode: int, uid: int, machine: Machine) -> Process | None:
        """Return the relay of user ``uid`` that has the socket ``inode`` open. Raises
        :class:`fastx_list.agent.door.Unanswered` if that cannot be known now."""
        if uid not in self._of_users:
            theirs = machine.listing.by_user.of(uid)[::-1]
            found = [each for each in theirs if _may_be_relay(each, machine)]
            self._of_users[uid] = found[:MAX_RELAYS]
        for process in self._of_users[uid]:
            if inode in (self.opened(process, machine) or ()):
                return process
        if self._newer is None:
            self._newer = [each for each in machine.listing.newer() if _may_be_relay(each, machine)]
        for process in self._newer:
            if process.uid == uid and inode in (self.opened(process, machine) or ()):
                return process
        return None

    def opened(self, relay: Process, machine: Machine) -> frozenset[int] | None:
        """Return the sockets that ``relay`` has open; ``None`` if we may not know. Raises the same
        error."""
        if relay.pid not in self._opened:
            with machine.limits.spending(relay.payer):
                held = machine.held_sockets(relay)
            self._opened[relay.pid] = None if held is None else frozenset(each for _, each in held)
        return self._opened[relay.pid]

    def origin(self, relay: Process, machine: Machine, behind: int) -> str | None:
        """Return where all comes from that ``relay`` has accepted, with so many relays behind it;
        ``None`` if that is not one place, or not to be known. Raises the same error."""
        # Once, or relays behind relays would be gone through for each connection of each
        if (relay.pid, behind) not in self._origins:
            self._origins[relay.pid, behind] = _before(relay, machine, behind)
        return self._origins[relay.pid, behind]


def _far_end(inode: int, holder: Process, machine: Machine, behind: int) -> str | None:
    """Return where the connection comes from whose end ``inode`` the process ``holder`` has, with
    at most so many relays ``behind`` it; ``None`` if it is none any more, or not to be known."""
    if not machine.limits.has_time():
        raise Unanswered("where clients come from")
    end = machine.sockets(holder).other_end(inode)
    if end is None or end.inode is None or end.uid is None or not behind:
        return None if end is None else end.address
    relay = machine.relays.holder(end.inode, end.uid, machine)
    return (relay and machine.relays.origin(relay, machine, behind - 1)) or end.address


def _before(relay: Process, machine: Machine, behind: int) -> str | None:
    holder, accepted = relay, _accepted(relay, machine)
    if not accepted and (server := _ssh_server(relay, machine)):
        holder, accepted = server, _accepted(server, machine)
    if len(accepted) > MAX_ACCEPTED:
        return None
    ends = {inode: _far_end(inode, holder, machine, behind) for inode in accepted}
    if len(set(ends.values())) > 1:
        others = _of_elders(holder, machine)
        ends = {inode: end for inode, end in ends.items() if inode not in others}
    places = set(ends.values())
    return places.pop() if len(places) == 1 else None


def _accepted(relay: Process, machine: Machine) -> frozenset[int]:
    """Return the connections over TCP that ``relay`` has accepted for what it relays."""
    opened, sockets = machine.relays.opened(relay, machine) or frozenset(), machine.sockets(relay)
    accepted = opened & sockets.tcp_accepted()
    if not relay.stat.name.startswith(SSH_SERVERS):
        return accepted
    # It waits itself for its client's tunnels the other way, as for X11
    theirs = {port for port, each in sockets.tcp_listeners().items() if each.keys() & opened}
    ports = sockets.tcp_inodes() or {}
    return frozenset(inode for inode in accepted if ports.get(inode) not in theirs)


def _of_elders(relay: Process, machine: Machine) -> frozenset[int]:
    """Return the sockets of those that were forked before ``relay``: some that fork for each
    connection leave all that there are to each child, as guacd does."""
    elders = takewhile(lambda each: each.pid != relay.pid, machine.children(relay.stat.parent))
    return frozenset[int]().union(
        *(
            machine.relays.opened(each, machine) or ()
            for each in elders
            if each.uid == relay.uid and _may_be_relay(each, machine)
        )
    )


def _ssh_server(process: Process, machine: Machine) -> Process | None:
    """Return the server of ssh through which somebody runs ``process``."""
    above: Process | None = process
    for _ in range(MAX_ABOVE):
        above = machine.processes.get(above.stat.parent) if above is not None else None
        if above is not None and above.stat.name.startswith(SSH_SERVERS):
            return above
    return None


def _may_be_relay(process: Process, machine: Machine) -> bool:
    """Return whether the name of ``process``, or that of who has started it, is one of a relay's:
    guacd's processes may be called by what they do, and what is run over ssh by anything."""
    names = process.stat.name, machine.parent_name(process)
    return any(name.startswith(RELAYS) for name in names)
