"""Finished answers: what they say, and which of them are kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from fastx_list.model import query as query_module
from fastx_list.model.query import Filter, Query
from fastx_list.replica import pages as pages_module
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import Entry, View
from fastx_list.store import Store
from tests.replica.stores import ALL, Wrapped, entry_of, listed, numbered, observe


def test_a_page_is_the_array_of_the_logins_sessions(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(2), numbered(1), numbered(3, "bob"))
    replica.refresh()
    page = replica.page("alice", ALL)
    assert page.body == b"[" + entry_of(numbered(1)).text + b"," + entry_of(numbered(2)).text + b"]"
    assert page.total == 2


def test_a_page_is_filtered_sorted_and_cut_as_its_query_says(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, *(numbered(number, clients=number % 2) for number in range(6)))
    replica.refresh()
    idle = Filter("clients", frozenset({"0"}))
    query = Query(sort_by="started", sort_reverse=True, start=1, limit=1, filters=(idle,))
    assert listed(replica, "alice", query) == ["s2"]
    assert replica.page("alice", query).total == 3


def test_the_same_question_is_answered_with_the_same_bytes(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1))
    replica.refresh()
    page = replica.page("alice", Query(limit=5))
    replica.refresh()
    assert replica.page("alice", Query(limit=5)).body is page.body
    assert replica.page("alice", Query(limit=6)).body is not page.body


@pytest.mark.parametrize("change", ["new", "changed", "params", "ended"])
def test_a_change_of_a_session_makes_a_new_page(
    agent: Store, replica: Replica[Entry], change: str
) -> None:
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    before = replica.page("alice", ALL)
    if change == "params":
        agent.set_params("s1", "alice", {"a": 1})
    else:
        states = {
            "new": [numbered(1), numbered(2), numbered(3)],
            "changed": [numbered(1), numbered(2, clients=1)],
            "ended": [numbered(1)],
        }
        observe(agent, *states[change])
    replica.refresh()
    after = replica.page("alice", ALL)
    assert after.body != before.body
    assert after.etag != before.etag
    assert sorted(json.loads(after.body), key=_id) == sorted(
        (json.loads(str(record.text)) for record in agent.snapshot().records), key=_id
    )


def _id(members: Mapping[str, Any]) -> str:
    return str(members["id"])


def test_a_change_of_another_logins_session_keeps_the_page(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1), numbered(2, "bob"))
    replica.refresh()
    page, empty = replica.page("alice", ALL), replica.page("carol", ALL)
    observe(agent, numbered(1), numbered(2, "bob", clients=1), numbered(3, "bob"))
    replica.refresh()
    assert replica.page("alice", ALL).body is page.body
    observe(agent, numbered(1))
    replica.refresh()
    assert replica.page("alice", ALL).body is page.body
    assert replica.page("carol", ALL).body is empty.body
    assert replica.page("bob", ALL).body == b"[]"


def test_a_change_of_a_session_that_does_not_pass_the_filters_keeps_the_page(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    idle = Query(filters=(Filter("clients", frozenset({"0"})),))
    observe(agent, numbered(1, clients=0), numbered(2, clients=1))
    replica.refresh()
    page = replica.page("alice", idle)
    for clients in (2, 3):
        observe(agent, numbered(1, clients=0), numbered(2, clients=clients))
        replica.refresh()
        assert replica.page("alice", idle).body is page.body
    monkeypatch.delattr(View, "narrow")  # nor is anything filtered to know that
    assert replica.page("alice", idle).body is page.body


def test_a_login_without_sessions_has_an_empty_page_also_after_it_had_some(
    agent: Store, replica: Replica[Entry]
) -> None:
    replica.refresh()
    empty = replica.page("alice", ALL)
    assert (empty.body, empty.total) == (b"[]", 0)
    observe(agent, numbered(1))
    replica.refresh()
    assert listed(replica, "alice") == ["s1"]
    observe(agent)
    replica.refresh()
    assert replica.page("alice", ALL) == empty
    observe(agent, numbered(2))
    replica.refresh()
    assert listed(replica, "alice") == ["s2"]


def test_the_etag_is_the_same_as_long_as_body_and_total_are(
    agent: Store, store: Wrapped, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    page = replica.page("alice", ALL)
    observe(agent, numbered(1), numbered(2, clients=1))
    replica.refresh()
    assert replica.page("alice", ALL).etag != page.etag
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    assert replica.page("alice", ALL) == page  # back where it was, though written twice since
    other = Replica(store, Entry)
    other.refresh()
    assert other.page("alice", ALL) == page  # as every worker process says it


def test_questions_with_the_same_answer_have_the_same_etag(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    assert (
        replica.page("alice", Query(limit=2)).etag
        == replica.page("alice", Query(sort_by="id")).etag
    )


def test_the_etag_changes_with_the_total_alone(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1))
    replica.refresh()
    before = replica.page("alice", Query(limit=1))
    observe(agent, numbered(1), numbered(2))
    replica.refresh()
    after = replica.page("alice", Query(limit=1))
    assert after.body == before.body
    assert (before.total, after.total) == (1, 2)
    assert after.etag != before.etag


def _is_kept(replica: Replica[Entry], query: Query) -> bool:
    return replica.page("alice", query).body is replica.page("alice", query).body


def test_pages_are_kept_up_to_so_many_bytes(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(agent, numbered(1, command="x" * 1000))
    replica.refresh()
    size = len(replica.page("alice", ALL).body) + ALL.size
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES", 3 * size)
    first = [replica.page("alice", Query(limit=limit)).body for limit in range(1, 4)]
    # Three fit, so asking for the three again makes none of them anew.
    assert all(
        replica.page("alice", Query(limit=limit + 1)).body is first[limit] for limit in range(3)
    )
    for limit in range(4, 20):
        replica.page("alice", Query(limit=limit))
    assert all(
        replica.page("alice", Query(limit=limit + 1)).body is not first[limit] for limit in range(3)
    )


def test_pages_kept_do_not_grow_without_end(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES", 50_000)
    monkeypatch.setattr(pages_module, "MAX_PAGES", 20)
    made = 0
    for round_number in range(30):
        observe(
            agent,
            *(
                numbered(number, clients=round_number, command="x" * 100 * number)
                for number in range(8)
            ),
        )
        replica.refresh()
        for limit in range(8):
            replica.page("alice", Query(limit=limit))
            made += 1
        pages = [page for share in replica._pages._shares.values() for page in share.pages.values()]
        assert len(pages) == replica._pages._count <= 20
        assert sum(len(kept.page.body) for kept in pages) <= 50_000
        assert replica._pages._bytes == sum(kept.size for kept in pages) <= 50_000
    assert made == 240


def test_long_questions_count_as_much_as_long_answers(
    replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    replica.refresh()
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES", 1_000_000)
    for number in range(50):
        values = frozenset(f"{number}-{value}" for value in range(1000))
        assert replica.page("nobody", Query(filters=(Filter("command", values),))).body == b"[]"
    assert replica._pages._count < 10


def test_many_filters_in_turn_are_answered_from_memory(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, *(numbered(number) for number in range(20)))
    replica.refresh()
    questions = [
        Query(filters=(Filter("started", frozenset({str(number)})),)) for number in range(20)
    ]
    first = [replica.page("alice", question) for question in questions]
    assert all(
        replica.page("alice", question) is page
        for question, page in zip(questions, first, strict=True)
    )
    observe(agent, *(numbered(number, clients=5 if number == 3 else None) for number in range(20)))
    replica.refresh()
    again = [
        replica.page("alice", question).body == page.body
        for question, page in zip(questions, first, strict=True)
    ]
    assert again.index(False) == 3 and again.count(False) == 1


def test_no_more_than_so_many_pages_are_kept(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGES", 2)
    observe(agent, numbered(1))
    replica.refresh()
    bodies = [replica.page("alice", Query(limit=limit)).body for limit in (1, 2, 3)]
    assert replica.page("alice", Query(limit=3)).body is bodies[2]
    assert replica.page("alice", Query(limit=2)).body is bodies[1]
    assert replica.page("alice", Query(limit=1)).body is not bodies[0]


def test_a_page_that_alone_is_too_big_is_answered_all_the_same(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES", 10)
    observe(agent, numbered(1))
    replica.refresh()
    assert listed(replica, "alice") == ["s1"]
    assert listed(replica, "alice", Query(limit=3)) == ["s1"]


def test_the_newest_page_is_kept_however_big_it_is(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES", 10)
    observe(agent, numbered(1))
    replica.refresh()
    first = replica.page("alice", ALL)
    assert replica.page("alice", ALL).body is first.body
    replica.page("alice", Query(limit=3))  # takes its place
    assert replica.page("alice", ALL).body is not first.body


def test_the_pages_of_one_login_leave_those_of_others(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pages_module, "MAX_PAGES", 20)
    monkeypatch.setattr(pages_module, "MAX_PAGES_OF_LOGIN", 10)
    monkeypatch.setattr(pages_module, "MAX_PAGES_BYTES_OF_LOGIN", 20_000)
    observe(agent, numbered(1), numbered(2, "mallory"), numbered(3, "eve", command="x" * 5000))
    replica.refresh()
    pages = [replica.page("alice", Query(limit=limit)) for limit in range(5)]
    for limit in range(100):
        replica.page("mallory", Query(limit=limit))
        replica.page("eve", Query(limit=limit))
    assert all(replica.page("alice", Query(limit=each)) is pages[each] for each in range(5))
    assert len(replica._pages._shares["mallory"].pages) == 10
    assert replica._pages._shares["eve"].size <= 20_000
    assert replica._pages._bytes == sum(each.size for each in replica._pages._shares.values())


def _ask_all(replica: Replica[Entry], topic: Topic) -> None:
    """Have a topic filtered and sorted in all ways that are kept."""
    for number in range(9):
        filters = (Filter("nothing", frozenset({"", str(number)})),) if number else ()
        for order in range(8):
            replica.page(topic, Query(sort_by=f"name{order}", limit=1, filters=filters))


def test_what_is_sorted_and_filtered_is_bounded_for_a_login_and_for_all(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    logins = [f"login{number}" for number in range(10)]
    observe(agent, *(numbered(n, logins[n % 10]) for n in range(1000)))
    replica.refresh()
    monkeypatch.setattr(pages_module, "MAX_SORTED_BYTES_OF_LOGIN", 300_000)
    monkeypatch.setattr(pages_module, "MAX_SORTED_BYTES", 1_000_000)
    for login in logins:
        _ask_all(replica, login)
        assert 100_000 < replica._views[login].size <= 300_000
        assert sum(view.size for view in replica._views.values()) <= 1_000_000
    assert replica._pages._sorted_bytes > 500_000
    _ask_all(replica, Everything.SESSIONS)  # an administrator may take all there is
    assert 300_000 < replica._views[Everything.SESSIONS].size <= 1_000_000
    observe(agent)
    replica.refresh()
    assert set(replica._pages._sorted) <= set(replica._views.values())


def test_a_change_costs_nothing_before_its_login_asks_again(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = [numbered(number, "mallory", clients=0) for number in range(100)]
    observe(agent, numbered(1000), *sessions)
    replica.refresh()
    _ask_all(replica, "mallory")
    looks: list[str] = []
    monkeypatch.setattr(Entry, "value", lambda entry, name: looks.append(name))
    monkeypatch.setattr(query_module, "look_up", lambda members, name: looks.append(name))
    observe(agent, numbered(1000), *sessions[1:], numbered(0, "mallory", clients=1))
    replica.refresh()
    assert looks == []
    replica.page("alice", ALL)
    assert looks == ["started"]  # of alice's own session
