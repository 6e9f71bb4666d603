"""Two machines that share one Redis: agents, lists and a sidecar as they run, through whatever
happens to any of them."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

from tests.redis_server import RedisServer, redis_server
from tests.support import Answer, Processes, Service, end, fetch, program, wait_for
from tests.system.feed import Feed

EXPIRY = 4.0  # seconds; longer than an agent takes to start on a busy machine
BOUND_SECONDS = 2.0  # see tests/store/test_redis_outages.py
# Of this or that release
WALL_CLOCK_ONLY = {"FAKETIME_DONT_FAKE_MONOTONIC": "1", "DONT_FAKE_MONOTONIC": "1"}
JSON = {"Content-Type": "application/json"}


@dataclass
class Site:
    """Machines ``a``, which also serves the WebSocket, and ``b``."""

    redis: RedisServer
    machines: dict[str, Service]
    feed: Feed
    token: str

    def write(self, machine: str, name: str, **members: Any) -> None:
        """Register a session as a launcher on ``machine`` does."""
        spool = self.machines[machine].state / "spool"
        draft = spool / f"{name}.new"
        draft.write_text(
            json.dumps({"login": "alice", "started": 1, "command": name, **members}),
            encoding="utf-8",
        )
        draft.rename(spool / f"{name}.json")

    def end(self, machine: str, name: str) -> None:
        (self.machines[machine].state / "spool" / f"{name}.json").unlink()

    def ask(self, machine: str, path: str = "/api/list/", **options: Any) -> Answer:
        token = self.token if path.endswith("/") else ""
        return fetch(f"{self.machines[machine].url}{path}{token}", **options)

    def set_params(self, machine: str, session_id: str, **params: Any) -> Answer:
        body = json.dumps({"id": session_id, "params": params}).encode()
        return self.ask(machine, "/api/params/", method="POST", body=body, headers=JSON)

    def lists(self) -> list[dict[str, dict[str, Any]]]:
        """Return what each list says, by command, and what the WebSocket has said."""
        self.feed.take()
        found = [
            {session["command"]: session for session in self.ask(machine).json}
            for machine in self.machines
        ]
        return [*found, {session["command"]: session for session in self.feed.state.values()}]

    def settled(self, **expected: dict[str, Any]) -> dict[str, dict[str, Any]]:
        """Wait until both lists and the WebSocket say the same: these sessions, by command, with
        these members."""

        def look() -> dict[str, dict[str, Any]] | None:
            if any(self.ask(machine, "/ready").status != 200 for machine in self.machines):
                return None
            first, *others = self.lists()
            fits = first.keys() == expected.keys() and all(
                first[name][member] == value
                for name, members in expected.items()
                for member, value in members.items()
            )
            return {"": {}, **first} if fits and all(other == first for other in others) else None

        return wait_for(f"{expected}", look)


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    place = tmp_path_factory.mktemp("site")
    processes = Processes(place)
    shared = {
        "FASTX_LIST_SECRET_KEY": secrets.token_hex(32),
        "FASTX_LIST_SERVER_EXPIRY": str(EXPIRY),
        "FASTX_LIST_SOURCES": "spool",
        "FASTX_LIST_SCAN_INTERVAL": "0.2",
        "WEB_CONCURRENCY": "1",
    }
    with redis_server(appendonly="yes", appendfsync="always") as redis:
        machines = {}
        for name in "ab":
            (place / name).mkdir()
            own = {
                **shared,
                "FASTX_LIST_STORE": redis.url,
                "FASTX_LIST_SERVER_ID": f"machine-{name}",
            }
            machines[name] = Service(place / name / "state", Processes(place / name), own)
            (place / name / "state" / "spool").mkdir(parents=True)
            machines[name].start_agent()
            machines[name].start_list()
        machines["a"].start_live()
        token = machines["a"].token("alice")
        address = f"{machines['a'].live_url}?token={token}"
        try:
            connection = wait_for("the sidecar", lambda: _connect(address))
            with connection:
                yield Site(redis, machines, Feed(connection), token)
        finally:
            for machine in machines.values():
                machine.processes.stop()
            processes.stop()
        logs = [
            machine.processes.log(name)
            for machine in machines.values()
            for name in ("agent", "list")
        ]
        assert "Traceback" not in "".join([*logs, machines["a"].processes.log("live")])


def _connect(address: str) -> Any:
    with suppress(Exception):  # the sidecar lets nobody in before it has read the store
        return connect(address)


@pytest.fixture
def site(everything: Site) -> Iterator[Site]:
    """The site with a session on each machine, which the test may change; whatever it did must be
    over by then."""
    everything.write("a", "one")
    everything.write("b", "two")
    everything.settled(one={}, two={})
    everything.feed.messages.clear()
    yield everything
    for machine in everything.machines.values():
        for file in (machine.state / "spool").glob("*.json"):
            file.unlink()
    everything.settled()


def ends(site: Site) -> list[str]:
    return [message["id"] for message in site.feed.messages if message["data"] is None]


def test_any_machine_lists_all_and_takes_params_for_all_at_once(site: Site) -> None:
    session = site.settled(one={}, two={})["one"]
    for number in range(20):
        for writer, reader in ("ab", "ba"):
            assert (
                site.set_params(writer, session["id"], number=number, writer=writer).status == 200
            )
            params = {each["id"]: each["params"] for each in site.ask(reader).json}[session["id"]]
            assert params == {"number": number, "writer": writer}
    site.write("b", "three", clients=1)
    site.settled(
        one={"params": {"number": 19, "writer": "b"}},
        two={"serverId": "machine-b"},
        three={"clients": 1},
    )
    site.end("b", "three")
    site.settled(one={}, two={})


def test_while_redis_hangs_lists_go_on_from_memory_and_say_so(site: Site) -> None:
    session = site.settled(one={}, two={})["one"]
    with site.redis.frozen():
        for machine in site.machines:
            began = time.monotonic()
            answer = wait_for("the warning", lambda: _warned(site, machine))
            assert {each["command"] for each in answer.json} == {"one", "two"}
            assert site.ask(machine, "/ready").status == 503
            assert site.ask(machine, "/health").status == 200
            assert site.set_params(machine, session["id"], a=1).status == 503
            for _ in range(30):
                began = time.monotonic()
                assert site.ask(machine).status == 200
                assert time.monotonic() - began < BOUND_SECONDS
        site.write("b", "three")
        time.sleep(EXPIRY + 1)  # for longer than a lease
        site.feed.take()
    site.settled(one={}, two={}, three={})
    assert ends(site) == [] and [message["data"]["command"] for message in site.feed.messages] == [
        "three"
    ]


def _warned(site: Site, machine: str) -> Answer | None:
    answer = site.ask(machine)
    return answer if answer.headers["Warning"] and site.ask(machine).headers["Warning"] else None


def test_a_redis_that_was_away_for_longer_than_a_lease_costs_nobody_a_session(site: Site) -> None:
    session = site.settled(one={}, two={})["one"]
    assert site.set_params("b", session["id"], name="Thesis").status == 200
    site.settled(one={"params": {"name": "Thesis"}}, two={})
    site.redis.kill()
    wait_for("the warning", lambda: _warned(site, "a"))
    time.sleep(EXPIRY + 1)
    site.write("a", "three")
    site.end("b", "two")
    site.redis.start()
    site.settled(one={"params": {"name": "Thesis"}}, three={})
    assert len(ends(site)) == 1


@pytest.mark.parametrize("how", ["flushed", "restarted"])
def test_a_redis_that_lost_its_data_is_filled_again(site: Site, how: str) -> None:
    before = site.settled(one={}, two={})
    if how == "flushed":
        with site.redis.client() as client:
            client.flushall()
    else:
        site.redis.kill()
        for file in site.redis.data.rglob("*"):
            if file.is_file():
                file.unlink()
        site.redis.start()
    after = site.settled(one={}, two={})
    assert {name: session["id"] for name, session in after.items() if name} == {
        name: session["id"] for name, session in before.items() if name
    }


def test_a_machine_that_dies_takes_its_sessions_off_once_and_brings_them_back(site: Site) -> None:
    before = site.settled(one={}, two={})["two"]
    site.set_params("a", before["id"], name="Thesis")
    site.settled(one={}, two={"params": {"name": "Thesis"}})
    site.feed.messages.clear()
    agent = site.machines["b"].running["agent"]
    agent.kill()
    agent.wait()
    site.settled(one={})
    assert ends(site) == [before["id"]]
    site.machines["b"].start_agent()
    assert site.settled(one={}, two={})["two"] == {**before, "params": {"name": "Thesis"}}
    assert len(ends(site)) == 1


def test_an_agent_that_is_started_again_soon_is_not_noticed(site: Site) -> None:
    for kill in (True, False):
        agent = site.machines["b"].running["agent"]
        if kill:
            agent.kill()
        end(agent)
        site.machines["b"].start_agent()
        site.write("b", "three" if kill else "four")
        site.settled(one={}, two={}, three={}, **({} if kill else {"four": {}}))
    assert ends(site) == []


@pytest.mark.parametrize("offset", ["+10m", "-10m"])
def test_a_machine_whose_clock_is_wrong_by_minutes_is_like_any_other(
    site: Site, offset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = site.machines["b"]
    end(machine.running["agent"])
    program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    monkeypatch.setattr(
        machine,
        "environ",
        {**machine.environ, "LD_PRELOAD": str(library), "FAKETIME": offset, **WALL_CLOCK_ONLY},
    )
    machine.start_agent()
    monkeypatch.undo()
    site.write("b", "two", clients=0)
    site.settled(one={}, two={"clients": 0})
    site.feed.messages.clear()
    site.write("b", "two", clients=1)
    found = site.settled(one={}, two={"clients": 1})["two"]
    ahead = (found["lastConnect"] / 1000 - time.time()) / 60
    assert abs(ahead - float(offset.removesuffix("m"))) < 5, "the agent's clock is not wrong"
    time.sleep(2 * EXPIRY)  # in which a lease would run out
    assert site.settled(one={}, two={})["two"] == found and ends(site) == []
    end(machine.running["agent"])
    machine.start_agent()
    site.write("b", "two", clients=0)
    left = site.settled(one={}, two={"clients": 0})["two"]
    if float(offset.removesuffix("m")) < 0:
        assert left["lastConnect"] == found["lastConnect"]
    else:
        assert found["lastConnect"] > left["lastDisconnect"] >= left["lastConnect"]


def test_two_agents_with_one_name_both_say_so_and_one_writes(site: Site, tmp_path: Path) -> None:
    machine = site.machines["b"]
    other = Service(
        tmp_path / "state",
        Processes(tmp_path),
        {**machine.environ, "FASTX_LIST_STATE_DIR": str(tmp_path / "state")},
    )
    other.environ["FASTX_LIST_STATE_DIR"] = str(tmp_path / "state")
    (tmp_path / "state" / "spool").mkdir(parents=True)
    try:
        other.start_agent()
        wait_for(
            "the refused one",
            lambda: "'machine-b' is in use by another agent" in other.processes.log("agent"),
        )
        wait_for(
            "the other one",
            lambda: "also calls itself 'machine-b'" in machine.processes.log("agent"),
        )
        assert "in use by another agent" in other.run("doctor", check=False).stdout
        assert "also calls itself" in machine.run("doctor", check=False).stdout
        time.sleep(EXPIRY)
        site.settled(one={}, two={})
        assert ends(site) == [] and machine.processes.log("agent").count("also calls itself") == 1
    finally:
        other.processes.stop()


def test_a_password_that_was_changed_is_said_and_never_shown(site: Site) -> None:
    password = secrets.token_hex(8)
    with site.redis.client() as client:
        client.config_set("requirepass", password)
        client.client_kill_filter(_type="normal", skipme=True)
        wait_for("the warning", lambda: _warned(site, "a"))
        wait_for(
            "the agent",
            lambda: "does not take the password" in site.machines["a"].processes.log("agent"),
        )
        client.config_set("requirepass", "")
    site.settled(one={}, two={})
    assert ends(site) == []
