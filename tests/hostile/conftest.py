from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.agent.sources import load_sources
from fastx_list.config import Settings
from tests.hostile.watching import leave
from tests.support import let_others_in, needs_root
from tests.system.sessions import USERS, User

Seen = Callable[[int], dict[int, Facts]]


@pytest.fixture
def users(tmp_path: Path) -> list[User]:
    """Three users who do not trust each other."""
    needs_root()
    let_others_in(tmp_path)
    return [User.make(login, tmp_path) for login in USERS]


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory of root's that every user may pass through."""
    needs_root()
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


@pytest.fixture
def roots(public: Path) -> Path:
    """A directory that only root can look into or write to."""
    directory = public / "roots"
    directory.mkdir(mode=0o700)
    return directory


@pytest.fixture
def seen(settings: Settings) -> Iterator[Seen]:
    """What an agent sees now of a display, by the pid of the session's server: ``seen(161)``."""
    sources = load_sources(replace(settings, sources=("xrdp", "xpra", "x2go", "tigervnc", "xvfb")))
    machine = Machine()

    def on(display: int) -> dict[int, Facts]:
        machine.look()
        found = [facts for source in sources.values() for facts in source.scan(machine)]
        return {
            facts.server_pid: facts
            for facts in found
            if facts.display == display and facts.server_pid is not None
        }

    yield on
    leave(sources.values(), machine)
