"""Which kind a session is once who started its X server has ended: only what the server has itself
can tell. Here every server is the child of the test, which is no session manager."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from fastx_list.agent import diag
from fastx_list.agent.door import Unanswered
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sources import KINDS, load_sources
from fastx_list.agent.sources.xrdp import Xrdp
from fastx_list.agent.x11 import socket_path
from fastx_list.agent.xserver import XServers
from fastx_list.config import Settings
from tests.support import Processes
from tests.system.sessions import free_display


class Servers:
    """X servers that only have their names, their command lines and their sockets."""

    def __init__(self, settings: Settings, processes: Processes, place: Path) -> None:
        self._processes, self._place = processes, place
        sources = load_sources(replace(settings, sources=tuple(KINDS)))
        self._sources = {name: each for name, each in sources.items() if isinstance(each, XServers)}

    def start(
        self, stack: ExitStack, line: str, environ: Mapping[str, str], address: str = ""
    ) -> int:
        """Start one with a command ``line`` in which N is its display, and return that number."""
        display = free_display()
        name, *options = line.replace("N", str(display)).split()
        program = self._place / name
        if not program.exists():
            shutil.copy(Path("/bin/sh").resolve(), program)
        listeners = []
        for path in ("\0" + socket_path(display), address and f"{self._place}/{address}{display}"):
            if path:
                listeners.append(stack.enter_context(socket.socket(socket.AF_UNIX)))
                listeners[-1].bind(path)
                listeners[-1].listen()
        self._processes.start(
            [str(program), "-c", "kill -STOP $$", f":{display}", *options],
            name,
            {each: value.replace("N", str(display)) for each, value in environ.items()},
            pass_fds=[each.fileno() for each in listeners],
        )
        return display

    def kinds(self, display: int) -> list[str]:
        """Return the kinds that say they have a session on ``display``."""
        machine = Machine()
        machine.look()
        found = [
            name
            for name, source in self._sources.items()
            for facts in source.scan(machine)
            if facts.display == display
        ]
        return found

    def leave(self) -> None:
        """Close the connections to what else runs on this machine."""
        for source in self._sources.values():
            source.close(Machine())


@pytest.fixture
def servers(settings: Settings, processes: Processes, tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(settings, processes, tmp_path)
    yield servers
    servers.leave()


IN_XRDP = {"XRDP_SESSION": "1", "DISPLAY": ":N.0"}


@pytest.mark.parametrize(
    ("line", "environ", "address"),
    [
        ("Xorg -config xrdp/xorg.conf", {}, ""),
        ("Xorg -config /etc/X11/xrdp/xorg_nvidia.conf", {}, ""),
        ("Xorg", IN_XRDP, ""),
        ("Xorg", {}, "xrdp_display_"),
        ("Xvnc -rfbauth /home/alice/.vnc/sesman_passwd-alice@host:N", {}, ""),
        ("Xvnc -rfbauth /home/alice/.vnc/sesman_alice_passwd:N", {}, ""),
        ("Xtigervnc", IN_XRDP, ""),
    ],
)
def test_a_server_that_xrdp_has_started_stays_one_of_xrdp(
    servers: Servers, line: str, environ: dict[str, str], address: str
) -> None:
    with ExitStack() as stack:
        display = servers.start(stack, line, environ, address)
        assert servers.kinds(display) == ["xrdp"]


@pytest.mark.parametrize(
    ("line", "environ", "address", "kind"),
    [
        # What a user starts in a session of xrdp inherits its environment, with its display
        ("Xvnc", {"XRDP_SESSION": "1", "DISPLAY": ":1N.0"}, "", "tigervnc"),
        ("Xvnc -rfbauth /home/alice/.vnc/passwd", {"DISPLAY": ":N"}, "", "tigervnc"),
        ("Xorg -config xorg.conf", {"XRDP_SESSION": "1"}, "xrdp_display_1", "xorg"),
        ("Xorg -auth /run/user/1000/gdm/Xauthority", {}, "", "xorg"),
        ("Xorg -auth /home/alice/lightdm/cookies", {}, "", "xorg"),
    ],
)
def test_a_server_of_another_kind_does_not_become_one(
    servers: Servers, line: str, environ: dict[str, str], address: str, kind: str
) -> None:
    with ExitStack() as stack:
        display = servers.start(stack, line, environ, address)
        assert servers.kinds(display) == [kind]


@pytest.mark.parametrize(
    "line",
    [
        # An X server without its xpra is no session
        "Xorg -config /etc/xpra/xorg.conf",
        "Xvfb -auth /run/lightdm/root/:N",
        "Xorg -auth /var/run/lightdm/root/:N",
        "Xorg -auth /var/run/sddm/{3f5}",
        "Xorg -auth /var/lib/xdm/authdir/authfiles/A:0-x",
        "Xorg -auth /var/run/slim.auth",
        "Xorg -auth /run/lxdm/lxdm-:0.auth",
    ],
)
def test_what_was_no_session_does_not_become_one(servers: Servers, line: str) -> None:
    with ExitStack() as stack:
        assert servers.kinds(servers.start(stack, line, {})) == []


def test_a_server_whose_marks_cannot_be_read_now_is_not_taken_for_another_kind(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    environ = Process.environ

    def fails(process: Process) -> Mapping[str, str]:
        raise Unanswered("the environment")

    with ExitStack() as stack:
        display = servers.start(stack, "Xvnc", IN_XRDP)
        monkeypatch.setattr(Process, "environ", property(fails))
        assert servers.kinds(display) == []
        monkeypatch.setattr(Process, "environ", environ)
        assert servers.kinds(display) == ["xrdp"]


def test_a_server_whose_sockets_cannot_be_known_now_is_not_taken_for_another_kind(
    servers: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ExitStack() as stack:
        display = servers.start(stack, "Xorg", {}, "xrdp_display_")
        machine, source = Machine(), Xrdp()
        machine.look()
        [process] = [each for each in machine.named(["Xorg"]) if each.args[3:4] == [f":{display}"]]
        assert source.recognises(process, machine)
        monkeypatch.setattr(diag, "MAX_BYTES", 100)
        machine.look()
        with pytest.raises(Unanswered):
            source.recognises(process, machine)
