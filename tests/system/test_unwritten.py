"""A store that takes no writes for longer than a lease, and processes that stand still as long:
nothing that is over is shown as current, and nothing that runs is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest
from websockets.sync.client import connect

from tests.redis_server import RedisServer, redis_server
from tests.support import Answer, Processes, Service, end, fetch, wait_for
from tests.system.feed import Feed

EXPIRY = 8.0  # seconds; three of them pass before a busy machine may end anything wrongly
ROUNDS = 3
NAMES = ("one", "two")


@dataclass
class Site:
    """Agent, list and sidecar, and who watches them."""

    service: Service
    feed: Feed
    token: str

    def write(self, name: str) -> None:
        """Register a session as a launcher does."""
        spool = self.service.state / "spool"
        draft = spool / f"{name}.new"
        draft.write_text(json.dumps({"login": "alice", "command": name}), encoding="utf-8")
        draft.rename(spool / f"{name}.json")

    def end(self, name: str) -> None:
        (self.service.state / "spool" / f"{name}.json").unlink()

    def ask(self) -> Answer:
        return fetch(f"{self.service.url}/api/list/{self.token}")

    def is_ready(self) -> set[bool]:
        """Ask all workers, the sidecar's among them."""
        urls = [self.service.url] * 6 + [f"http://127.0.0.1:{self.service.live_port}"]
        return {fetch(f"{url}/ready").status == 200 for url in urls}

    def shows(self, *names: str) -> bool:
        """Whether list and sidecar show these sessions for sure."""
        self.feed.take()
        answer = self.ask()
        listed = sorted(session["command"] for session in answer.json)
        told = sorted(session["command"] for session in self.feed.state.values())
        return listed == told == sorted(names) and not _warned(answer) and self.is_ready() == {True}

    def told(self) -> list[str | None]:
        """What was told since the last time: the commands of sessions, and ``None`` for ends."""
        self.feed.take()
        messages = [
            message["data"] and message["data"]["command"] for message in self.feed.messages
        ]
        self.feed.messages.clear()
        return messages

    def pids(self, *names: str) -> list[int]:
        """The processes of these services, the workers among them."""
        tops = [psutil.Process(self.service.running[name].pid) for name in names]
        return [each.pid for top in tops for each in (top, *top.children(recursive=True))]


def _warned(answer: Answer) -> bool:
    assert answer.status == 200, answer.body
    return (answer.headers.get("Warning") or "").startswith("110 ")


def _site(state: Path, logs: Path, **environ: str) -> Iterator[Site]:
    (state / "spool").mkdir(parents=True)
    processes = Processes(logs)
    service = Service(
        state,
        processes,
        {"FASTX_LIST_SOURCES": "spool", "FASTX_LIST_SERVER_EXPIRY": str(EXPIRY), **environ},
    )
    try:
        service.start_agent()
        service.start_list()
        service.start_live()
        token = service.token("alice")
        with connect(f"{service.live_url}?token={token}") as connection:
            site = Site(service, Feed(connection), token)
            for name in NAMES:
                site.write(name)
            wait_for("the sessions", lambda: site.shows(*NAMES))
            site.told()
            yield site
    finally:
        processes.stop()


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Site]:
    """Its state directory is a small file system of its own."""
    state = tmp_path / "state"
    state.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1200k,mode=700", "none", str(state)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system takes root, and a kernel that lets it")
    try:
        yield from _site(state, tmp_path)
    finally:
        subprocess.run(["umount", str(state)], check=True)


def _fill(site: Site) -> Path:
    filler = site.service.state / "filler"
    with pytest.raises(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 1024)
    return filler


def test_what_ended_while_the_disk_is_full_is_not_shown_for_sure_and_nothing_else_ends(
    full: Site,
) -> None:
    for _ in range(ROUNDS):
        filler = _fill(full)
        full.end("one")
        wait_for("a warning", lambda: _warned(full.ask()))
        wait_for("all of them to be unready", lambda: full.is_ready() == {False})
        assert all(_warned(full.ask()) for _ in range(6))
        doctor = full.service.run("doctor", check=False)
        assert doctor.returncode != 0
        assert "cannot be written" in doctor.stdout and "make room" in doctor.stdout
        assert "agent: " in doctor.stdout and "none is running" not in doctor.stdout
        assert "has written nothing" in full.service.run("ls", "--login", "alice").stderr
        assert full.told() == []
        filler.unlink()
        wait_for("the end", lambda: full.shows("two"))
        assert full.told() == [None]
        full.write("one")
        wait_for("the new one", lambda: full.shows(*NAMES))
        assert full.told() == ["one"]


def test_an_agent_that_died_while_the_disk_was_full_is_told_from_one_that_lives(full: Site) -> None:
    filler = _fill(full)
    full.service.running["agent"].kill()
    wait_for("a warning", lambda: _warned(full.ask()))
    assert full.told() == []
    filler.unlink()
    wait_for("the ends", lambda: full.shows())
    assert full.told() == [None, None]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from _site(tmp_path / "state", tmp_path)


def test_who_stood_still_for_longer_than_a_lease_says_so_and_ends_nothing(site: Site) -> None:
    for order in (("list", "live", "agent"), ("agent", "list", "live")):
        everybody = site.pids("agent", "list", "live")
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(EXPIRY + 1)  # no condition: the time itself is what matters
        finally:
            for pid in site.pids(*order[:2] if order[0] == "list" else order):
                os.kill(pid, signal.SIGCONT)
            if order[0] == "list":
                assert _warned(site.ask()) and site.is_ready() == {False}
            for pid in everybody:
                os.kill(pid, signal.SIGCONT)
        wait_for("certainty", lambda: site.shows(*NAMES))
        assert site.told() == []


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
def shared(server: RedisServer, tmp_path: Path) -> Iterator[Site]:
    """It shares a Redis with others."""
    yield from _site(tmp_path / "state", tmp_path, FASTX_LIST_STORE=server.url)


def _cannot_save(client: Any, server: RedisServer) -> None:
    """Let a real save fail: there is something in the way."""
    client.config_set("save", "1 1")
    (server.data / "dump.rdb").unlink(missing_ok=True)
    (server.data / "dump.rdb").mkdir()
    client.bgsave()
    wait_for(
        "a save to fail", lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err"
    )


def _no_memory(client: Any, server: RedisServer) -> None:
    client.config_set("maxmemory", 1)


@pytest.mark.parametrize("refuse", [_cannot_save, _no_memory])
def test_a_redis_that_refuses_to_write_is_not_served_as_current(
    shared: Site, server: RedisServer, refuse: Any
) -> None:
    with server.client() as client:
        refuse(client, server)
        shared.end("one")
        wait_for("a warning", lambda: _warned(shared.ask()))
        wait_for("all of them to be unready", lambda: shared.is_ready() == {False})
        assert all(_warned(shared.ask()) for _ in range(6))
        doctor = shared.service.run("doctor", check=False)
        assert doctor.returncode != 0 and "takes no changes" in doctor.stdout.replace(
            "has no memory left for changes", "takes no changes"
        )
        assert shared.told() == []
        client.config_set("maxmemory", 0)
        client.config_set("stop-writes-on-bgsave-error", "no")
    wait_for("the end", lambda: shared.shows("two"))
    assert shared.told() == [None]


def test_a_redis_that_comes_back_empty_is_never_taken_for_whole(
    shared: Site, server: RedisServer
) -> None:
    service = shared.service
    end(service.running["list"])
    service.start_list()  # nobody asks it for anything
    with server.client() as client:
        wait_for(
            "all workers to follow the store",
            lambda: (
                [each["cmd"] for each in client.client_list()].count("xread")
                == len(shared.pids("list", "live")) - 2  # gunicorn's masters read nothing
            ),
        )
    server.kill()
    assert all(_warned(shared.ask()) and len(shared.ask().json) == 2 for _ in range(6))
    [agent] = shared.pids("agent")
    os.kill(agent, signal.SIGSTOP)
    try:
        server.start()
        end(service.running["list"])
        service.start_list()  # this one knows nothing of before
        answers = [shared.ask() for _ in range(12)]
    finally:
        os.kill(agent, signal.SIGCONT)
    assert all(_warned(answer) for answer in answers)
    wait_for("all to be whole", lambda: shared.shows(*NAMES))
    assert shared.told() == []
