"""``python -m tests.system.releases``, as root: runs the tests of all kinds of session on the other
release of Debian, in a root of its own, on 12 those of 13 and on 13 those of 12.

It needs debootstrap, Debian's packages and a package index for pip, and takes some 20 minutes, most
of which are for the root: ``--keep DIRECTORY`` keeps that for the next time. What follows ``--`` is
for pytest, such as the names of tests.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.boot import root

SECONDS = 3600.0
HERE = Path(__file__).parents[2]
# Those of real servers and of what is simulated beside them
TESTS = (
    *("test_all_kinds", "test_other_x_servers", "test_vnc_clients", "test_vnc_mirrors"),
    *("test_wayland", "test_wayland_simulated", "test_x2go", "test_xpra", "test_xpra_titles"),
    "test_xrdp",
)
# What tests of other things than sessions need
UNWANTED = {
    *("apache2", "caddy", "chromium", "default-jdk-headless", "haproxy", "libgoogle-gson-java"),
    *("nginx-light", "node-typescript", "node-ws", "nodejs", "npm", "php-cli", "redis-sentinel"),
    "redis-server",
}
# How to reach package indexes
SETTINGS = ("/etc/resolv.conf", "/etc/ssl/certs/ca-certificates.crt", "/etc/pip.conf")
# Run with the root as $0, a directory for what it writes as $1, and what to run in it as $2
ENTER = r"""
set -e
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/merged"
mount -t overlay overlay -o "lowerdir=$0,upperdir=$1/upper,workdir=$1/work" "$1/merged"
cd "$1/merged"
mkdir -p old
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs dev -o mode=755
for each in null zero full random urandom tty; do cp -a "/dev/$each" dev/; done
mkdir dev/pts dev/shm
mount -t devpts devpts dev/pts -o newinstance,ptmxmode=666,mode=620,gid=5
mount -t tmpfs tmpfs dev/shm -o mode=1777
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
for each in 0:stdin 1:stdout 2:stderr; do ln -s "/proc/self/fd/${each%:*}" "dev/${each#*:}"; done
mount -t tmpfs tmpfs run -o mode=755
mount -t tmpfs tmpfs tmp -o mode=1777
ip link set lo up
hostname other
pivot_root . old
umount -l /old
cd /opt/fastx-list
shift
exec env -i CI=true HOME=/root PATH=/opt/venv/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 "$@"
"""
INSTALL = r"""
set -e
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 HOME=/root
apt-get update -q
apt-get install -qy --no-install-recommends iproute2 python3-venv "$@"
test -d /opt/venv || python3 -m venv /opt/venv
/opt/venv/bin/pip install -q -e '/opt/fastx-list[test]'
"""


def packages(is_older: bool) -> list[str]:
    """Return the packages of a release that tests of sessions need; see the file's own comment."""
    lines = (HERE / ".ci" / "packages").read_text(encoding="utf-8").splitlines()
    named = [line.split("#")[0].split() for line in lines]
    found = [names[0 if is_older else -1] for names in named if names]
    return sorted({each for each in found if each != "-"} - UNWANTED)


def prepare(base: Path, is_older: bool) -> None:
    """Bring this tree and what its tests need into the root ``base``."""
    for path in map(Path, (*SETTINGS, "~/.config/pip/pip.conf")):
        if path.expanduser().exists():
            inside = base / str(path).replace("~", "root").lstrip("/")
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path.expanduser(), inside)
    tree = base / "opt" / "fastx-list"
    shutil.rmtree(tree, ignore_errors=True)
    unwanted = shutil.ignore_patterns(".*_cache", ".git", ".venv", "__pycache__", "node_modules")
    shutil.copytree(HERE, tree, ignore=unwanted)
    mounts = 'mount -t proc proc "$0/proc"; exec chroot "$0" sh -c "$@"'
    command = ["unshare", "-m", "-p", "-f", "--kill-child", "sh", "-c", mounts, str(base)]
    done = subprocess.run(
        [*command, INSTALL, "sh", *packages(is_older)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
    )
    if done.returncode:
        raise SystemExit(f"the packages cannot be installed:\n{done.stdout[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY")
    parser.add_argument("rest", nargs="*", help="for pytest, behind --")
    options = parser.parse_args()
    if os.geteuid() or subprocess.run(["unshare", "-m", "-p", "-n", "-f", "true"]).returncode:
        raise SystemExit("skipped: it needs root, and namespaces of its own")
    release = (
        "trixie" if platform.freedesktop_os_release().get("VERSION_ID") == "12" else "bookworm"
    )
    with tempfile.TemporaryDirectory(prefix="fastx-list-release-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        base = root.make(release, directory)
        prepare(base, is_older=release == "bookworm")
        tests = options.rest or [f"tests/system/{name}.py" for name in TESTS]
        layer = Path(temporary) / "layer"
        layer.mkdir()
        namespaces = ["unshare", "-m", "-p", "-f", "-u", "-i", "-n", "--kill-child"]
        pytest = ["python", "-m", "pytest", "-rs", "-n", "0", "-p", "no:cacheprovider", *tests]
        enter = ["bash", "-c", ENTER, str(base), str(layer), *pytest]
        return subprocess.run([*namespaces, *enter], timeout=SECONDS).returncode


if __name__ == "__main__":
    sys.exit(main())
