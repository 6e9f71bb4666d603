"""Agents that want the lease of one server. Run against each store."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from fastx_list.store import Held, ServerTaken, Store, open_store
from tests.store.common import (
    SHORT,
    by_id,
    is_unchanged,
    make_lease,
    make_server,
    make_session,
    running_in,
    until_it_ran_out,
)
from tests.support import wait_for


def test_an_agent_that_does_not_hold_the_lease_writes_nothing_and_both_are_told(
    store: Store,
) -> None:
    store.heartbeat(make_server(sessions=1), make_lease())
    store.observe("s1", by_id(make_session(1)), make_lease())
    before = store.snapshot()
    rival = make_lease("two", "2")
    with pytest.raises(ServerTaken, match="'s1'.*host of one.*FASTX_LIST_SERVER_ID"):
        store.heartbeat(make_server(sessions=2), rival)
    with pytest.raises(ServerTaken, match="'s1'.*host of one.*FASTX_LIST_SERVER_ID"):
        store.observe("s1", by_id(make_session(2)), rival)
    assert is_unchanged(store, before)
    assert store.holder("s1") == Held("one", "host of one", "host of two")
    assert store.heartbeat(make_server(sessions=1), make_lease()) == "host of two"


def test_a_rival_that_is_gone_is_forgotten(store: Store) -> None:
    store.heartbeat(make_server(), make_lease())
    assert store.heartbeat(make_server(), make_lease()) is None
    with pytest.raises(ServerTaken):
        store.heartbeat(make_server(), make_lease("two", "2", seconds=SHORT))
    wait_for(
        "the rival to be forgotten", lambda: store.heartbeat(make_server(), make_lease()) is None
    )


def test_a_lease_that_ran_out_is_anybodys(store: Store) -> None:
    store.observe("s1", by_id(make_session(params={"a": 1})), make_lease(seconds=SHORT))
    until_it_ran_out(store)
    assert store.heartbeat(make_server(), make_lease("two", "2")) is None
    with pytest.raises(ServerTaken, match="host of two"):
        store.heartbeat(make_server(), make_lease())


def test_an_agent_that_was_killed_and_started_again_goes_on_at_once(store: Store) -> None:
    store.observe("s1", by_id(make_session()), make_lease(instance="1"))
    name = store.observe("s1", by_id(make_session(), make_session(2)), make_lease(instance="2"))
    assert store.edition("s1") == name
    assert running_in(store).keys() == {"s1-1", "s1-2"}


def test_an_agent_that_has_lost_its_name_goes_on_at_once_where_only_one_can_run(
    store: Store,
) -> None:
    store.observe("s1", by_id(make_session()), make_lease("one", "place-1"))
    name = store.observe("s1", by_id(make_session(), make_session(2)), make_lease("two", "place-2"))
    assert store.edition("s1") == name
    held = store.holder("s1")
    assert held is not None and held.holder == "two"
    for holder, instance in (("one", "place-1"), ("three", "other-3"), ("three", "4")):
        with pytest.raises(ServerTaken):
            store.heartbeat(make_server(), make_lease(holder, instance))


def test_agents_without_a_place_are_told_apart_by_their_names(store: Store) -> None:
    store.heartbeat(make_server(), make_lease("one", "1"))
    with pytest.raises(ServerTaken):
        store.heartbeat(make_server(), make_lease("two", "2"))


def test_of_two_agents_that_were_copied_with_their_names_the_later_one_writes(store: Store) -> None:
    store.observe("s1", by_id(make_session(1)), make_lease(instance="1"))
    store.observe("s1", by_id(make_session(2)), make_lease(instance="2"))
    for _ in range(2):
        with pytest.raises(ServerTaken):
            store.observe("s1", by_id(make_session(1)), make_lease(instance="1"))
    assert running_in(store).keys() == {"s1-2"}
    assert store.heartbeat(make_server(), make_lease(instance="2")) == "host of one"


def test_a_process_that_a_restored_store_does_not_know_goes_on_in_place_of_the_one_it_had_replaced(
    store: Store,
) -> None:
    # What a store says that lost the next step
    store.observe("s1", by_id(make_session(1)), make_lease(instance="1"))
    assert store.heartbeat(make_server(), make_lease(instance="2")) is None
    with pytest.raises(ServerTaken):
        store.heartbeat(make_server(), make_lease(instance="1"))
    for instance in range(3, 50):  # restarts within one lease
        store.heartbeat(make_server(), make_lease(instance=str(instance)))
        with pytest.raises(ServerTaken):
            store.heartbeat(make_server(), make_lease(instance=str(instance - 1)))


def test_leases_of_several_servers_do_not_touch_each_other(store: Store) -> None:
    store.heartbeat(make_server("s1"), make_lease("one"))
    store.heartbeat(make_server("s2"), make_lease("two"))
    assert store.heartbeat(make_server("s1"), make_lease("one")) is None
    assert (store.holder("s1"), store.holder("s2")) == (
        Held("one", "host of one", None),
        Held("two", "host of two", None),
    )
    assert store.holder("s3") is None


def test_of_many_agents_that_want_one_lease_at_once_one_gets_it(
    store: Store, url: str, workers: ProcessPoolExecutor
) -> None:
    store.snapshot()
    claims = [workers.submit(_claim, url, f"agent{number}") for number in range(8)]
    won = [claim.result(60) for claim in claims]
    held = store.holder("s1")
    assert held is not None
    assert [holder for holder in won if holder] == [held.holder]


def _claim(url: str, holder: str) -> str | None:
    store = open_store(url)
    lease = make_lease(holder)
    try:
        for number in range(5):
            store.heartbeat(make_server(sessions=number), lease)
    except ServerTaken:
        return None
    finally:
        store.close()
    return holder
