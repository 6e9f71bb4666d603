"""A machine that boots Debian with systemd, in namespaces of its own.

It has its own processes, mounts, host's name and network, with nothing but a loopback. What it
writes goes into a layer over its root, which stays as it was.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from tests.support import wait_for

BOOT_SECONDS = 120.0
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
# Run with the new root as $0, and the directory from this machine that it is to see as $1
BOOT = r"""
set -e
mount --make-rprivate /
mkdir -p "$0/run/shared" "$0/old"
mount -t proc proc "$0/proc"
mount -t sysfs sysfs "$0/sys"
mount -t cgroup2 cgroup2 "$0/sys/fs/cgroup"
mount -t tmpfs tmpfs "$0/dev" -o mode=755
for each in null zero full random urandom tty; do cp -a "/dev/$each" "$0/dev/"; done
mkdir "$0/dev/pts" "$0/dev/shm"
mount -t devpts devpts "$0/dev/pts" -o newinstance,ptmxmode=666,mode=620,gid=5
mount -t tmpfs tmpfs "$0/dev/shm" -o mode=1777
ln -s pts/ptmx "$0/dev/ptmx"
ln -s /proc/self/fd "$0/dev/fd"
for each in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${each%:*}" "$0/dev/${each#*:}"; done
mkdir -p "$0/mnt/shared"
mount --bind -o ro "$1" "$0/mnt/shared"
mount -t tmpfs tmpfs "$0/run" -o mode=755
mount -t tmpfs tmpfs "$0/tmp" -o mode=1777
hostname vdi1
cd "$0"
pivot_root . old
umount -l /old
exec env -i container=nspawn PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --log-target=journal systemd.unified_cgroup_hierarchy=1
"""


class Machine:
    """One machine; :meth:`boot` starts it, again and again."""

    def __init__(self, root: Path, place: Path, shared: Path) -> None:
        """``place`` takes what it writes, and it sees ``shared`` as ``/mnt/shared``."""
        self._root, self._place, self.shared = root, place, shared
        self._group = _cgroups() / f"fastx-list-boot-{os.getpid()}"
        # What starts it, and the pid of its systemd
        self._process: subprocess.Popen[bytes] | None = None
        self._pid = 0
        for name in ("upper/etc", "work", "merged"):
            (place / name).mkdir(parents=True)
        (place / "upper/etc/hostname").write_text("vdi1\n")
        layers = f"lowerdir={root},upperdir={place}/upper,workdir={place}/work"
        subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o", layers, place / "merged"], check=True
        )

    def boot(self) -> None:
        """Start it, and wait until systemd has started what it is to start."""
        self._group.mkdir(exist_ok=True)
        join = f"echo $$ > {self._group}/cgroup.procs; exec "
        unshare = "unshare -m -p -f -C -u -i -n --kill-child --propagation private bash -c"
        seen = str(self._place / "merged"), str(self.shared)
        with open(self._place / "console.log", "ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", f'{join}{unshare} "$0" "$@"', BOOT, *seen],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._pid = wait_for("its first process", self._find)
        wait_for("systemd", self._is_up, BOOT_SECONDS)

    def _find(self) -> int | None:
        assert self._process is not None
        with suppress(OSError, IndexError):
            pid = self._process.pid
            child = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
            if Path(f"/proc/{child}/comm").read_text().strip() == "systemd":
                return child
        assert self._process.poll() is None, self.console()
        return None

    def _is_up(self) -> bool:
        state = self.run("systemctl is-system-running", check=False).stdout.strip()
        return state in ("running", "degraded")

    def run(
        self, command: str, *, check: bool = True, user: str = "root", text: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command in it."""
        enter = ["nsenter", "-t", str(self._pid), "-m", "-p", "-u", "-i", "-C", "-n", "--"]
        inside = ["env", "-i", f"PATH={PATH}", "LC_ALL=C.UTF-8", "HOME=/root", "sh", "-c", command]
        if user != "root":
            inside = [*inside[:-1], f"exec runuser -u {user} -- sh -c '{command}'"]
        done = subprocess.run(
            [*enter, *inside], capture_output=True, text=True, input=text, timeout=300
        )
        if check and done.returncode:
            raise AssertionError(f"{command}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    def says(self, command: str, user: str = "root") -> str:
        return self.run(command, user=user).stdout.strip()

    def journal(self, unit: str = "") -> str:
        return self.run(f"journalctl --no-pager -o cat {f'-u {unit}' if unit else ''}").stdout

    def console(self) -> str:
        return (self._place / "console.log").read_text(encoding="utf-8", errors="replace")

    def shut_down(self) -> None:
        """Let systemd stop everything."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGRTMIN + 4)  # poweroff, systemd(1)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(60)
        self._kill()

    def close(self) -> None:
        """Take everything away."""
        self._kill()
        subprocess.run(["umount", "-l", self._place / "merged"], check=False)
        shutil.rmtree(self._place, ignore_errors=True)

    def _kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        groups = sorted(self._group.glob("**/"), key=lambda path: -len(path.parts))
        deadline = time.monotonic() + 10
        for group in [*groups, self._group]:
            while group.exists() and time.monotonic() < deadline:
                with suppress(OSError):
                    group.rmdir()


def _cgroups() -> Path:
    for line in Path("/proc/mounts").read_text().splitlines():
        if line.split()[2] == "cgroup2":
            return Path(line.split()[1])
    raise AssertionError("this machine has no cgroups of version 2")
