"""Other machines, each a network namespace that is connected to ours alone, and how they come in by
ssh."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import Processes, free_port, needs_root, program, wait_for
from tests.system.servers import SECONDS, is_listening

# TEST-NET of RFC 2544: our address on the way to each, and theirs
ADDRESSES = (("198.18.77.1", "198.18.77.2"), ("198.18.78.1", "198.18.78.2"))


class Other:
    """A machine that is connected to ours alone."""

    def __init__(self, name: str, ours: str, address: str, processes: Processes) -> None:
        self.here, self.address = ours, address
        ip = program("ip", "iproute2")
        wait = processes.start(["unshare", "--net", "sleep", "600"], name)
        # What comes before a command that is to run there
        self.enter = ["nsenter", "--net", "--target", str(wait.pid)]
        own = Path("/proc/self/ns/net").readlink()
        place = Path(f"/proc/{wait.pid}/ns/net")
        wait_for("its network", lambda: place.readlink() != own)
        cable = f"link add {name} type veth peer name eth0 netns {wait.pid}"
        subprocess.run([ip, *cable.split()], check=True)
        subprocess.run([*self.enter, ip, "link", "set", "lo", "up"], check=True)
        for enter, end_of_it, each in (([], name, ours), (self.enter, "eth0", address)):
            commands = (f"addr add {each}/24 dev {end_of_it}", f"link set {end_of_it} up")
            for command in commands:
                subprocess.run([*enter, ip, *command.split()], check=True)


class Ssh:
    """A server of ssh on our machine, which lets anybody in who has the key ``id``."""

    def __init__(self, place: Path, processes: Processes, *settings: str) -> None:
        """``settings`` are lines of sshd_config(5)."""
        sshd, keygen = program("sshd", "openssh-server"), program("ssh-keygen", "openssh-client")
        self._place = place / "ssh"
        self._place.mkdir(mode=0o755)
        for key in ("host", "id"):
            make = [keygen, "-q", "-t", "ed25519", "-N", "", "-f", str(self._place / key)]
            subprocess.run(make, check=True)
        self.port, config = free_port(), self._place / "sshd_config"
        config.write_text(
            f"Port {self.port}\nHostKey {self._place}/host\nPidFile none\nStrictModes no\n"
            f"PermitRootLogin yes\nAuthorizedKeysFile {self._place}/id.pub\n"
            + "".join(f"{line}\n" for line in settings)
        )
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        processes.start([sshd, "-D", "-e", "-f", str(config)], "sshd")
        wait_for("sshd", lambda: is_listening(self.port), SECONDS)

    @property
    def command(self) -> list[str]:
        """What comes before the options of a client."""
        options = "-F none -o UserKnownHostsFile=/dev/null -o StrictHostKeyChecking=no"
        return [program("ssh", "openssh-client"), "-i", str(self._place / "id"), *options.split()]


def make_others(processes: Processes) -> list[Other]:
    """Make two of them, or skip the test."""
    needs_root()
    if subprocess.run(["unshare", "--net", "true"], capture_output=True).returncode:
        pytest.skip("namespaces may not be made here")
    return [Other(f"fastxl{each}", *ADDRESSES[each], processes) for each in range(2)]
