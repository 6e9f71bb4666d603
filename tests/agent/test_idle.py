"""When the last input came, as X servers tell it that behave and that do not. Real ones are in
tests/system."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastx_list.agent.idle import IDLE_SECONDS, LATE_SECONDS, Idle
from fastx_list.agent.x11 import ScreenSize
from tests.agent.test_x11 import geometry_reply, setup_reply

ROOT, OPCODE = 77, 144


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time that it is: since the agent began, and how long the machine had been up then."""
    now = [1000.0, 5000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "clock_gettime", lambda kind: sum(now))
    return now


def extension(number: int, opcode: int = OPCODE, has_it: bool = True) -> bytes:
    return struct.pack("<BxHIBBBB20x", 1, number, 0, has_it, opcode, 90, 140)


def info(number: int, milliseconds: int) -> bytes:
    return struct.pack("<BBHIIIIIB7x", 1, 0, number, 0, 5, 0, milliseconds, 0, 0)


def asked(idle: Idle, milliseconds: int) -> float | None:
    """Ask for the input, which was so long ago, and return since when it is idle."""
    assert idle.request(ROOT) == struct.pack("<BBHI", OPCODE, 1, 2, ROOT)
    idle.take(info(idle._sequence, milliseconds))
    return idle.since


@pytest.fixture
def idle(clocks: list[float]) -> Idle:
    """What an X server tells that has the extension."""
    idle = Idle(asked_before=2)
    assert idle.request(ROOT) == struct.pack("<BxHHxx", 98, 6, 16) + b"MIT-SCREEN-SAVER"
    assert idle.request(ROOT) == b"" and not idle.is_known
    idle.take(extension(3))
    return idle


def test_it_is_asked_once_a_minute(clocks: list[float], idle: Idle) -> None:
    assert asked(idle, 0) is None and idle.is_known
    clocks[0] += IDLE_SECONDS - 1
    assert idle.request(ROOT) == b""
    clocks[0] += 1
    assert asked(idle, 60_000) == sum(clocks) - 60


def test_who_was_there_within_a_minute_uses_it(clocks: list[float], idle: Idle) -> None:
    assert asked(idle, 59_000) is None
    clocks[0] += 60
    assert asked(idle, 119_000) == sum(clocks) - 119
    clocks[0] += 60
    assert asked(idle, 10) is None


def test_the_moment_stays_while_it_is_the_same(clocks: list[float], idle: Idle) -> None:
    since = asked(idle, 100_000)
    for late in (300, -900, 1900):
        clocks[0] += 60
        # The machine has slept as well, which the X server does not count
        clocks[1] += 3600
        passed = round((clocks[0] - 1000) * 1000)
        assert asked(idle, 100_000 + passed + late) == since
    clocks[0] += 60
    assert asked(idle, 70_000) == sum(clocks) - 70


def test_a_count_that_begins_anew_after_49_days_is_no_input(
    clocks: list[float], idle: Idle
) -> None:
    since = asked(idle, 2**32 - 5000)
    clocks[0] += 65
    assert asked(idle, 60_000) == since
    clocks[0] += 60
    assert asked(idle, 120_000) == since


def test_an_answer_that_comes_late_tells_nothing(clocks: list[float], idle: Idle) -> None:
    idle.request(ROOT)
    clocks[0] += LATE_SECONDS + 1
    idle.take(info(idle._sequence, 100_000))
    assert idle.since is None and not idle.is_known
    assert asked(idle, 100_000) == sum(clocks) - 100


@pytest.mark.parametrize(
    "answer", [extension(3, has_it=False), extension(3, opcode=14), struct.pack("<BBH28x", 0, 1, 3)]
)
def test_who_has_no_such_extension_is_not_asked(clocks: list[float], answer: bytes) -> None:
    idle = Idle(asked_before=2)
    idle.request(ROOT)
    idle.take(answer)
    clocks[0] += 1000
    assert idle.request(ROOT) == b"" and idle.since is None and idle.is_known


def test_answers_to_what_was_not_asked_are_none(clocks: list[float], idle: Idle) -> None:
    idle.take(info(4, 100_000))
    idle.request(ROOT)
    for number in (3, 5, 65535):
        idle.take(info(number, 100_000))
    assert idle.since is None and not idle.is_known


def test_it_is_asked_after_the_size_and_is_not_taken_for_it(clocks: list[float]) -> None:
    screen = ScreenSize()
    assert screen.request() == b""
    screen.receive(setup_reply(800, 600, root=ROOT))
    assert screen.request()
    screen.receive(geometry_reply(ROOT, 640, 480) + extension(3))
    assert screen.request()
    # A screen saver's window may be of any number
    screen.receive(struct.pack("<BBHIIIIIB7x", 1, 0, 4, 0, ROOT, 0, 65_000 << 16 | 1, 0, 0))
    assert screen.size == (640, 480) and screen.idle.since is not None


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=20), st.data())
def test_nothing_that_a_server_says_makes_it_anything_but_a_moment_since_its_count_began(
    answers: list[bytes], data: st.DataObject
) -> None:
    idle = Idle(asked_before=2)
    for answer in answers:
        idle._due = 0.0
        idle.request(ROOT)
        number = struct.pack("<H", idle._sequence) if data.draw(st.booleans()) else answer[2:4]
        idle.take(answer[:2] + number + answer[4:])
        now = time.clock_gettime(time.CLOCK_BOOTTIME)
        assert idle.since is None or now - 2**32 / 1000 - 60 < idle.since <= now
