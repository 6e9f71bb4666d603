"""Whether anybody uses a session, on real X servers: one in which xdotool types and one in which
nobody does. What counts as a minute is a second here."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.look import Look
from tests.support import Processes, let_others_in, needs_root, program, wait_for
from tests.system.servers import looking, spare_display
from tests.system.sessions import USERS, User, start_vnc


@pytest.fixture
def look(tmp_path: Path) -> Iterator[Look]:
    with looking(tmp_path, "tigervnc xvfb") as look:
        # What sessions use is told once, as the next round would come after the test: nothing but
        # what is done to a session changes what is said of it.
        look.machine.meter.round_seconds = 3600.0
        yield look


def test_who_types_in_a_session_uses_it_and_another_stays_idle(
    look: Look, processes: Processes, tmp_path: Path
) -> None:
    needs_root()
    xdotool = program("xdotool", "xdotool")
    let_others_in(tmp_path)
    user = User.make(USERS[0], tmp_path)
    uid, gid = user.ids
    displays = [(vnc := start_vnc(processes, user)).display]
    environ = user.environ(**vnc.environ)
    other = spare_display()
    user.start(processes, [program("Xvfb", "xvfb"), f":{other}", "-noreset"], "xvfb")
    wait_for("Xvfb", lambda: Path(f"/tmp/.X11-unix/X{other}").exists())
    displays.append(other)

    def seen() -> dict[int | None, Facts]:
        return {each.display: each for each in look.take().facts if each.display in displays}

    def are_idle() -> bool:
        facts = seen()
        told = [each.idle_since and each.is_measured for each in facts.values()]
        return len(told) == 2 and all(told)

    wait_for("nobody's having typed", are_idle)
    before = seen()
    for each in before.values():
        assert each.started is not None and each.idle_since is not None
        assert (
            each.started
            <= each.idle_since
            <= time.time() * 1000 - look.machine.idle_seconds * 1000 + 100
        )

    def type_in_one() -> bool:
        command = [xdotool, "key", "a"]
        subprocess.run(command, env=environ, user=uid, group=gid, extra_groups=[], check=True)
        return seen()[displays[0]].idle_since is None

    wait_for("what was typed", type_in_one)
    typed = time.time() * 1000
    assert seen()[other] is before[other]  # nor has anything else changed, so nothing is written
    wait_for("nobody's typing any more", are_idle)
    after = seen()
    since = after[displays[0]].idle_since
    assert since is not None and abs(since - typed) < 2000
    assert after[other].idle_since == before[other].idle_since
