"""Whom a change concerns."""

from __future__ import annotations

from fastx_list.replica.topics import Change, Everything
from fastx_list.replica.view import Entry

MINE, ANOTHERS = Entry("a", "alice", b"{}"), Entry("a", "bob", b"{}")


def test_a_session_changes_for_its_login_and_for_administrators() -> None:
    for change in (
        Change("a", "alice", MINE, None),
        Change("a", "alice", MINE, MINE),
        Change("a", "alice", None, MINE),
    ):
        assert list(change.by_topic()) == [(Everything.SESSIONS, change), ("alice", change)]


def test_a_session_that_becomes_anothers_has_ended_for_its_first_login() -> None:
    change = Change("a", "bob", ANOTHERS, MINE)
    assert list(change.by_topic()) == [
        ("alice", Change("a", "bob", None, MINE)),
        (Everything.SESSIONS, change),
        ("bob", change),
    ]


def test_a_server_changes_for_nobody_who_follows_sessions() -> None:
    server = Entry("here", "", b"{}")
    change = Change("here", Everything.SERVERS, server, None)
    assert list(change.by_topic()) == [(Everything.SERVERS, change)]
