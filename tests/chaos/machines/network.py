"""Several hosts on one machine: network namespaces on one switch, each with a cable that can be
pulled."""

from __future__ import annotations

import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from tests.support import WAIT_SECONDS, Processes, missing, needs_root, program

ROOT = Path(__file__).parents[3]
# The first process of a machine buries all that lost their parents, which it does by not wanting to
# know.
FIRST_PROCESS = """
import signal, socket, sys
socket.sethostname(sys.argv[1])
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", flush=True)
while True:
    signal.pause()
"""


class Network:
    """A switch, which is a bridge in a namespace of its own, and this machine plugged into it. Use
    :func:`network`."""

    def __init__(self, processes: Processes) -> None:
        self.processes = processes
        self.ip_program = program("ip", "iproute2")
        self._name = f"fx{secrets.token_hex(3)}"
        # Of the block that is set aside for testing networks (RFC 2544); at random, for others may
        # be testing at the same time.
        self._subnet = f"198.{random.choice((18, 19))}.{random.randrange(256)}"
        self.switch = f"{self._name}-switch"
        self._namespaces: list[str] = []
        self.machines: list[Machine] = []

    def make(self) -> None:
        self._add_namespace(self.switch)
        plug = f"{self._name}-in"
        self.ip(
            f"-n {self.switch} link add switch type bridge",
            f"-n {self.switch} link set switch up",
            f"link add {plug} type veth peer name outside netns {self.switch}",
            f"-n {self.switch} link set outside master switch up",
            f"address add {self._subnet}.254/24 dev {plug}",
            f"link set {plug} up",
        )

    def plug_in(self, name: str) -> tuple[str, str]:
        """Make a namespace with a cable to the switch; return its name and its address."""
        namespace = f"{self._name}-{name}"
        self._add_namespace(namespace)
        address = f"{self._subnet}.{len(self._namespaces)}"
        self.ip(
            f"link add eth0 netns {namespace} type veth peer name {name} netns {self.switch}",
            f"-n {self.switch} link set {name} master switch up",
            f"-n {namespace} address add {address}/24 dev eth0",
            f"-n {namespace} link set eth0 up",
            f"-n {namespace} link set lo up",
        )
        return namespace, address

    def _add_namespace(self, name: str) -> None:
        self.ip(f"netns add {name}")
        self._namespaces.append(name)

    def ip(self, *commands: str) -> None:
        for command in commands:
            subprocess.run([self.ip_program, *command.split()], check=True, capture_output=True)

    def remove(self) -> None:
        """Remove all namespaces, and with them the cables, after ending what runs in them."""
        for machine in self.machines:
            if machine.is_on:
                machine.lose_power()
        self.processes.stop()
        for name in self._namespaces:
            subprocess.run([self.ip_program, "netns", "delete", name], capture_output=True)


@contextmanager
def network(processes: Processes) -> Iterator[Network]:
    """Make a network for as long as the block lasts. Where that is not allowed the test is skipped,
    and in CI it fails."""
    needs_root()
    made = Network(processes)
    try:
        try:
            made.make()
        except subprocess.CalledProcessError as error:
            missing(f"namespaces may not be made here: {error.stderr.decode().strip()}")
        yield made
    finally:
        made.remove()


class Host:
    """A computer on the network; its processes are those of this machine."""

    def __init__(self, network: Network, name: str) -> None:
        self.name = name
        self.network = network
        self.namespace, self.address = network.plug_in(name)
        self.is_cut_off = False

    @property
    def within(self) -> list[str]:
        """The beginning of a command that is to run on this host."""
        return [self.network.ip_program, "netns", "exec", self.namespace]

    def cut_off(self) -> None:
        """Pull the cable."""
        self.network.ip(f"-n {self.network.switch} link set {self.name} down")
        self.is_cut_off = True

    def heal(self) -> None:
        self.network.ip(f"-n {self.network.switch} link set {self.name} up")
        self.is_cut_off = False


class Machine(Host):
    """A host that sees no processes but its own, and can lose its power."""

    def __init__(self, network: Network, name: str) -> None:
        super().__init__(network, name)
        self._unshare = program("unshare", "util-linux")
        self._nsenter = program("nsenter", "util-linux")
        self._holder: subprocess.Popen[bytes]
        self._first = 0
        self.is_on = False
        network.machines.append(self)

    def boot(self) -> None:
        command = [
            *self.within,
            self._unshare,
            "--uts",
            "--ipc",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            sys.executable,
            "-c",
            FIRST_PROCESS,
            self.name,
        ]
        self._holder = self.network.processes.add(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        )
        assert self._holder.stdout is not None and self._holder.stdout.readline() == b"up\n"
        self._holder.stdout.close()
        [first] = psutil.Process(self._holder.pid).children()
        self._first = first.pid
        self.is_on = True

    def lose_power(self) -> None:
        """End everything on it at once."""
        os.kill(self._first, signal.SIGKILL)
        self._holder.wait()
        self.is_on = False

    def command(self, command: Sequence[str]) -> list[str]:
        """Return what runs ``command`` on this machine."""
        return [
            self._nsenter,
            "--target",
            str(self._first),
            "--net",
            "--uts",
            "--ipc",
            "--mount",
            "--pid",
            f"--wd={ROOT}",
            *command,
        ]

    def start(
        self, command: Sequence[str], log: str, environ: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start ``command``, which :func:`kill` or :func:`stop` ends."""
        return self.network.processes.start(self.command(command), f"{log}-{self.name}", environ)

    def run_python(self, code: str, *arguments: str) -> str:
        """Return what Python prints on this machine."""
        command = self.command([sys.executable, "-c", code, *arguments])
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=60
        ).stdout


def kill(process: subprocess.Popen[bytes]) -> None:
    """Kill what :meth:`Machine.start` has started, with all that it has started itself."""
    _signal(process, signal.SIGKILL, everything=True)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End it in order: its children are its own to end."""
    _signal(process, signal.SIGTERM, everything=False)


def _signal(process: subprocess.Popen[bytes], number: int, everything: bool) -> None:
    nsenter = psutil.Process(process.pid)  # which ends with its command
    started = nsenter.children(recursive=True)
    for each in started if everything else nsenter.children():
        with suppress(psutil.NoSuchProcess):
            each.send_signal(number)
    process.wait()
    _, alive = psutil.wait_procs(started, WAIT_SECONDS)
    assert not alive, f"these do not end: {alive}"
