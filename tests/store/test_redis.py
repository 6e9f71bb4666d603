"""What only Redis has: ways to reach it, a history by count, data that others wrote or lost, and a
clock that jumps."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as client_library

from fastx_list.store import (
    REMEMBER_SECONDS,
    OrderLost,
    SnapshotNeeded,
    Store,
    StoreError,
    open_store,
    redis,
)
from tests.redis_server import RedisServer, redis_server
from tests.store.common import (
    OpenStore,
    be_patient,
    by_id,
    make_lease,
    make_server,
    make_session,
    params_in,
    running_in,
)
from tests.support import program, wait_for


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "QUICK", redis.QUICK)
    monkeypatch.setattr(redis, "PATIENT", redis.PATIENT)
    be_patient()


@pytest.fixture
def prefix() -> str:
    return secrets.token_hex(8)


@pytest.fixture
def url(shared_redis: RedisServer, prefix: str) -> str:
    return f"{shared_redis.url}/3?prefix={prefix}"


@pytest.fixture
def raw(shared_redis: RedisServer, prefix: str) -> Iterator[Raw]:
    with shared_redis.client(db=3) as client:
        yield Raw(client, prefix)


class Raw:
    """The keys of the store under test, for looking at and for doing harm."""

    def __init__(self, client: client_library.Redis, prefix: str) -> None:
        self.client: Any = client
        self.prefix = f"{{{prefix}}}:1:"

    def key(self, name: str) -> str:
        return self.prefix + name

    def all_keys(self) -> list[str]:
        return sorted(
            key.decode() for key in self.client.keys(self.prefix.replace("{", "\\{") + "*")
        )

    def empty(self) -> None:
        for key in self.all_keys():
            self.client.delete(key)


# What is kept.


def test_all_keys_have_the_prefix_and_one_hash_tag(store: Store, raw: Raw) -> None:
    before = raw.client.dbsize()
    store.observe("s1", by_id(make_session(1), make_session(2)), make_lease(seconds=0.01))
    store.heartbeat(make_server("s2"), make_lease())
    store.set_params("s1-1", "alice", {"a": 1})
    store.revoke("token", 2**40)
    wait_for("the end of the lease", lambda: not running_in(store))
    assert raw.client.dbsize() - before == len(raw.all_keys()) > 5
    assert len({client_library.crc.key_slot(key.encode()) for key in raw.all_keys()}) == 1


def test_nothing_of_a_session_stays_once_it_has_ended(
    store: Store, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "HISTORY_SECONDS", -1)
    store.observe("s1", by_id(make_session(command="SECRET")))
    store.set_params("s1-1", "alice", {"a": "SECRET"})
    store.observe("s1", {})
    store.observe("s1", {})
    held = [raw.client.dump(key) for key in raw.all_keys() if raw.client.type(key) != b"stream"]
    assert not any(b"SECRET" in value for value in held)
    assert raw.client.xlen(raw.key("changes")) == 0


def test_what_left_with_a_lease_is_kept_in_mind_for_a_day(store: Store, raw: Raw) -> None:
    store.observe("s1", by_id(make_session()), make_lease(seconds=0.01))
    wait_for("the end of the lease", lambda: not running_in(store))
    for name in ("gone:s1", "gone-params:s1"):
        assert REMEMBER_SECONDS - 60 < raw.client.ttl(raw.key(name)) <= REMEMBER_SECONDS


def test_the_history_is_bounded_and_who_falls_off_needs_a_snapshot(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "MAX_CHANGES", 100)
    writer, reader, eager = opened(), opened(), opened()
    revision = reader.snapshot().revision
    position = eager.snapshot().revision
    for number in range(60):
        writer.observe("s1", by_id(*(make_session(each, clients=number) for each in range(10))))
        changes = eager.changes(position)
        assert changes is not None
        position = changes.revision
    # Redis trims whole nodes, of 100 entries as a rule
    assert raw.client.xlen(raw.key("changes")) <= 300
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    snapshot = reader.snapshot()
    assert (snapshot.revision, len(snapshot.records)) == (600, 10)
    writer.observe("s1", {})
    changes = reader.changes(600)
    assert changes is not None
    assert len(changes.records) == 10


def test_the_history_is_forgotten_in_time_and_who_is_up_to_date_goes_on(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer, reader, behind = opened(), opened(), opened()
    start = behind.snapshot().revision
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    monkeypatch.setattr(redis, "HISTORY_SECONDS", -1)  # as if all were older than that
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    assert raw.client.xlen(raw.key("changes")) == 0
    assert reader.changes(revision) is None
    with pytest.raises(SnapshotNeeded):
        behind.changes(start)
    monkeypatch.setattr(redis, "HISTORY_SECONDS", 600)
    writer.observe("s1", by_id(make_session(2)))
    changes = reader.changes(revision)
    assert changes is not None
    assert [(record.id, record.text) for record in changes.records] == [("s1-1", None)]


def test_a_revocation_is_forgotten_when_its_token_has_expired(store: Store) -> None:
    store.revoke("old", 1_700_000_000)
    store.revoke("new", 2**40)
    store.observe("s1", {})
    assert dict(store.snapshot().revoked) == {"new": 2**40}


def test_many_sessions_are_read_a_page_at_a_time_with_what_changes_meanwhile(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "PAGE", 10)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(*(make_session(number) for number in range(2000))))
    pages = 0
    ask = type(reader._quick).ask  # type: ignore[attr-defined]

    def ask_and_write(link: Any, *commands: Any, more: float = 0) -> Any:
        nonlocal pages
        if commands[0][0] == "HSCAN":
            pages += 1
            if pages in (5, 50, 100):
                writer.observe(
                    "s1",
                    by_id(
                        *(
                            make_session(number, clients=pages)
                            for number in range(pages, 2000 + pages)
                        )
                    ),
                )
        return ask(link, *commands, more=more)

    monkeypatch.setattr(type(reader._quick), "ask", ask_and_write)  # type: ignore[attr-defined]
    snapshot = reader.snapshot()
    assert pages >= 100
    members = [json.loads(str(record.text)) for record in snapshot.records]
    assert {each["id"] for each in members} == {f"s1-{number}" for number in range(100, 2100)}
    assert len(members) == 2000 and {each["clients"] for each in members} == {100}
    assert reader.changes(snapshot.revision) is None


def test_an_agent_can_have_more_sessions_than_a_function_of_lua_has_arguments(store: Store) -> None:
    store.observe("s1", by_id(*(make_session(number) for number in range(3000))))
    assert len(running_in(store)) == 3000
    store.observe("s1", {})
    assert running_in(store) == {}


# Data that was lost, or that somebody else wrote.


@pytest.mark.parametrize("more", [0, 1, 2, 10])
def test_a_reader_of_a_redis_that_was_emptied_needs_a_snapshot(
    opened: OpenStore, raw: Raw, more: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    raw.empty()
    # Its revisions reach, meet and overtake the one that the reader knows
    for number in range(more):
        writer.observe("s1", by_id(make_session(3, clients=number)))
    for _ in range(2):
        with pytest.raises(OrderLost):
            reader.changes(revision)
    assert running_in(reader).keys() == ({"s1-3"} if more else set())
    writer.observe("s1", by_id(make_session(4)))
    changes = reader.changes(reader._seen[0])  # type: ignore[attr-defined]
    assert changes is not None


def test_a_head_that_was_lost_alone_keeps_nobody_from_writing(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    revision = reader.snapshot().revision
    raw.client.delete(raw.key("head"))
    writer.observe("s1", by_id(make_session(1), make_session(2, clients=1)))
    with pytest.raises(SnapshotNeeded):
        reader.changes(revision)
    assert running_in(reader).keys() == {"s1-1", "s1-2"}


def test_while_nothing_is_written_redis_is_not_asked(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "WATCH_SECONDS", 60.0)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    for number in range(3):
        writer.set_params("s1-1", "alice", {"a": number})
        revision = reader.snapshot().revision
        wait_for("the watch", lambda: reader.changes(revision) is None and reader._watch.goes_on())  # type: ignore[attr-defined]
        before = _commands(raw)
        for _ in range(50):
            assert reader.changes(revision) is None
        assert _commands(raw) == before
        reader._look_at = 0.0  # type: ignore[attr-defined]
        assert reader.changes(revision) is None
        assert _commands(raw) != before and reader._watch.goes_on()  # type: ignore[attr-defined]


def _commands(raw: Raw) -> dict[str, int]:
    found = raw.client.info("commandstats")
    return {name: found[name]["calls"] for name in found if not name.startswith("cmdstat_info")}


def test_what_was_written_is_read_by_the_next_question_of_anybody(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(redis, "WATCH_SECONDS", 60.0)
    stores = [opened(), opened()]
    stores[0].observe("s1", by_id(make_session()))
    revisions = [store.snapshot().revision for store in stores]
    for number in range(500):
        text = stores[number % 2].set_params("s1-1", "alice", {"a": number})
        for index, store in enumerate(stores):
            changes = store.changes(revisions[index])
            assert changes is not None and [record.text for record in changes.records] == [text]
            revisions[index] = changes.revision
            assert store.changes(changes.revision) is None


@pytest.mark.parametrize(
    "harm", [("CLIENT", "UNBLOCK", "{}", "ERROR"), ("CLIENT", "KILL", "ID", "{}")]
)
def test_a_watch_that_redis_has_given_up_is_noticed(
    opened: OpenStore, raw: Raw, monkeypatch: pytest.MonkeyPatch, harm: tuple[str, ...]
) -> None:
    monkeypatch.setattr(redis, "WATCH_SECONDS", 60.0)
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()))
    revision = reader.snapshot().revision
    wait_for("the watch", lambda: reader.changes(revision) is None and reader._watch.goes_on())  # type: ignore[attr-defined]
    [blocked] = [each["id"] for each in raw.client.client_list() if "b" in each["flags"]]
    raw.client.execute_command(*(part.format(blocked) for part in harm))
    writer.observe("s1", {})
    changes = reader.changes(revision)
    assert changes is not None and [record.id for record in changes.records] == ["s1-1"]


def test_a_view_that_is_written_between_the_look_and_the_write_of_another_does_not_mix_with_it(
    opened: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, other = opened(), opened()
    store.observe("s1", by_id(make_session(1)))
    transaction = store._patient.transaction  # type: ignore[attr-defined]
    interleaved = [by_id(make_session(1), make_session(2)), by_id(make_session(3))]

    def look_and_let_another_write(*commands: Any) -> Any:
        answer = transaction(*commands)
        if interleaved:
            other.observe("s1", interleaved.pop())
        return answer

    monkeypatch.setattr(store._patient, "transaction", look_and_let_another_write)  # type: ignore[attr-defined]
    store.observe("s1", by_id(make_session(1, clients=5), make_session(4)))
    assert not interleaved
    assert running_in(other).keys() == {"s1-1", "s1-4"}


def test_a_reader_that_waits_notices_that_redis_was_emptied(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    timer = threading.Timer(0.1, raw.empty)
    timer.start()
    with pytest.raises(SnapshotNeeded):
        while True:
            assert reader.changes(revision, timeout=0.2) is None
    timer.join()


def test_an_agent_notices_that_redis_was_emptied(opened: OpenStore, raw: Raw) -> None:
    agent, reader = opened(), opened()
    agent.observe("s1", by_id(make_session(1)), make_lease())
    raw.empty()
    assert agent.edition("s1") is None
    agent.observe("s1", by_id(make_session(1)), make_lease())
    assert running_in(reader).keys() == {"s1-1"}


def _harmful(name: str, **members: str) -> bytes:
    all_members = {
        "id": f'"{name}"',
        "login": '"x"',
        "serverId": '"s1"',
        "hostname": '"host"',
        "params": "{}",
        **members,
    }
    return (
        "{" + ",".join(f'"{member}":{text}' for member, text in all_members.items()) + "}"
    ).encode()


def test_what_is_no_session_is_reported_once_and_the_others_are_read(
    opened: OpenStore, raw: Raw, caplog: pytest.LogCaptureFixture
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1), make_session(2)))
    good = raw.client.hget(raw.key("sessions"), "s1-1")
    harm = {
        "a": b"no json",
        "b": b"[]",
        "c": b'{"id": "c"}',
        "d": good,
        "e": b'{"id":"e","login":1,"serverId":"s"}',
        "f": b"\xff",
        "g": b'"g"',
        "h": _harmful("h", params="[]"),
        "i": b"null",
        "j": _harmful("j", login="[]"),
        "k": _harmful("k", x="NaN"),
        "l": _harmful("l", params='{"x":' + "[" * 40 + "]" * 40 + "}"),
        "m": _harmful("m", x="[" * 100_000 + "]" * 100_000),
    }
    raw.client.hset(raw.key("sessions"), mapping=harm)
    raw.client.hset(
        raw.key("servers"),
        mapping={
            "x": b"no json",
            "y": b"[]",
            "z": b'{"id":"s1"}',
            "w": b'{"id":"w","x":' + b"[" * 40 + b"]" * 40 + b"}",
        },
    )
    with caplog.at_level(logging.ERROR):
        for _ in range(2):
            assert running_in(reader).keys() == {"s1-1", "s1-2"}
            assert list(reader.snapshot().servers) == []
    assert len(caplog.records) == len(harm) + 4
    assert writer.set_params("a", "alice", {"x": 1}) is None


def test_what_is_no_change_is_left_out_and_the_others_are_read(opened: OpenStore, raw: Raw) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session(1)))
    revision = reader.snapshot().revision
    writer.observe("s1", by_id(make_session(1, clients=1)))
    head = raw.client.get(raw.key("head")).decode().split()
    harmful: list[dict[str, Any]] = [
        {"s": "s1-9", "d": "no json"},
        {"s": b"\xff", "l": "x", "v": "y"},
        {"s": "s1-9"},
        {"j": "token", "e": "never"},
        {"m": b"\xff"},
    ]
    for number, harm in enumerate(harmful, start=1):
        raw.client.xadd(
            raw.key("changes"), {"p": head[1], "t": "0", **harm}, id=f"{int(head[0]) + number}-0"
        )
        raw.client.set(raw.key("head"), f"{int(head[0]) + number} {head[1]}")
    changes = reader.changes(revision)
    assert changes is not None
    assert [record.id for record in changes.records] == ["s1-1"]
    assert (changes.revoked, changes.servers, changes.revision) == ({}, (), int(head[0]) + 5)


def test_a_head_that_is_none_is_an_error_that_names_it(store: Store, raw: Raw) -> None:
    raw.client.set(raw.key("head"), "mine")
    with pytest.raises(StoreError, match="head.*remove that key"):
        store.snapshot()


def test_a_prefix_that_holds_something_else_is_an_error_that_names_the_store(
    store: Store, raw: Raw
) -> None:
    raw.client.set(raw.key("sessions"), "mine")
    for call in (
        store.snapshot,
        lambda: store.observe("s1", by_id(make_session())),
        lambda: store.set_params("a", "b", {}),
    ):
        with pytest.raises(StoreError, match="the store, Redis at 127.0.0.1:[0-9]+, database 3"):
            call()


# Its clock.


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_clock_that_jumps_or_hours_that_nobody_could_reach_it_end_no_lease(
    opened: OpenStore, raw: Raw, hours: int
) -> None:
    writer, reader = opened(), opened()
    writer.observe("s1", by_id(make_session()), make_lease(seconds=60))
    raw.client.hincrby(raw.key("clock"), "wall", hours * 3600_000)
    assert running_in(reader).keys() == {"s1-1"}
    assert running_in(opened()).keys() == {"s1-1"}
    held = writer.holder("s1")
    assert held is not None
    assert writer.heartbeat(make_server(), make_lease(seconds=60)) is None


def test_a_lease_of_a_dead_agent_ends_after_such_a_jump_as_well(
    opened: OpenStore, raw: Raw
) -> None:
    writer = opened()
    writer.observe("s1", by_id(make_session()), make_lease(seconds=60))
    for jump in range(4):
        assert running_in(opened()).keys() == {"s1-1"}, jump
        raw.client.hincrby(raw.key("clock"), "wall", -3600_000)  # a fourth of the lease each time
    assert running_in(opened()) == {}


# Ways to reach it.


def _is_usable(url: str) -> bool:
    store = open_store(url)
    store.observe("s1", by_id(make_session(params={"a": 1})), make_lease())
    found: bool = params_in(store) == {"a": 1}
    store.close()
    return found


def test_each_database_and_each_prefix_is_a_store_of_its_own(
    shared_redis: RedisServer, prefix: str
) -> None:
    stores = [
        open_store(f"{shared_redis.url}/{database}?prefix={name}")
        for database in (4, 5)
        for name in (prefix, prefix + "x")
    ]
    for number, store in enumerate(stores):
        store.observe("s1", by_id(*(make_session(each) for each in range(number))))
    assert [len(running_in(store)) for store in stores] == [0, 1, 2, 3]
    for store in stores:
        store.close()


def test_a_password_is_taken_from_the_url_or_from_a_file_that_may_change(tmp_path: Path) -> None:
    password, file = secrets.token_hex(8), tmp_path / "password"
    with redis_server(requirepass=password) as server:
        assert _is_usable(f"redis://:{password}@127.0.0.1:{server.port}")
        file.write_text("not yet")
        store = open_store(f"{server.url}?password_file={file}")
        for url in (server.url, f"redis://:wrong{password}@127.0.0.1:{server.port}"):
            with pytest.raises(StoreError, match="does not take the password") as caught:
                open_store(url).snapshot()
            assert password not in str(caught.value)
        with pytest.raises(StoreError, match="does not take the password"):
            store.snapshot()
        file.write_text(password + "\n")
        store.close()
        store = open_store(f"{server.url}?password_file={file}")
        assert running_in(store).keys() == {"s1-1"}
        store.close()


def test_a_user_that_may_not_do_everything_is_told(shared_redis: RedisServer, prefix: str) -> None:
    password = secrets.token_hex(8)
    with shared_redis.client() as client:
        client.execute_command("ACL", "SETUSER", prefix, "on", f">{password}", "~*", "+get")
        with pytest.raises(StoreError, match="ACL SETUSER"):
            open_store(f"redis://{prefix}:{password}@127.0.0.1:{shared_redis.port}").snapshot()
        # What docs/deploy.md says is enough.
        client.execute_command(
            "ACL",
            "SETUSER",
            prefix,
            "resetkeys",
            f"~{{{prefix}}}:1:*",
            "+@read",
            "+@write",
            "+@scripting",
            "+@transaction",
            "+time",
            "+select",
        )
        assert _is_usable(
            f"redis://{prefix}:{password}@127.0.0.1:{shared_redis.port}/2?prefix={prefix}"
        )
        client.execute_command("ACL", "DELUSER", prefix)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1 and a client's, all made now."""
    directory = tmp_path_factory.mktemp("certificates")
    openssl = program("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    new = ("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
    run(
        *new,
        "-x509",
        "-keyout",
        "ca.key",
        "-out",
        "ca.pem",
        "-subj",
        "/CN=authority",
        "-addext",
        "keyUsage=critical,keyCertSign",
    )
    for name in ("server", "client"):
        run(
            *new,
            "-x509",
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.pem",
            "-subj",
            f"/CN={name}",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
        )
    return directory


def test_over_tls_both_sides_show_who_they_are(certificates: Path) -> None:
    options = {
        "tls_cert_file": str(certificates / "server.pem"),
        "tls_key_file": str(certificates / "server.key"),
        "tls_ca_cert_file": str(certificates / "ca.pem"),
    }
    with redis_server(**options) as server:
        with server.client() as client:
            client.config_set("port", "0")
            client.config_set("tls-port", str(server.port))
        url = f"rediss://127.0.0.1:{server.port}?ca={certificates / 'ca.pem'}"
        pair = f"&cert={certificates / 'client.pem'}&key={certificates / 'client.key'}"
        assert _is_usable(url + pair)
        for wrong in (url, f"rediss://127.0.0.1:{server.port}?{pair[1:]}", server.url):
            with pytest.raises(StoreError, match=f"Redis at 127.0.0.1:{server.port}"):
                open_store(wrong).snapshot()
