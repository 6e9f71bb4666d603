"""The client in docs/api.md, run as it is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

from tests.live.cable import cable, client_in, live_through_outages
from tests.live.clients import Observe
from tests.support import Service

SHOW = """
import sys

def show(sessions):
    print(json.dumps({name: data["clients"] for name, data in sessions.items()}), flush=True)

follow(sys.argv[1], show)
"""


def test_it_has_the_list_after_any_outage(
    live: Service, alice: str, observe: Observe, tmp_path: Path
) -> None:
    program = tmp_path / "client.py"
    program.write_text(client_in("python") + SHOW, encoding="utf-8")

    def shown() -> Mapping[str, int] | None:
        *_, last = "null", *live.processes.log("client").splitlines()
        found: Mapping[str, int] | None = json.loads(last)
        return found

    with cable(live.live_port) as wire:
        url = f"ws://127.0.0.1:{wire.port}/api/list?token={alice}"
        live.processes.start([sys.executable, str(program), url], "client")
        live_through_outages(live, observe, wire, shown)
