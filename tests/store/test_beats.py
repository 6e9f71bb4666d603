"""What a reader makes of the renewals that it sees."""

from __future__ import annotations

import math

import pytest

from fastx_list.store.beats import LATE, MAX_PAUSE, Beats, Renewal


def test_a_lease_runs_out_by_the_readers_clock_unless_it_is_seen_renewed() -> None:
    beats = Beats()
    beats.look([Renewal("s1", "a", 60, 0)], 100)
    beats.look([Renewal("s1", "a", 60, 0)], 159.9)
    assert list(beats.overdue) == []
    beats.look([Renewal("s1", "a", 60, 0)], 160)
    assert list(beats.overdue) == ["s1"]
    beats.look([Renewal("s1", "b", 60, 0)], 161)
    assert list(beats.overdue) == []


def test_what_is_seen_for_the_first_time_is_as_old_as_the_store_says() -> None:
    beats = Beats()
    beats.look([Renewal("old", "a", 60, 60), Renewal("new", "a", 60, 59)], 100)
    assert list(beats.overdue) == ["old"]
    beats.look([Renewal("old", "a", 60, 0), Renewal("new", "a", 60, 0)], 101)
    assert list(beats.overdue) == ["old", "new"]


@pytest.mark.parametrize("age", [3600, math.inf])
def test_a_renewal_is_no_older_than_the_look_before(age: float) -> None:
    """The clock of the store may have been set."""
    beats = Beats()
    beats.look([Renewal("s1", "a", 60, 0)], 100)
    beats.look([Renewal("s1", "b", 60, age)], 150)
    assert list(beats.overdue) == []
    beats.look([Renewal("s1", "b", 60, age)], 160)
    assert list(beats.overdue) == ["s1"]


def test_a_clock_that_was_set_back_makes_nothing_younger_than_now() -> None:
    beats = Beats()
    beats.look([Renewal("s1", "a", 60, -3600)], 100)
    beats.look([Renewal("s1", "a", 60, -3600)], 160)
    assert list(beats.overdue) == ["s1"]


def test_it_looks_again_when_a_renewal_is_late_and_when_a_lease_runs_out() -> None:
    beats = Beats()
    assert beats.next_look == -math.inf
    beats.look([Renewal("s1", "a", 60, 10), Renewal("s2", "a", 600, 0)], 100)
    assert (beats.is_late, beats.next_look) == (False, 90 + 60 * LATE)
    beats.look([Renewal("s1", "a", 60, 10), Renewal("s2", "a", 600, 0)], 149.5)
    assert (beats.is_late, beats.next_look) == (True, 150)
    beats.look([Renewal("s1", "a", 60, 10), Renewal("s2", "a", 600, 0)], 150)
    assert (beats.is_late, beats.next_look) == (True, 150 + MAX_PAUSE)
    beats.look([Renewal("s2", "a", 600, 0)], 151)
    assert (beats.is_late, list(beats.overdue), beats.next_look) == (False, [], 100 + 600 * LATE)
    beats.look([], 200)
    assert beats.next_look == math.inf
    beats.expect_news()
    assert beats.next_look == -math.inf


def test_who_has_not_written_all_lives_and_vouches_for_nothing() -> None:
    beats = Beats()
    beats.look([Renewal("s1", "a", 60, 0, is_whole=False)], 100)
    assert beats.renewed == {} and beats.overdue == ()
    beats.look([Renewal("s1", "b", 60, 0)], 110)
    assert beats.renewed == {"s1": 110}
