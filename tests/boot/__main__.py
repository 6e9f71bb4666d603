"""``python -m tests.boot``, as root: builds the package for a release of Debian, boots a root of it
with systemd, and installs, uses, upgrades and removes it there.

It needs debootstrap, debhelper, and a package index for pip. ``--keep DIRECTORY`` keeps the root
and the packages there, for the next time; ``--release trixie`` is Debian 13.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests import first_release
from tests.boot import root
from tests.boot.conftest import PACKAGES, PLACE
from tests.first_release import ROOT


def build(release: str, directory: Path) -> list[str]:
    """Return the paths of the package of this tree, of the same as a later revision, and of the
    package of the commit before."""

    def built(tree: Path, revision: int) -> str:
        command = [str(tree / "packaging/build-deb"), release, str(directory), str(revision)]
        return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()

    first = built(ROOT, 1)
    with tempfile.TemporaryDirectory() as tree:
        first_release.unpack(Path(tree), "HEAD~1")
        before = built(Path(tree), 0)
    later = first.replace("-1~", "-2~")
    with tempfile.TemporaryDirectory() as tree:
        subprocess.run(["dpkg-deb", "-R", first, f"{tree}/it"], check=True)
        control = Path(tree, "it", "DEBIAN", "control")
        control.write_text(control.read_text().replace("-1~", "-2~"))
        pack = ["dpkg-deb", "-b", "--root-owner-group", "-z1", f"{tree}/it", later]
        subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    return [first, later, before]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--release", choices=root.RELEASES, default=root.RELEASES[0])
    parser.add_argument("--keep", type=Path, metavar="DIRECTORY")
    parser.add_argument("rest", nargs="*", help="for pytest, behind --")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fastx-list-root-") as temporary:
        directory = options.keep or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        os.environ[PLACE] = str(root.make(options.release, directory))
        os.environ[PACKAGES] = ":".join(build(options.release, directory))
        here = str(Path(__file__).parent)
        return int(pytest.main(["-v", "-n", "0", "-p", "no:cacheprovider", here, *options.rest]))


if __name__ == "__main__":
    sys.exit(main())
