"""From one machine on SQLite to several on Redis: one setting, and a restart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.redis_server import redis_server
from tests.support import Processes, Service, end, fetch, wait_for

SPOOL_ONLY = {"FASTX_LIST_SOURCES": "spool", "FASTX_LIST_SCAN_INTERVAL": "0.1"}


def register(service: Service, name: str, **members: Any) -> None:
    """Register a session as a launcher does."""
    spool = service.state / "spool"
    spool.mkdir(parents=True, exist_ok=True)
    draft = spool / "draft"
    draft.write_text(
        json.dumps({"login": "alice", "started": 1, "command": name, **members}), encoding="utf-8"
    )
    draft.rename(spool / f"{name}.json")


def test_the_list_is_the_same_after_the_setting_was_changed_and_another_machine_can_join(
    processes: Processes, tmp_path: Path
) -> None:
    service = Service(tmp_path / "one", processes, {**SPOOL_ONLY, "FASTX_LIST_SERVER_ID": "one"})
    register(service, "simulation", clients=0, params={"name": "Simulation"}, geometry="800x600")
    register(service, "browser", clients=1, display=7)
    service.start_agent()
    service.start_list()
    token = service.token("alice")

    def sessions() -> dict[str, dict[str, Any]]:
        return {session["command"]: session for session in service.sessions(token)}

    wait_for("both sessions", lambda: len(sessions()) == 2)
    register(service, "simulation", clients=1, params={"name": "Simulation"}, geometry="800x600")
    wait_for("a client", lambda: sessions()["simulation"]["lastConnect"])
    body = json.dumps({"id": sessions()["simulation"]["id"], "params": {"name": "Thesis"}}).encode()
    assert (
        fetch(
            f"{service.url}/api/params/{token}", "POST", body, {"Content-Type": "application/json"}
        ).status
        == 200
    )
    before = sessions()
    for name in ("agent", "list"):
        end(service.running[name])

    with redis_server() as redis:
        service.environ["FASTX_LIST_STORE"] = redis.url
        service.start_agent()
        service.start_list()
        wait_for("both sessions again", lambda: len(sessions()) == 2)
        # What only the former store knew stays there: params that were set, and when clients came
        # and went.
        before["simulation"] |= {"params": {"name": "Simulation"}, "lastConnect": None}
        assert sessions() == before

        secret = (service.state / "secret").read_text(encoding="ascii").strip()
        other = Service(
            tmp_path / "two",
            processes,
            {
                **SPOOL_ONLY,
                "FASTX_LIST_SERVER_ID": "two",
                "FASTX_LIST_STORE": redis.url,
                "FASTX_LIST_SECRET_KEY": secret,
            },
        )
        register(other, "editor")
        other.start_agent()
        wait_for("the session of the other machine", lambda: len(sessions()) == 3)
        assert {name: session["serverId"] for name, session in sessions().items()} == {
            "simulation": "one",
            "browser": "one",
            "editor": "two",
        }
        processes.stop()
