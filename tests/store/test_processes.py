"""Several processes at once: run against each store."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection as Pipe
from typing import Any

import pytest

from fastx_list.model.session import Session
from fastx_list.store import Record, open_store
from tests.store.common import (
    FAR,
    PATIENCE,
    SPAWN,
    OpenStore,
    by_id,
    make_session,
    params_in,
    running_in,
)

pytestmark = pytest.mark.programs


def test_a_follower_sees_every_change_of_several_writers_once_and_in_order(
    opened: OpenStore, url: str, workers: ProcessPoolExecutor
) -> None:
    servers, steps = ["s1", "s2", "s3"], 25
    follower = opened()
    snapshot = follower.snapshot()
    seen: list[Record] = []
    revoked: list[str] = []
    revision = snapshot.revision
    # Each step touches sessions that no other step touches, so that no state is overtaken by a
    # newer one before it is seen.
    for work in (_start_one_by_one, _end_one_by_one):
        writers = [workers.submit(work, url, server_id, steps) for server_id in servers]
        writers.append(workers.submit(_revoke_one_by_one, url, work.__name__, steps))
        give_up = time.monotonic() + PATIENCE
        while time.monotonic() < give_up:
            # Asked first: what was written before is read below
            finished = all(writer.done() for writer in writers)
            changes = follower.changes(revision, timeout=0 if finished else 0.05)
            if changes is not None:
                written = len(changes.records) + len(changes.revoked)
                assert changes.revision.number == revision.number + written
                revision = changes.revision
                seen += changes.records
                revoked += changes.revoked
            elif finished:
                break
        for writer in writers:
            writer.result(0)  # raises what went wrong there, or that it has not come to an end
    for server_id in servers:
        mine = [
            (record.id, record.text is None) for record in seen if record.server_id == server_id
        ]
        ids = [f"{server_id}-{number}" for number in range(steps)]
        assert mine == [(name, False) for name in ids] + [(name, True) for name in ids]
    assert sorted(revoked) == sorted(
        f"{work.__name__}-{n}"
        for work in (_start_one_by_one, _end_one_by_one)
        for n in range(steps)
    )


def _start_one_by_one(url: str, server_id: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.observe(
            server_id, by_id(*(make_session(each, server_id) for each in range(number + 1)))
        )
    store.close()


def _end_one_by_one(url: str, server_id: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.observe(
            server_id, by_id(*(make_session(each, server_id) for each in range(number + 1, steps)))
        )
    store.close()


def _revoke_one_by_one(url: str, name: str, steps: int) -> None:
    store = open_store(url)
    for number in range(steps):
        store.revoke({f"{name}-{number}": FAR})
    store.close()


def test_no_reader_ever_sees_part_of_what_was_observed(
    opened: OpenStore, url: str, workers: ProcessPoolExecutor
) -> None:
    reader, follower = opened(), opened()
    snapshot = follower.snapshot()
    revision, followed = snapshot.revision, {record.id: record.text for record in snapshot.records}
    writer = workers.submit(_observe_rounds, url, 60)
    finished, give_up = False, time.monotonic() + PATIENCE
    while not finished and time.monotonic() < give_up:
        finished = writer.done()
        _assert_one_whole_round(running_in(reader))
        changes = follower.changes(revision)
        if changes is not None:
            revision = changes.revision
            followed.update({record.id: record.text for record in changes.records})
            _assert_one_whole_round(
                {name: json.loads(text) for name, text in followed.items() if text is not None}
            )
    writer.result(0)
    assert {members["clients"] for members in running_in(reader).values()} == {59}


def _round(number: int) -> dict[str, Session]:
    """Twenty sessions, of which each round ends one and starts one, all with the round's number on
    them."""
    return by_id(*(make_session(each, clients=number) for each in range(number, number + 20)))


def _assert_one_whole_round(running: Mapping[str, Any]) -> None:
    numbers = {members["clients"] for members in running.values()}
    assert len(numbers) <= 1
    for number in numbers:
        assert running.keys() == _round(number).keys()


def _observe_rounds(url: str, rounds: int) -> None:
    store = open_store(url)
    for number in range(rounds):
        store.observe("s1", _round(number))
    store.close()


def test_params_that_several_processes_set_at_once_are_all_kept(
    opened: OpenStore, url: str, workers: ProcessPoolExecutor
) -> None:
    store = opened()
    store.observe("s1", by_id(make_session()))
    writers = [workers.submit(_set_many_params, url, name, 12) for name in "abc"]
    writers.append(workers.submit(_observe_many_times, url, 30))
    for writer in writers:
        writer.result(PATIENCE)
    assert params_in(store) == {f"{name}{number}": number for name in "abc" for number in range(12)}


def _set_many_params(url: str, name: str, count: int) -> None:
    store = open_store(url)
    for number in range(count):
        assert store.set_params("s1-1", "alice", {f"{name}{number}": number}) is not None
    store.close()


def _observe_many_times(url: str, count: int) -> None:
    store = open_store(url)
    for number in range(count):
        store.observe("s1", by_id(make_session(clients=number)))
    store.close()


def test_a_writer_killed_at_any_moment_leaves_a_readable_store_with_nothing_half_written(
    opened: OpenStore, url: str
) -> None:
    moments = random.Random(1)
    reader = opened()
    known = -1
    for _ in range(10):
        ours, theirs = SPAWN.Pipe(duplex=False)
        writer = SPAWN.Process(target=_observe_until_killed, args=(url, known + 1, theirs))
        writer.start()
        theirs.close()
        for _ in range(moments.randint(1, 20)):
            assert ours.poll(PATIENCE)
            known = ours.recv()
        # Waits for nothing: it only moves the kill to anywhere within a write
        time.sleep(moments.uniform(0, 0.003))
        writer.kill()
        writer.join(PATIENCE)
        writer.close()
        while ours.poll():
            try:
                known = ours.recv()
            except EOFError:
                break
        ours.close()
        # One that was open all the time, and one that has to recover what was left
        for store in (reader, opened()):
            running = running_in(store)
            _assert_one_whole_round(running)
            # What was confirmed is there; what was being written may be.
            assert {members["clients"] for members in running.values()} <= {known, known + 1}
            assert running
        known = max(members["clients"] for members in running.values())
        known += 1
        opened().observe("s1", _round(known))  # the dead process holds no lock


def _observe_until_killed(url: str, number: int, confirm: Pipe) -> None:
    store = open_store(url)
    while True:
        store.observe("s1", _round(number))
        confirm.send(number)
        number += 1
