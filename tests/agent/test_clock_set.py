"""What becomes of the times of sessions when the clock is set."""

from __future__ import annotations

from dataclasses import replace

import pytest

from fastx_list.agent.facts import Facts
from fastx_list.agent.merge import Known
from fastx_list.model.session import Session
from tests.agent.scripted import facts
from tests.agent.test_merge import NOW, SETTLED, X, merged, moment

DAY, HOUR = 86_400_000, 3_600_000


def after_the_clock_was_set(known: Session, now: Facts, set_by: int = 0) -> Session:
    """Return ``known`` as an agent has it that is new, or of which the clock was ``set_by``."""
    before = Known(now if set_by else None, known)
    return merged({X: before}, now, at=moment(set_by=set_by)).known[X].session


@pytest.mark.parametrize("shift", [DAY, -DAY, 2 * HOUR, 2001])
def test_when_the_clock_is_set_all_moments_of_a_session_are_put_right(shift: int) -> None:
    wrong = NOW - 10 * DAY - shift
    [seen] = merged({}, facts(started=wrong)).known.values()
    known = replace(seen.session, last_connect=wrong + 5, last_disconnect=wrong + 7)
    right = replace(
        known,
        started=wrong + shift,
        last_connect=wrong + shift + 5,
        last_disconnect=wrong + shift + 7,
    )
    now = facts(started=wrong + shift)
    assert after_the_clock_was_set(known, now, shift) == right
    assert after_the_clock_was_set(known, now) == right, "a new agent sees it by the start"


def test_what_a_launcher_says_of_the_start_stays_when_the_clock_is_set() -> None:
    [seen] = merged({}, facts()).known.values()
    known = replace(seen.session, last_connect=NOW - DAY)
    right = replace(known, last_connect=NOW - DAY - HOUR)
    assert after_the_clock_was_set(known, facts(), -HOUR) == right


@pytest.mark.parametrize(
    ("clients", "came", "left", "expected"),
    [
        (0, NOW + DAY, NOW - 5, (NOW - 5, NOW - 5)),  # it came before it left
        (1, NOW + DAY, NOW - 5, (NOW, NOW - 5)),
        (0, NOW - 9, NOW + DAY, (NOW - 9, NOW)),
        (0, NOW + DAY, NOW + DAY, (NOW, NOW)),
        (0, NOW + DAY, None, (NOW, None)),
        (0, NOW + 2000, NOW - 5, (NOW + 2000, NOW - 5)),  # whoever adjusts it changes nothing
    ],
)
def test_no_moment_of_an_unknown_clock_is_ahead_of_this_one(
    clients: int, came: int, left: int | None, expected: tuple[int, int | None]
) -> None:
    [seen] = merged({}, facts(clients=clients)).known.values()
    known = replace(seen.session, last_connect=came, last_disconnect=left)
    session = after_the_clock_was_set(known, facts(clients=clients))
    assert (session.last_connect, session.last_disconnect) == expected


def test_a_clock_that_is_adjusted_changes_no_session() -> None:
    seen = facts(started=SETTLED)
    known = merged({}, seen).known
    for by in (2000, -2000, 1):
        later = merged({X: Known(None, known[X].session)}, facts(started=SETTLED + by))
        assert not later.has_changed
