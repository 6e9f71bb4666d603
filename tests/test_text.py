from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.text import ago, amount, duration, printable, size, state

NOW = 1_700_000_000.0


def milliseconds_ago(seconds: float) -> int:
    return round((NOW - seconds) * 1000)


# amount


@pytest.mark.parametrize(
    "count, what, wanted",
    [
        (0, "session", "0 sessions"),
        (1, "session", "1 session"),
        (2, "session", "2 sessions"),
        (1, "process", "1 process"),
        (12, "process", "12 processes"),
    ],
)
def test_an_amount_is_of_one_or_of_several(count: int, what: str, wanted: str) -> None:
    assert amount(count, what) == wanted


# printable


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("startxfce4 --größe 日本 🙂", "startxfce4 --größe 日本 🙂"),
        ("", ""),
        (None, "–"),
        (0, "0"),
        (False, "False"),
        (1.5, "1.5"),
    ],
)
def test_what_can_be_printed_stays_as_it_is(value: object, wanted: str) -> None:
    assert printable(value) == wanted


@pytest.mark.parametrize(
    "character",
    [
        "\n",
        "\r",
        "\t",
        "\0",
        "\b",
        "\x07",
        "\x1b",
        "\x7f",
        "\x9b",
        "\u202e",
        "\u2028",
        "\u200b",
        "\ufeff",
        "\ud800",
        "\ue000",
    ],
    ids=ascii,
)
def test_what_could_steer_a_terminal_is_replaced(character: str) -> None:
    assert printable(f"a{character}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_an_escape_sequence_loses_its_effect() -> None:
    assert printable("\x1b]0;title\x07\x1b[2J") == "\ufffd]0;title\ufffd\ufffd[2J"


@settings(deadline=None)
@given(st.text(st.characters()))
def test_whatever_comes_out_can_be_printed(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    assert len(shown) == len(text)
    assert printable(shown) == shown


# ago


@pytest.mark.parametrize(
    "seconds, wanted",
    [
        (0, "now"),
        (0.999, "now"),
        (1, "1 s ago"),
        (59.999, "59 s ago"),
        (60, "1 min ago"),
        (119.999, "1 min ago"),
        (120, "2 min ago"),
        (3599.999, "59 min ago"),
        (3600, "1 h ago"),
        (3 * 3600, "3 h ago"),
        (86_399.999, "23 h ago"),
        (86_400, "1 d ago"),
        (400 * 86_400, "400 d ago"),
        (NOW, "19675 d ago"),
    ],
)
def test_a_time_is_told_in_the_largest_unit_that_fits(seconds: float, wanted: str) -> None:
    assert ago(milliseconds_ago(seconds), NOW) == wanted


def test_an_unknown_time_is_a_dash() -> None:
    assert ago(None) == ago(None, NOW) == duration(None) == "–"


@pytest.mark.parametrize(
    "seconds, wanted",
    [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7200, "2 h"), (86_400 * 12, "12 d")],
)
def test_a_duration_is_told_in_the_largest_unit_that_fits(seconds: float, wanted: str) -> None:
    assert duration(seconds) == wanted


# size


@pytest.mark.parametrize(
    "count, wanted",
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        (10 * 1024, "10 KiB"),
        (2**20, "1.0 MiB"),
        (8_267_812_864, "7.7 GiB"),
        (2**40, "1.0 TiB"),
        (2**50, "1024 TiB"),
    ],
)
def test_a_number_of_bytes_is_told_in_the_largest_unit_that_fits(count: int, wanted: str) -> None:
    assert size(count) == wanted


@pytest.mark.parametrize("seconds", [-0.001, -1, -3600, -(10**9)])
def test_a_time_to_come_is_now(seconds: float) -> None:
    # Another machine's clock may be ahead of ours.
    assert ago(milliseconds_ago(seconds), NOW) == "now"


def test_without_another_now_it_is_this_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    assert ago(milliseconds_ago(7200)) == "2 h ago"


# state


@pytest.mark.parametrize(
    "clients, wanted",
    [
        (None, "unknown"),
        (1, "connected"),
        (2, "connected (2 clients)"),
        (10, "connected (10 clients)"),
    ],
)
def test_the_state_says_whether_anybody_is_connected(clients: int | None, wanted: str) -> None:
    assert state({"clients": clients, "lastConnect": None, "lastDisconnect": None}) == wanted


def test_a_session_that_somebody_is_connected_to_is_connected_whatever_was_before() -> None:
    assert state({"clients": 1, "lastConnect": 1, "lastDisconnect": 2}) == "connected"


def test_a_session_that_was_left_says_when(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: NOW)
    members: dict[str, object] = {
        "clients": 0,
        "lastConnect": milliseconds_ago(7200),
        "lastDisconnect": milliseconds_ago(180),
    }
    assert state(members) == "disconnected 3 min ago"


def test_a_session_that_nobody_came_to_says_so() -> None:
    assert state({"clients": 0, "lastConnect": None, "lastDisconnect": None}) == "never connected"


def test_a_session_that_somebody_came_to_is_not_called_never_connected() -> None:
    # The source may not have been able to count when the client left.
    assert state(
        {"clients": 0, "lastConnect": 1_700_000_000_000, "lastDisconnect": None}
    ).startswith("disconnected")


@pytest.mark.parametrize("members", [{}, {"clients": None}, {"login": "alice"}])
def test_without_a_number_of_clients_the_state_is_unknown(members: dict[str, object]) -> None:
    assert state(members) == "unknown"
