"""What happens is noticed at once with no more rights than the agent's unit gives, and with none:
here by an agent whose next look is a minute away."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.vnc import Desktop, spare_display
from tests.support import Processes, Service, needs_root, program, wait_for
from tests.system.units import SERVICES, confined


def with_the_units_rights() -> list[str]:
    return confined(SERVICES["agent"])


def without_rights() -> list[str]:
    rights = ["--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]
    return [program("setpriv", "util-linux"), *rights, "--"]


@pytest.mark.parametrize("rights", [with_the_units_rights, without_rights])
def test_an_agent_notices_at_once_with_these_rights(
    tmp_path: Path, processes: Processes, rights: Callable[[], list[str]]
) -> None:
    needs_root()
    service = Service(tmp_path / "state", processes, {"FASTX_LIST_SCAN_INTERVAL": "60"})
    spool = service.state / "spool"
    spool.mkdir(parents=True, mode=0o700)
    os.chmod(service.state, 0o700)
    command = [*rights(), sys.executable, "-m", "fastx_list", "agent", "-v"]
    processes.start(command, "agent", service.environ)

    def sessions() -> list[dict[str, Any]]:
        return service.stored("root")

    wait_for("its first look", lambda: "looks for" in processes.log("agent"))

    def has_looked(display: int) -> None:
        """Wait for the end of a look that began after this."""
        (spool / "new").write_text(f'{{"login": "root", "display": {display}}}', encoding="utf-8")
        (spool / "new").rename(spool / "one.json")
        wait_for("the session file", lambda: any(each["display"] == display for each in sessions()))

    has_looked(7)

    desktop = Desktop(processes, spare_display(), "320x200")

    def has(clients: int) -> bool:
        pid = desktop.process.pid
        # Whose clients they are is not known without rights while their user connects to anything
        is_known = rights is with_the_units_rights
        return any(
            each["serverPid"] == pid and (not is_known or each["clients"] == clients)
            for each in sessions()
        )

    wait_for("the session", lambda: has(0))
    desktop.connect()
    wait_for("its client", lambda: "a client that has come" in processes.log("agent") and has(1))
    has_looked(8)  # else it may have left before the look for which it was the cause
    desktop.disconnect()
    wait_for("nobody", lambda: "a client that has left" in processes.log("agent") and has(0))
    desktop.close()
    wait_for(
        "its end", lambda: not any(each["serverPid"] == desktop.process.pid for each in sessions())
    )
    assert "at the next look only" not in processes.log("agent")
