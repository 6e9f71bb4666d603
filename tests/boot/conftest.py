"""What the tests here need: a release's root, and packages, which take minutes to make. ``python -m
tests.boot`` makes them, and says where they are."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import first_release
from tests.boot.machine import Machine

PLACE, PACKAGES = "TESTS_BOOT_ROOT", "TESTS_BOOT_PACKAGES"


@pytest.fixture(scope="module")
def packages() -> list[Path]:
    """The package of this tree in two revisions, the older one first, and that of the commit
    before."""
    if PACKAGES not in os.environ:
        pytest.skip("it needs a root of Debian, which takes minutes to make: python -m tests.boot")
    return [Path(path) for path in os.environ[PACKAGES].split(":")]


@pytest.fixture(scope="module")
def machine(packages: list[Path]) -> Iterator[Machine]:
    """A machine that is up, with nothing of ours on it. Its ``/mnt/shared`` has the packages,
    ``docs``, and ``first``, the tree of release 0.1.0."""
    place = Path(tempfile.mkdtemp(prefix="fastx-list-boot-"))
    place.chmod(0o755)
    shared = place / "shared"
    shared.mkdir()
    for number, package in enumerate(packages):
        shutil.copy(package, shared / f"{number}.deb")
    shutil.copytree(Path(__file__).parents[2] / "docs", shared / "docs")
    (shared / "first").mkdir()
    first_release.unpack(shared / "first")
    machine = Machine(Path(os.environ[PLACE]), place, shared)
    try:
        machine.boot()
        yield machine
        machine.shut_down()
    finally:
        machine.close()
