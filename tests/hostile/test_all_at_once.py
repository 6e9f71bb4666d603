"""One login does to the agent all that it can, at once; nothing of anybody else's is lost."""

from __future__ import annotations

import json
from typing import Any

from tests.hostile.everything import attack
from tests.support import Processes, Service, wait_for
from tests.system.sessions import User, resize, start_vnc

MANY, FLOODING = 250, 10  # more than are listed of a login
SESSIONS_AT_ONCE = 3


def test_all_that_one_login_can_do_takes_nothing_from_another(
    users: list[User], service: Service, processes: Processes
) -> None:
    hostile, victim, _ = users
    agent = service.start_agent()

    def listed(user: User | None) -> dict[int, dict[str, Any]]:
        found = service.stored(None if user is None else user.login)
        return {each["serverPid"]: each for each in found}

    old = start_vnc(processes, victim)
    before = wait_for("the old session", lambda: listed(victim).get(old.process.pid))
    with attack(hostile, old, processes, MANY, FLOODING):
        wait_for("the crowd", lambda: len(listed(hostile)) > FLOODING)
        for _ in range(2):
            new = [start_vnc(processes, victim) for _ in range(SESSIONS_AT_ONCE)]
            pids = {each.process.pid for each in new}
            wait_for("the new sessions", lambda: listed(victim).keys() == {old.process.pid, *pids})
            for each in new:
                resize(each, "800x600")

            def sizes() -> set[str]:
                return {listed(victim)[pid]["geometry"] for pid in pids}

            wait_for("their new size", lambda: sizes() == {"800x600"})
            for each in new:
                each.process.terminate()
            wait_for("their end", lambda: listed(victim).keys() == {old.process.pid})
        assert _lasting(listed(victim)[old.process.pid]) == _lasting(before)
        everybody = listed(None).values()
        mine = {each["login"] for each in everybody} - {hostile.login, victim.login}
        assert not any("evil" in json.dumps(each) for each in everybody if each["login"] in mine)
    assert agent.poll() is None and "Traceback" not in processes.log("agent")


def _lasting(session: dict[str, Any]) -> dict[str, Any]:
    """Return what of ``session`` does not depend on what is measured."""
    return {name: value for name, value in session.items() if name not in ("cpu", "memory")}
