"""Wayland desktops that viewers reach, over RFB or RDP.

Some compositors let viewers in themselves, as weston(1) does. Of the others a program of the same
user does, here called a bridge: wayvnc(1), gnome-remote-desktop(1), KDE's krdp and krfb, TigerVNC's
w0vncserver(1). A desktop without one is seen by whoever sits before it alone, and is no session.

The session is who listens at the Wayland socket: the compositor, or what restarts it when it has
crashed. Its screen is asked of its X server, Xwayland(1), only while that has others to serve: many
compositors start it for who connects to it, and one without cookies lets its own user in alone.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable
from itertools import pairwise

from fastx_list.agent.arguments import parse_args
from fastx_list.agent.display import STARTING_SECONDS, Screen, find_display, path_of
from fastx_list.agent.door import Unanswered
from fastx_list.agent.holders import Holders
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, by_age
from fastx_list.agent.rfb import LEAST_BYTES as LEAST_RFB_BYTES
from fastx_list.agent.served import ServedSession
from fastx_list.agent.sockets import all_of
from fastx_list.agent.sources.plain import is_for_people
from fastx_list.agent.xserver import XServers

GNOME = ("gnome-shell", "gala", "budgie-wm", "mutter")
KDE = ("kwin_wayland_wrapper", "kwin_wayland")
COMPOSITORS = (
    *GNOME,
    *KDE,
    *("weston", "sway", "cage", "labwc", "wayfire", "river", "niri", "Hyprland", "cosmic-comp"),
)
SERVE_THEMSELVES = ("weston",)
# The bridges, and the compositors that they ask over D-Bus; the others are clients of a compositor.
BRIDGES: dict[str, tuple[str, ...]] = {
    "wayvnc": (),
    "w0vncserver": (),
    "gnome-remote-desktop-daemon": GNOME,
    "krdpserver": KDE,
    "krfb": KDE,
}
GNOME_BRIDGE = "gnome-remote-desktop-daemon"
_HELPERS = re.compile(r"Xwayland|weston-.*|sway(bg|nag|bar)|dbus-.*|xdg-.*|kwin_.*|gnome-shell-.*")
_PATH = re.compile(r"/.+/wayland-[^/]+")
_SOCKET = re.compile(r"(?:--socket[= ]|-S ?)(.+)")
_UNSAID = "wayland-0"  # wl_display_connect(3)
RDP_PORT = 3389
# [MS-RDPBCGR] 2.2.1.1: the first message of a client is at most so long (TPKT and X.224 with a
# length of one byte). Who says no more may be a probe.
LEAST_RDP_BYTES = 4 + 255 + 1


def _is(process: Process, names: Iterable[str]) -> bool:
    return process.stat.name in {name[:15] for name in names}  # TASK_COMM_LEN


class Bridge:
    """What lets viewers in to a desktop."""

    def __init__(self, process: Process) -> None:
        self.process = process
        # The TCP ports and the paths at which it waits for viewers; None if we may not know.
        self._ports: frozenset[int] | None = None
        self._paths: frozenset[str] = frozenset()
        # The connections that were checked last, and those of them that are really its own; None
        # if we may not know.
        self._checked: tuple[frozenset[int], frozenset[int] | None] = (frozenset(), frozenset())

    def follow(self, machine: Machine) -> None:
        """Find out where it waits: some do so only once their user has allowed it."""
        if self._ports and not self.process.is_young:
            return
        self._ports = machine.waits_at(self.process)
        sockets, args = machine.sockets(self.process), self.process.args
        # wayvnc(1): what follows -S is a socket for orders, not for viewers
        self._paths = frozenset(
            path
            for before, path in pairwise(args)
            if path.startswith("/")
            and before not in ("-S", "--socket")
            and machine.own_listeners(self.process, sockets.unix_listeners(path))
        )

    @property
    def is_handed_viewers(self) -> bool:
        """Whether another user's process waits for its viewers: gnome-remote-desktop's does where
        users log in through it."""
        return "--handover" in self.process.args

    @property
    def may_serve(self) -> bool:
        """Whether it waits for viewers, as far as we may know."""
        if self._ports is None:
            return not _is(self.process, COMPOSITORS) or any(
                name in arg for arg in self.process.args for name in ("rdp", "vnc")
            )
        return bool(self._ports or self._paths) or self.is_handed_viewers

    def serves(self, desktop: Process, paths: Collection[str] | None) -> bool:
        """Return whether it serves ``desktop``, whose Wayland sockets are at ``paths``, ``None`` if
        we may not know that."""
        if (self.process.uid, self.process.network) != (desktop.uid, desktop.network):
            return False
        asked = next((each for name, each in BRIDGES.items() if _is(self.process, (name,))), ())
        if asked:
            return _is(desktop, asked)
        said = self.process.environ.get("WAYLAND_DISPLAY") or _UNSAID
        if paths is None or not self.process.may_look_inside:
            return True
        return any(said in (path, os.path.basename(path)) for path in paths)

    def connections(self, machine: Machine) -> frozenset[int] | None:
        """Return its viewers' connections; ``None`` if they cannot be known."""
        ports = self._ports
        if self.is_handed_viewers and ports is not None:
            ports = self._ports_of_those_who_hand_over(machine)
        if ports is None:
            return None
        sockets = machine.sockets(self.process)
        accepted = all_of(
            *(sockets.tcp_clients(port, self._least(port)) for port in ports),
            *map(sockets.unix_clients, self._paths),
        )
        if accepted is None:
            return None
        if accepted != self._checked[0] or self._checked[1] is None:
            self._checked = (accepted, machine.opened(self.process, accepted))
        return self._checked[1]

    def _ports_of_those_who_hand_over(self, machine: Machine) -> frozenset[int] | None:
        """Return the TCP ports at which these wait; ``None`` if we may not know. Anybody may run
        something of that name: in a network of its own, or for a moment."""
        found = []
        for process in machine.named((GNOME_BRIDGE,)):
            if "--system" not in process.args:
                continue
            if process.network not in (None, self.process.network):
                continue
            ports = machine.waits_at(process)
            if ports is not None or machine.still_runs(process):
                found.append(ports)
        return all_of(*found)

    def _least(self, port: int) -> int:
        is_rdp = port == RDP_PORT or any("rdp" in arg for arg in self.process.args)
        return LEAST_RDP_BYTES if is_rdp else LEAST_RFB_BYTES


class Bridges:
    """The bridges that run."""

    def __init__(self) -> None:
        # By the identities of their processes, as of this look.
        self._running: dict[str, Bridge] = {}
        # Those that may have served in the last one.
        self.served_before: set[str] = set()

    def look(self, machine: Machine) -> list[Process]:
        """Find them, and return their processes."""
        known, self._running = self._running, {}
        self.served_before = {name for name, each in known.items() if each.may_serve}
        for process in machine.named((*BRIDGES, *SERVE_THEMSELVES)):
            bridge = known.get(process.identity)
            if bridge is None or process.is_young:
                bridge = Bridge(process)
            self._running[process.identity] = bridge
            try:
                bridge.follow(machine)
            except Unanswered:
                continue
        return [bridge.process for bridge in self._running.values()]

    def of(self, desktop: Process, paths: Collection[str] | None) -> list[Bridge]:
        """Return those that let viewers in to ``desktop``: maybe itself."""
        return [
            bridge
            for name, bridge in self._running.items()
            if bridge.may_serve
            and (
                name == desktop.identity
                or (not _is(bridge.process, SERVE_THEMSELVES) and bridge.serves(desktop, paths))
            )
        ]


class _Desktop(ServedSession):
    is_x_server = False
    has_all_input = False

    def __init__(
        self, process: Process, paths: Collection[str] | None, bridges: Bridges, machine: Machine
    ) -> None:
        super().__init__(process, find_display(process, machine), machine)
        self._paths = paths
        self._bridges = bridges
        # The identity of its X server's process.
        self._x_server: str | None = None

    def follow(self, machine: Machine) -> None:
        if self.display is None and self.process.age < STARTING_SECONDS:
            self.display = find_display(self.process, machine)
        self._find_screen(machine)
        super().follow(machine)

    def _find_screen(self, machine: Machine) -> None:
        server = next(filter(self._is_x_server_of_it, machine.named(("Xwayland",))), None)
        identity = None if server is None else server.identity
        if self.screen is not None and identity != self._x_server:
            self.screen.close()
            self.screen = None
        self._x_server = identity
        if server is not None and self.screen is None and self.display is not None:
            authority = path_of(server, parse_args(server.args)[1].get("auth"))
            if authority is None and self.process.uid != os.geteuid():
                return
            self.screen = Screen(
                server, self.display, authority, None, lingers=False, is_x_server=False
            )

    def _is_x_server_of_it(self, process: Process) -> bool:
        return (process.uid, process.network, process.mounts) == (
            self.process.uid,
            self.process.network,
            self.process.mounts,
        ) and parse_args(process.args)[0] == self.display

    def applications(self, machine: Machine) -> Iterable[Process]:
        for process in machine.children(self.process.pid):
            if not _HELPERS.fullmatch(process.stat.name):
                yield process

    def all_connections(self, machine: Machine) -> frozenset[int] | None:
        bridges = self._bridges.of(self.process, self._paths)
        return all_of(*(bridge.connections(machine) for bridge in bridges))


class Wayland(XServers):
    """Finds desktops that viewers may reach, and who listens at their Wayland sockets."""

    programs = (*COMPOSITORS, *BRIDGES)
    own_programs = (*BRIDGES, *SERVE_THEMSELVES)

    def __init__(self, listed: bool = True) -> None:
        super().__init__(listed)
        self._bridges = Bridges()
        self._holders = Holders(likely=COMPOSITORS)

    def candidates(self, machine: Machine) -> Iterable[Process]:
        bridges = self._bridges.look(machine)
        if not bridges and not self._sessions:
            return ()
        users = {each.uid for each in bridges}
        listeners = {
            inode: uid for inode, uid in wayland_listeners(machine).items() if uid in users
        }
        known = [session.process for session in self._sessions.values()]
        found = {
            each.identity: each
            for each in [
                *self._holders.find(listeners, machine).values(),
                *(each for each in machine.named(COMPOSITORS) if each.uid in users),
                # A bridge may be started anew
                *(each for each in known if machine.processes.get(each.pid)),
            ]
        }
        return sorted(found.values(), key=by_age)

    def recognises(self, process: Process, machine: Machine) -> bool:
        if not is_for_people(process, machine):
            return False
        paths = _paths(process, machine)
        if paths is None:
            return _is(process, COMPOSITORS)
        above = machine.processes.get(process.stat.parent)
        return bool(paths) and not (
            above is not None
            and above.uid == process.uid
            and paths & (_paths(above, machine) or frozenset())
        )

    def wants(self, process: Process, machine: Machine) -> bool:
        return self.listed and bool(self._bridges.of(process, _paths(process, machine)))

    def _served_nothing(self, process: Process) -> bool:
        """Return whether nothing has let viewers in at the last look."""
        bridges = self._bridges.of(process, None)
        return self._idle_before is not None and all(
            bridge.process.identity not in self._bridges.served_before for bridge in bridges
        )

    def session(self, process: Process, machine: Machine) -> ServedSession | None:
        return _Desktop(process, _paths(process, machine), self._bridges, machine)


def wayland_listeners(machine: Machine) -> dict[int, int | None]:
    """Return the sockets in our own network at which compositors wait, with the users who made
    them."""
    listeners = machine.own_network.unix_listeners_at(_PATH)
    return {inode: uid for each in listeners.values() for inode, uid in each.items()}


def _is_at(path: str, process: Process) -> bool:
    """Return whether ``path`` is one at which ``process`` would have its Wayland socket."""
    if _PATH.fullmatch(path):
        return True
    # weston(1) and kwin_wayland(1) may be told its name
    said = (f"{before} {arg}" for before, arg in pairwise(process.args))
    names = {os.path.basename(path), path}
    return any(
        match and match[1] in names
        for match in (_SOCKET.fullmatch(each) for each in (*process.args, *said))
    )


def _paths(process: Process, machine: Machine) -> frozenset[str] | None:
    """Return the paths of the Wayland sockets at which ``process`` itself waits; ``None`` if we may
    not know. Raises :class:`fastx_list.agent.door.Unanswered` if it cannot be known now."""
    sockets = machine.sockets(process)
    if not sockets.unix_is_known and sockets.unanswered:
        raise Unanswered(sockets.unanswered)
    found = set()
    for path in sockets.listening_paths():
        if not _is_at(path, process):
            continue
        own = machine.own_listeners(process, sockets.unix_listeners(path))
        if own is None:
            return None
        if own:
            found.add(path)
    return frozenset(found)
