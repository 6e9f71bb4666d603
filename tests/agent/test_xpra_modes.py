"""xpra's modes, by all of their names."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest

from fastx_list.agent.machine import Machine
from fastx_list.agent.sources.xpra import Xpra
from tests.support import Processes, wait_for
from tests.system.sessions import free_display

ROOTLESS = ("start", "start-seamless", "seamless", "upgrade", "upgrade-seamless")
DESKTOPS = (
    *("start-desktop", "desktop", "upgrade-desktop", "monitor", "start-monitor"),
    *("upgrade-monitor", "expand", "start-expand", "shadow", "start-shadow", "shadow-screen"),
    *("start-shadow-screen", "seamless,backend=x11"),
)

_LISTEN = """import socket, sys, time
server = socket.socket(socket.AF_UNIX)
server.bind(sys.argv[-1])
server.listen()
time.sleep(600)"""


def accepts(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(path) == 0


@pytest.mark.parametrize("mode", [*ROOTLESS, *DESKTOPS, "proxy", "attach", "list", "encoder"])
def test_a_simulated_server_of_each_mode_is_what_it_is(
    processes: Processes, tmp_path: Path, mode: str
) -> None:
    display = free_display()
    path = f"{tmp_path}/xpra/{socket.gethostname()}-{display}"
    for directory in ("xpra", "bin"):
        (tmp_path / directory).mkdir()
    (tmp_path / "bin" / "xpra").write_text(_LISTEN)
    command = [sys.executable, f"{tmp_path}/bin/xpra", mode, f":{display}", path]
    server = processes.start(command, "server")
    wait_for("its socket", lambda: accepts(path))
    machine, source = Machine(), Xpra()
    machine.look()
    found = [each for each in source.scan(machine) if each.server_pid == server.pid]
    source.close(machine)
    expected = "rootless" if mode in ROOTLESS or mode.startswith("seamless") else "desktop"
    known = mode in ROOTLESS or mode in DESKTOPS
    assert [(each.window_mode, each.display) for each in found] == [(expected, display)] * known
