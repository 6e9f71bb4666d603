"""What a replica knows of who was away: what has changed since, and when nobody can tell that."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from fastx_list.replica import trail
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.trail import Missed
from fastx_list.replica.view import Entry
from fastx_list.store import REFILL_SECONDS, Store
from tests.replica.stores import Wrapped, beat, numbered, observe, remove_database

NOTHING = Missed([], [])


def missed(replica: Replica[Entry], topic: Topic, revision: str) -> Missed | None:
    return replica.trail.missed(topic, revision, replica.entries(topic))


def test_what_has_changed_and_what_has_ended_since_is_known(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1), numbered(2), numbered(3), numbered(4, "bob"))
    replica.follow(0)
    before = replica.trail.revision("alice")
    assert missed(replica, "alice", before) == NOTHING
    observe(agent, numbered(1, clients=1), numbered(3), numbered(4, "bob"), numbered(5))
    replica.follow(0)
    after = replica.trail.revision("alice")
    assert missed(replica, "alice", before) == Missed(["s2"], ["s1", "s5"])
    assert missed(replica, "alice", after) == NOTHING
    assert missed(replica, "bob", before) == NOTHING
    assert missed(replica, Everything.SESSIONS, before) == Missed(["s2"], ["s1", "s5"])


def test_a_revision_says_nothing_of_what_others_have(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1), numbered(2, "bob"))
    replica.follow(0)
    before = replica.trail.revision("alice")
    for clients in range(1, 4):
        observe(agent, numbered(1), numbered(2, "bob", clients=clients))
        replica.follow(0)
        assert replica.trail.revision("alice") == replica.trail.revision("carol") == before
    seen = replica.trail.revision("bob")
    assert missed(replica, "alice", before) == NOTHING
    assert missed(replica, "alice", seen) == NOTHING  # which is nobody's secret
    assert seen not in (before, replica.trail.revision(Everything.SERVERS))


def test_a_session_that_changes_its_login_ends_for_the_former(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1))
    replica.follow(0)
    before = replica.trail.revision("alice")
    observe(agent, numbered(1, "bob"))
    replica.follow(0)
    assert missed(replica, "alice", before) == Missed(["s1"], [])
    assert missed(replica, "bob", before) == Missed([], ["s1"])
    assert missed(replica, Everything.SESSIONS, before) == Missed([], ["s1"])


def test_what_ended_and_came_back_has_changed(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1))
    replica.follow(0)
    before = replica.trail.revision("alice")
    observe(agent)
    replica.follow(0)
    assert missed(replica, "alice", before) == Missed(["s1"], [])
    observe(agent, numbered(1))
    replica.follow(0)
    assert missed(replica, "alice", before) == Missed([], ["s1"])


def test_machines_are_missed_like_sessions(agent: Store, replica: Replica[Entry]) -> None:
    beat(agent)
    replica.follow(0)
    before = replica.trail.revision(Everything.SERVERS)
    beat(agent, "other")
    replica.follow(0)
    assert missed(replica, Everything.SERVERS, before) == Missed([], ["other"])
    assert missed(replica, Everything.SESSIONS, before) == NOTHING


def test_steps_that_came_at_once_are_all_known(agent: Store, replica: Replica[Entry]) -> None:
    observe(agent, numbered(1))
    other = Replica(replica._store, Entry)
    replica.follow(0)
    for clients in range(1, 4):
        observe(agent, numbered(1, clients=clients))
        other.follow(0)
        if clients == 2:
            between = other.trail.revision("alice")
    replica.follow(0)
    assert missed(replica, "alice", between) == Missed([], ["s1"])
    assert replica.trail.revision("alice") == other.trail.revision("alice") != between


def test_what_was_otherwise_between_two_steps_is_told_to_who_saw_it_so(
    agent: Store, replica: Replica[Entry]
) -> None:
    observe(agent, numbered(1, clients=1))
    beat(agent, "quiet", logged_in_users=1)
    other = Replica(replica._store, Entry)
    replica.follow(0)
    other.follow(0)
    observe(agent, numbered(1, clients=2), numbered(2))
    beat(agent, "quiet", logged_in_users=2)
    other.follow(0)
    topics = "alice", Everything.SERVERS
    between = {topic: other.trail.revision(topic) for topic in topics}
    observe(agent, numbered(1, clients=1))
    beat(agent, "quiet", logged_in_users=1)
    assert replica.follow(0) == []
    assert missed(replica, "alice", between["alice"]) == Missed(["s2"], ["s1"])
    assert missed(replica, Everything.SERVERS, between[Everything.SERVERS]) == Missed([], ["quiet"])
    observe(agent, numbered(1, clients=1), numbered(3))
    replica.follow(0)
    assert missed(replica, "alice", replica.trail.revision("alice")) == NOTHING


@pytest.mark.parametrize("revision", ["", "0", "no such", "é\0", "f" * 256])
def test_what_is_no_revision_is_not_known(
    agent: Store, replica: Replica[Entry], revision: str
) -> None:
    observe(agent, numbered(1))
    replica.follow(0)
    assert missed(replica, "alice", revision) is None


def test_another_store_knows_no_revision_of_the_former(
    agent: Store, database: Path, replica: Replica[Entry], clock: SimpleNamespace
) -> None:
    observe(agent, numbered(1))
    replica.follow(0)
    before = [replica.trail.revision(topic) for topic in ("alice", "bob")]
    agent.close()
    replica._store.close()  # type: ignore[attr-defined]
    remove_database(database)
    observe(agent, numbered(1))
    clock.now += REFILL_SECONDS
    replica.follow(0)
    assert replica.problem is None
    for topic in ("alice", "bob"):
        assert [missed(replica, topic, revision) for revision in before] == [None, None]
        assert missed(replica, topic, replica.trail.revision(topic)) == NOTHING


def test_what_is_kept_is_bounded(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "MAX_STEPS", 4)
    monkeypatch.setattr(trail, "MAX_ENDS_OF_LOGIN", 4)
    observe(agent, numbered(0, "bob"))
    replica.follow(0)
    first = quiet = replica.trail.revision("bob")
    for clients in range(5):  # too many steps
        observe(agent, numbered(0, "bob"), numbered(1, clients=clients))
        replica.follow(0)
    assert missed(replica, "alice", first) is None
    assert missed(replica, "bob", quiet) == NOTHING  # it is what bob has still
    before = replica.trail.revision("alice")
    many = [numbered(number) for number in range(2, 8)]
    observe(agent, numbered(0, "bob"), *many)
    replica.follow(0)
    between = replica.trail.revision("alice")
    observe(agent, numbered(0, "bob"))  # too many ends
    replica.follow(0)
    assert missed(replica, "alice", before) is None
    assert missed(replica, "alice", between) is None
    assert missed(replica, "bob", between) == NOTHING
    assert len(missed(replica, Everything.SESSIONS, between).ended) == 6  # type: ignore[union-attr]


def test_very_many_logins_are_forgotten_without_a_mistake(
    agent: Store, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "MAX_ORIGINS", 3)
    observe(agent, numbered(0, "bob"))
    replica.follow(0)
    before = replica.trail.revision("bob")
    for number in range(5):
        observe(agent, numbered(number, f"user{number}"))
        replica.follow(0)
    assert missed(replica, "bob", before) in (None, Missed(["s0"], []))
    assert missed(replica, "bob", replica.trail.revision("bob")) == NOTHING


def test_what_comes_in_parts_has_its_revision_once_it_is_whole(
    agent: Store, store: Wrapped, replica: Replica[Entry], monkeypatch: pytest.MonkeyPatch
) -> None:
    observe(agent, numbered(0))
    replica.follow(0)
    before = replica.trail.revision("alice")
    observe(agent, *(numbered(number) for number in range(3000)))
    replica.follow(0)
    assert replica.trail.revision("alice") == before
    found = missed(replica, "alice", before)
    assert found is not None and len(found.changed) == len(replica.entries("alice")) - 1
    while len(replica.entries("alice")) < 3000:
        replica.follow(0)
    assert replica.trail.revision("alice") != before
    found = missed(replica, "alice", before)
    assert found is not None and len(found.changed) == 2999
