"""Where clients come from, of two machines of their own: directly, and through relays on ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Processes, Service, end, free_port, needs_root, program, wait_for
from tests.system.servers import SECONDS, Account, is_listening, listed
from tests.system.sessions import start_vnc

# TEST-NET of RFC 2544: our address on the way to each, and theirs
OTHERS = (("198.18.77.1", "198.18.77.2"), ("198.18.78.1", "198.18.78.2"))
# Goes on as a viewer does until the server asks for nothing more, RFC 6143, section 7.1
HELLO = """
from time import sleep
def hello(receive, send):
    assert receive() == b"RFB 003.008\\n"
    send(b"RFB 003.008\\n")
    receive()
    send(b"\\1\\1")
    sleep(600)
"""
DIRECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
hello(lambda: connection.recv(99), connection.send)"""
BY_WEBSOCKET = """
import sys
from websockets.sync.client import connect
with connect(f"ws://{sys.argv[1]}:{sys.argv[2]}", subprotocols=["binary"]) as connection:
    hello(connection.recv, connection.send)"""
BY_COMMAND = """
import os, subprocess, sys
relay = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1)
hello(lambda: os.read(relay.stdout.fileno(), 99), lambda data: os.write(relay.stdin.fileno(), data))
"""


class Other:
    """A machine that is connected to ours alone."""

    def __init__(self, name: str, ours: str, address: str, processes: Processes) -> None:
        self.here, self.address = ours, address
        self._processes = processes
        ip = program("ip", "iproute2")
        wait = processes.start(["unshare", "--net", "sleep", "600"], name)
        self._enter = ["nsenter", "--net", "--target", str(wait.pid)]
        own = Path("/proc/self/ns/net").readlink()
        place = Path(f"/proc/{wait.pid}/ns/net")
        wait_for("its network", lambda: place.readlink() != own)
        cable = f"link add {name} type veth peer name eth0 netns {wait.pid}"
        subprocess.run([ip, *cable.split()], check=True)
        for enter, end_of_it, each in (([], name, ours), (self._enter, "eth0", address)):
            commands = (f"addr add {each}/24 dev {end_of_it}", f"link set {end_of_it} up")
            for command in commands:
                subprocess.run([*enter, ip, *command.split()], check=True)

    def start(self, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [*self._enter, sys.executable, "-c", HELLO + script, *map(str, arguments)]
        return self._processes.start(command, f"client-{self.address}")


@pytest.fixture
def others(processes: Processes) -> Iterator[list[Other]]:
    needs_root()
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("namespaces may not be made here")
    yield [Other(f"fastxl{each}", *OTHERS[each], processes) for each in range(2)]


def _sshd(place: Path, processes: Processes) -> int:
    """Start one that lets the user ``root`` in with the key ``id``; return its port."""
    sshd, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
    for key in ("host", "id"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", place / key], check=True)
    port, config = free_port(), place / "sshd_config"
    config.write_text(
        f"Port {port}\nHostKey {place}/host\nPidFile none\nStrictModes no\nPermitRootLogin yes\n"
        f"AuthorizedKeysFile {place}/id.pub\n"
    )
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    processes.start([sshd, "-D", "-e", "-f", str(config)], "sshd")
    wait_for("sshd", lambda: is_listening(port), SECONDS)
    return port


def test_clients_come_from_their_own_machines_also_through_relays(
    watched: Service,
    users: list[Account],
    others: list[Other],
    processes: Processes,
    tmp_path: Path,
) -> None:
    one, two = others
    user, web_port = users[0], free_port()
    vnc = start_vnc(processes, user, "-localhost=0")
    websockify = program("websockify", "websockify")
    processes.start([websockify, str(web_port), f"127.0.0.1:{vnc.port}"], "websockify")
    wait_for("websockify", lambda: is_listening(web_port), SECONDS)
    listed(watched, user, clients=0, clientAddresses=[])

    first = one.start(DIRECT, one.here, vnc.port)
    listed(watched, user, clients=1, clientAddresses=[one.address])
    second = two.start(BY_WEBSOCKET, two.here, web_port)
    listed(watched, user, clients=2, clientAddresses=[one.address, two.address])
    third = one.start(BY_WEBSOCKET, one.here, web_port)
    listed(watched, user, clients=3, clientAddresses=[one.address, two.address])
    for client in (first, second, third):
        end(client)
    listed(watched, user, clients=0, clientAddresses=[])

    ssh = [
        program("ssh", "openssh-client"),
        "-p",
        _sshd(tmp_path, processes),
        "-i",
        tmp_path / "id",
    ]
    options = "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
    through = [*ssh, *options.split(), "-W", f"127.0.0.1:{vnc.port}", f"root@{two.here}"]
    tunnel = two.start(BY_COMMAND, *through)
    listed(watched, user, clients=1, clientAddresses=[two.address])
    here = processes.start(
        [sys.executable, "-c", HELLO + DIRECT, "127.0.0.1", str(vnc.port)], "here"
    )
    listed(watched, user, clients=2, clientAddresses=["127.0.0.1", two.address])
    told = watched.run("ls", "--login", user.login).stdout
    assert re.search(rf"127\.0\.0\.1 {re.escape(two.address)}", told), told
    for client in (tunnel, here):
        end(client)
