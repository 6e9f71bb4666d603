"""``python -m tests.bench.past``: how long a page of a long history takes, how many bytes a session
there, and what it costs a session's end to be noted."""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import redis

from fastx_list.model.history import HistoryQuery
from fastx_list.model.past import Past
from fastx_list.model.session import Session, encode
from fastx_list.replica.past import past_page
from fastx_list.store import Lease, Store, open_store, sqlite_past
from fastx_list.store.archive import place
from fastx_list.store.redis_past import encode_line

LOGINS = 2000
APART = 2592  # ms between two beginnings: a million in 30 days
BEGAN = 1_700_000_000_000
LEASE = Lease("one", "1", "host", 3600)
SESSION = Session(
    id="ID",
    login="LOGIN",
    server_id="server",
    hostname="host.example.org",
    server_pid=4711,
    geometry="1280x720",
    window_mode="desktop",
    started=BEGAN,
    last_connect=BEGAN,
    last_disconnect=BEGAN,
    command="startxfce4",
    clients=0,
    display=10,
    kind="xrdp",
)
# What notes the past of sessions in a step
NOTING = ("put", "end_sessions", "forget")
LONGEST_PAGE = 50.0  # ms, the target
MOST_OF_AN_END = 1.2  # times what an end takes that is not noted, the target


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=1_000_000)
    parser.add_argument("--redis", help="a Redis that is empty, such as redis://127.0.0.1:6380")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        database = Path(directory) / "sessions.db"
        store = open_store(asked.redis or f"sqlite:///{database}")
        store.observe("server", {}, LEASE)
        before = _size(asked.redis, database)
        if asked.redis:
            _fill_redis(asked.redis, asked.sessions)
        else:
            _fill_sqlite(store, asked.sessions)
        kept = (_size(asked.redis, database) - before) / asked.sessions
        print(f"{asked.sessions} sessions, {kept:.0f} bytes each")
        is_met = _measure(store, asked.sessions)
        if not asked.redis:
            is_met = _measure_ends(store) and is_met
        store.close()
    sys.exit(not is_met)


def _measure_ends(store: Store) -> bool:
    """Compare the processor time of ends that are noted in a store with a long history, and of ends
    that are not, in turns."""
    noting = [getattr(sqlite_past, name) for name in NOTING]
    took: tuple[list[float], list[float]] = ([], [])
    # As much is left to run as a machine may have
    rest = {each.id: each for each in map(_running, range(100))}
    store.observe("server", rest, LEASE)
    for number in range(2000):
        one, is_noted = _running(1000 + number), number % 2
        functions = noting if is_noted else [_nothing] * len(NOTING)
        for name, function in zip(NOTING, functions, strict=True):
            setattr(sqlite_past, name, function)
        store.observe("server", {**rest, one.id: one}, LEASE)
        began = time.process_time()
        store.observe("server", rest, LEASE)
        took[is_noted].append(time.process_time() - began)
    without, with_it = (statistics.median(each) * 1e6 for each in took)
    ratio = with_it / without
    print(f"a session's end: {with_it:.0f} us of processor time, {without:.0f} without that it is"
          f" noted: {ratio:.2f} times")  # fmt: skip
    return ratio <= MOST_OF_AN_END


def _nothing(*_: object, **__: object) -> None:
    pass


def _running(number: int) -> Session:
    return replace(SESSION, id=f"s{number}", login=f"u{number % 50}", clients=1)


def _measure(store: Store, count: int) -> bool:
    last, is_met = BEGAN + count * APART, True
    for what, login, query in (
        ("the first page of all", None, HistoryQuery(limit=100)),
        ("page 1000 of all", None, HistoryQuery(limit=100, start=100_000)),
        ("of an hour", None, HistoryQuery(limit=100, since=last - 3_600_000 * 24, until=last)),
        ("the first page of a login", "u7", HistoryQuery(limit=100)),
        ("a login's, sorted by a member", "u7", HistoryQuery(limit=100, sort_by="command")),
    ):
        took = _time(lambda: _page(store, login, query)) * 1000
        print(f"{what}: {took:.1f} ms")
        is_met = is_met and took <= LONGEST_PAGE
    return is_met


def _page(store: Store, login: str | None, query: HistoryQuery) -> None:
    for _ in past_page(store.archive, login, query, False, BEGAN):
        pass


def _time(call: Callable[[], Any]) -> float:
    took = []
    for _ in range(9):
        began = time.perf_counter()
        call()
        took.append(time.perf_counter() - began)
    return min(took)  # what others make it take longer is not the question


def _sessions(count: int) -> Iterator[tuple[str, str, Past, str]]:
    """Yield the id, the login, the past and the last state of so many sessions."""
    text, chance = encode(SESSION, {"name": "Thesis"}), random.Random(7)
    for number in range(count):
        began = BEGAN + number * APART
        ended = began + chance.randrange(36_000_000)
        name, login = f"{chance.getrandbits(128):032x}", f"u{chance.randrange(LOGINS)}"
        past = Past(began, ended, 3_600_000, None, 0, began, began, ended, ("192.0.2.7",))
        yield name, login, past, text.replace("ID", name, 1).replace("LOGIN", login, 1)


def _fill_sqlite(store: Any, count: int) -> None:
    rows = (
        (
            *(name, login, place(past), past.began, past.ended, past.connected),
            *(None, 0, past.started, past.last_connect, past.last_disconnect, '["192.0.2.7"]'),
            *(text, time.time()),
        )
        for name, login, past, text in _sessions(count)
    )
    with store._file.writing() as db:
        db.executemany(f"INSERT INTO past VALUES ({', '.join('?' * 14)})", rows)


def _fill_redis(url: str, count: int) -> None:
    client: Any = redis.Redis.from_url(url)
    prefix = "{fastx-list}:1:"
    pipe = client.pipeline(transaction=False)
    for number, (name, login, past, text) in enumerate(_sessions(count)):
        pipe.hset(f"{prefix}past", name, encode_line(past, login))
        pipe.hset(f"{prefix}past-texts", name, text)
        pipe.zadd(f"{prefix}past-kept", {name: past.began})
        pipe.zadd(f"{prefix}past-places", {name: place(past)})
        pipe.zadd(f"{prefix}past-places:{login}", {name: place(past)})
        if number % 1000 == 999:
            pipe.execute()
    pipe.execute()
    client.close()


def _size(url: str | None, database: Path) -> int:
    if url is None:
        return sum(file.stat().st_size for file in database.parent.iterdir())
    client: Any = redis.Redis.from_url(url)
    return int(client.info("memory")["used_memory"])


if __name__ == "__main__":
    main()
