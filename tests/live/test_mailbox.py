"""A mailbox: what one subscriber is told, and how much is kept for who does not listen."""

from __future__ import annotations

import json

import pytest

from fastx_list.model.query import Filter
from tests.live.mailboxes import (
    ENOUGH,
    IDLE,
    PINK,
    Box,
    clients_in,
    end,
    make_entry,
    messages,
    new,
    put,
    taken,
)


def test_a_new_mailbox_is_empty() -> None:
    assert Box().take(ENOUGH) == []


def test_a_change_arrives_as_the_whole_session() -> None:
    mailbox, entry = Box(), make_entry(clients=1)
    put(mailbox, new(entry))
    assert taken(mailbox) == [("s1", json.loads(entry.text))]


def test_an_end_arrives_as_null() -> None:
    mailbox = Box()
    put(mailbox, end(make_entry()))
    assert taken(mailbox) == [("s1", None)]


def test_what_was_taken_is_not_there_any_more() -> None:
    mailbox = Box()
    put(mailbox, new(make_entry("s1")), new(make_entry("s2")), new(make_entry("s3")))
    assert [name for name, _ in taken(mailbox, 2)] == ["s1", "s2"]
    assert [name for name, _ in taken(mailbox, 2)] == ["s3"]
    assert taken(mailbox, 2) == []


def test_taking_nothing_leaves_everything() -> None:
    mailbox = Box()
    put(mailbox, new(make_entry()))
    assert mailbox.take(0) == []
    assert len(mailbox.take(1)) == 1


def test_only_the_newest_state_of_a_session_is_kept() -> None:
    mailbox = Box()
    put(mailbox, *(new(make_entry(clients=number)) for number in range(5)))
    assert clients_in(mailbox) == [("s1", 4)]


def test_an_end_takes_the_place_of_what_was_before_it() -> None:
    mailbox = Box()
    put(mailbox, new(make_entry(clients=1), make_entry(clients=0)), end(make_entry(clients=1)))
    assert clients_in(mailbox) == [("s1", None)]


def test_a_session_that_comes_back_takes_the_place_of_its_end() -> None:
    mailbox = Box()
    put(mailbox, end(make_entry(clients=1)), new(make_entry(clients=2)))
    assert clients_in(mailbox) == [("s1", 2)]


def test_sessions_come_in_the_order_in_which_they_first_changed() -> None:
    mailbox = Box()
    for name, clients in [("b", 1), ("a", 1), ("c", 1), ("a", 2), ("b", 2)]:
        put(mailbox, new(make_entry(name, clients=clients)))
    assert clients_in(mailbox) == [("b", 2), ("a", 2), ("c", 1)]


def test_a_session_that_changes_after_it_was_taken_goes_to_the_end() -> None:
    mailbox = Box()
    put(mailbox, new(make_entry("a", clients=1)), new(make_entry("b", clients=1)))
    mailbox.take(1)
    put(mailbox, new(make_entry("a", clients=2)))
    assert clients_in(mailbox) == [("b", 1), ("a", 2)]


def test_a_mailbox_holds_no_more_than_one_frame_a_session() -> None:
    mailbox = Box()
    for number in range(1000):
        entry = make_entry(f"s{number % 7}", clients=number)
        put(mailbox, new(entry, make_entry(entry.id)), *([end(entry)] if number % 3 else []))
    assert len(mailbox.take(ENOUGH)) == 7


@pytest.mark.parametrize("filters", [(), IDLE])
def test_nothing_is_kept_of_sessions_that_began_and_ended_unheard_of(
    filters: tuple[Filter, ...],
) -> None:
    mailbox, there = Box(filters), make_entry("there", clients=0)
    mailbox.fill([there], send=False)
    for number in range(1000):
        entry, later = (
            make_entry(f"s{number}", clients=0),
            make_entry(f"s{number}", clients=0, geometry="800x600"),
        )
        put(mailbox, new(entry), new(later, entry), end(later))
    put(mailbox, end(there))
    assert clients_in(mailbox) == [("there", None)]


def test_nothing_is_kept_of_a_session_that_matched_for_a_while_unheard_of() -> None:
    mailbox, busy, idle = Box(IDLE), make_entry(clients=1), make_entry(clients=0)
    put(mailbox, new(busy), new(idle, busy), new(busy, idle), end(busy))
    assert mailbox.take(ENOUGH) == []
    put(mailbox, new(busy), new(idle, busy))
    assert clients_in(mailbox) == [("s1", 0)]
    put(mailbox, end(idle))
    assert clients_in(mailbox) == [("s1", None)]


@pytest.mark.parametrize("filters", [(), IDLE])
def test_an_end_is_told_of_whatever_was_told_before_it(filters: tuple[Filter, ...]) -> None:
    mailbox, entry = Box(filters), make_entry(clients=0)
    put(mailbox, new(entry))
    mailbox.take(1)
    # It comes back before its end was told
    put(mailbox, end(entry), new(entry), end(entry), new(entry))
    assert clients_in(mailbox) == [("s1", 0)]
    put(mailbox, end(entry), new(entry), end(entry))
    assert clients_in(mailbox) == [("s1", None)]


def test_a_session_that_is_unheard_of_is_so_no_longer_once_its_frame_was_taken_among_others() -> (
    None
):
    mailbox, one, other = Box(), make_entry("s1", clients=0), make_entry("s2", clients=0)
    put(mailbox, new(one), new(other))
    assert messages(mailbox.take(1))[0][0] == "s1"
    put(mailbox, end(one), end(other))
    assert clients_in(mailbox) == [("s1", None)]


def test_all_subscribers_share_the_frame() -> None:
    boxes, entry = [Box(), Box(IDLE)], make_entry(clients=0)
    for box in boxes:
        put(box, new(entry))
    assert all(box.take(1)[0] is entry.frame for box in boxes)


def test_it_starts_with_the_sessions_there_are() -> None:
    mailbox, entries = Box(), [make_entry("s1", clients=0), make_entry("s2", clients=1)]
    mailbox.fill(entries, send=True)
    assert clients_in(mailbox) == [("s1", 0), ("s2", 1)]


def test_it_starts_with_those_that_match_only() -> None:
    mailbox = Box(IDLE)
    mailbox.fill([make_entry("s1", clients=0), make_entry("s2", clients=1)], send=True)
    assert clients_in(mailbox) == [("s1", 0)]


@pytest.mark.parametrize("filters", [(), IDLE])
def test_without_a_snapshot_it_starts_with_nothing(filters: tuple[Filter, ...]) -> None:
    mailbox = Box(filters)
    mailbox.fill([make_entry("s1", clients=0), make_entry("s2", clients=1)], send=False)
    assert mailbox.take(ENOUGH) == []


@pytest.mark.parametrize("send", [True, False])
def test_a_session_that_the_subscriber_knows_from_the_start_gets_null_when_it_stops_matching(
    send: bool,
) -> None:
    mailbox = Box(IDLE)
    mailbox.fill([make_entry(clients=0)], send=send)
    mailbox.take(ENOUGH)
    put(mailbox, new(make_entry(clients=1)))
    assert taken(mailbox) == [("s1", None)]


def test_a_session_that_changes_before_the_mailbox_starts_with_it_is_no_new_one() -> None:
    """A snapshot of many sessions is put in part by part; the client may know the rest already."""
    mailbox, before = Box(IDLE), make_entry(clients=0)
    after = make_entry(clients=0, geometry="800x600")
    put(mailbox, new(after, before), end(after))
    assert clients_in(mailbox) == [("s1", None)]


def test_a_change_before_the_snapshot_was_taken_replaces_it() -> None:
    mailbox = Box()
    mailbox.fill([make_entry("s1", clients=0), make_entry("s2", clients=0)], send=True)
    put(mailbox, new(make_entry("s1", clients=5)), end(make_entry("s2")))
    assert clients_in(mailbox) == [("s1", 5), ("s2", None)]


def test_a_session_that_does_not_match_is_not_sent() -> None:
    mailbox = Box(IDLE)
    put(mailbox, new(make_entry(clients=1)), new(make_entry(clients=2)))
    assert mailbox.take(ENOUGH) == []


def test_a_session_that_starts_matching_appears() -> None:
    mailbox = Box(IDLE)
    mailbox.fill([make_entry(clients=1)], send=True)
    put(mailbox, new(make_entry(clients=0)))
    assert clients_in(mailbox) == [("s1", 0)]


def test_a_session_that_goes_on_matching_is_sent_again() -> None:
    mailbox = Box(IDLE)
    put(mailbox, new(make_entry(clients=0)))
    mailbox.take(ENOUGH)
    put(mailbox, new(make_entry(clients=0, geometry="800x600")))
    assert clients_in(mailbox) == [("s1", 0)]


def test_a_session_that_stops_matching_gets_null_once() -> None:
    mailbox = Box(IDLE)
    put(mailbox, new(make_entry(clients=0)))
    mailbox.take(ENOUGH)
    put(mailbox, new(make_entry(clients=1)))
    assert taken(mailbox) == [("s1", None)]
    put(mailbox, new(make_entry(clients=2)))
    put(mailbox, end(make_entry(clients=2)))
    assert mailbox.take(ENOUGH) == []


def test_a_shown_session_that_ends_gets_null() -> None:
    mailbox = Box(IDLE)
    put(mailbox, new(make_entry(clients=0)))
    mailbox.take(ENOUGH)
    put(mailbox, end(make_entry(clients=0)))
    assert taken(mailbox) == [("s1", None)]


def test_the_end_of_a_session_that_was_never_shown_is_not_sent() -> None:
    mailbox = Box(IDLE)
    mailbox.fill([make_entry("s1", clients=1)], send=True)
    put(mailbox, end(make_entry("s1", clients=1)))
    assert mailbox.take(ENOUGH) == []


def test_a_session_may_stop_and_start_matching_as_often_as_it_likes() -> None:
    mailbox = Box(IDLE)
    for number in range(6):
        put(mailbox, new(make_entry(clients=number % 2)))
        assert clients_in(mailbox) == [("s1", None if number % 2 else 0)]


def test_all_filters_have_to_hold() -> None:
    mailbox = Box(PINK)
    mailbox.fill(
        [
            make_entry("s1", colour="blue", clients=0),
            make_entry("s2", clients=1),
            make_entry("s3", clients=0),
        ],
        send=True,
    )
    assert clients_in(mailbox) == [("s3", 0)]
    put(mailbox, new(make_entry("s3", colour="blue", clients=0)), new(make_entry("s1", clients=0)))
    assert clients_in(mailbox) == [("s3", None), ("s1", 0)]
