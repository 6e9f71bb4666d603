"""The sockets of a network namespace that is not ours, as root asks the kernel for them there."""

from __future__ import annotations

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from fastx_list.agent import sockets
from fastx_list.agent.diag_messages import DiagError
from fastx_list.agent.machine import Machine
from fastx_list.agent.sockets import Sockets
from tests.support import Processes, needs_root, program, wait_for

LISTENS = """import signal, socket
server = socket.socket(socket.AF_UNIX)
server.bind("\\0fastx-list/inside")
server.listen()
print("ready", flush=True)
signal.pause()"""


@pytest.fixture
def inside(processes: Processes) -> subprocess.Popen[bytes]:
    """A process that listens in a network of its own."""
    needs_root()
    unshare = program("unshare", "util-linux")
    if subprocess.run([unshare, "--net", "true"], capture_output=True).returncode:
        pytest.skip("namespaces may not be made here")
    inside = processes.start([unshare, "--net", "/usr/bin/python3", "-c", LISTENS], "inside")
    wait_for("its socket", lambda: "ready" in processes.log("inside"))
    return inside


def setns(descriptor: int, kind: int) -> None:
    """Enter a namespace, setns(2), as ``os.setns`` of Python 3.12 does."""
    if ctypes.CDLL(None, use_errno=True).setns(descriptor, kind):
        raise OSError(ctypes.get_errno(), "setns")


def test_the_kernel_tells_of_another_namespace_and_we_stay_in_ours(
    inside: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not hasattr(os, "setns"):
        monkeypatch.setattr(os, "setns", setns, raising=False)

    def refuse(*_: object) -> None:
        raise DiagError("refused")

    monkeypatch.setattr(sockets, "ProcNet", refuse)
    ours = Path("/proc/thread-self/ns/net").readlink()
    assert list(Sockets(inside.pid).listening_paths()) == ["\0fastx-list/inside"]
    assert Path("/proc/thread-self/ns/net").readlink() == ours
    assert "\0fastx-list/inside" not in Sockets().listening_paths()
    assert Sockets(2**22 + 1).unix_clients("/tmp/x") is None  # there is no such process


def test_what_is_told_of_our_network_makes_for_no_look_at_another_ones_connections(
    inside: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """To read them takes long, and one login may have very many networks."""
    machine = Machine()

    def look() -> list[object]:
        machine.look()
        theirs = machine.sockets(machine.processes[inside.pid])
        return [machine.own_network._tcp, theirs._tcp]

    monkeypatch.setattr(sockets, "HOLDS_SECONDS", 60.0)
    _, known = look()
    machine.doubt_tables()
    ours, again = look()
    assert again is known
    machine.doubt_tables()
    assert look()[0] is not ours
