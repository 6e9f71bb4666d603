"""Of which agent the sessions may have ended."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.chaos.hearing import Hearing

LEASE = 2.0


class Store:
    """A store to which others write all the time, and ``one`` at times."""

    def __init__(self, hearing: Hearing, start: float) -> None:
        self._hearing = hearing
        self.now = start
        self._revision = 0
        self.waited = 0.0  # seconds that its agent has waited for a processor
        self.expires: float | None = start

    def go_on(self, seconds: float, *, beats: bool = False) -> None:
        for _ in range(round(seconds * 10)):
            self.now += 0.1
            self._revision += 1
            if beats:
                self.expires = self.now + LEASE
            self._hearing.take((self._revision, {"one": self.expires}), self.now)


@pytest.fixture
def hearing(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Hearing, Store]]:
    made = Hearing(["one"], LEASE)
    store = Store(made, made._written)
    made._waited_in_all = lambda name: store.waited
    monkeypatch.setattr("tests.chaos.hearing.time.monotonic", lambda: store.now)
    store.go_on(1, beats=True)
    yield made, store


def test_the_end_of_a_lease_is_no_word_of_its_agent(hearing: tuple[Hearing, Store]) -> None:
    listener, store = hearing
    agreed = store.now
    store.go_on(2.3)
    store.expires = None
    store.go_on(0.1)
    assert listener.silence("one") == pytest.approx(2.4)
    listener.forget(agreed)
    store.go_on(0.5)
    assert listener.silence("one") == pytest.approx(2.9)
    store.go_on(0.1, beats=True)
    listener.forget(store.now)
    assert listener.silence("one") == pytest.approx(0.0, abs=0.2)


def test_what_was_silent_after_all_had_agreed_is_not_forgotten(
    hearing: tuple[Hearing, Store],
) -> None:
    listener, store = hearing
    agreed = store.now
    store.go_on(2.3)
    store.go_on(1, beats=True)
    listener.forget(agreed)
    assert listener.silence("one") == pytest.approx(2.4)
    listener.forget(store.now)
    assert listener.silence("one") < 0.5


def test_a_time_in_which_nobody_wrote_is_not_an_agents_own_silence(
    hearing: tuple[Hearing, Store],
) -> None:
    listener, store = hearing
    store.go_on(0.4)
    store.now += 0.7
    store.go_on(0.4)
    assert listener.silence("one") > LEASE / 2
    assert listener.silence_alone("one") < LEASE / 4
    store.go_on(1)
    store.go_on(0.1, beats=True)
    assert listener.silence_alone("one") == pytest.approx(1.4, abs=0.2)


def test_what_was_silent_when_all_agreed_is_not_blamed_for_what_was_before(
    hearing: tuple[Hearing, Store],
) -> None:
    listener, store = hearing
    store.go_on(1)
    listener.forget(store.now)
    store.go_on(0.2)
    store.go_on(0.1, beats=True)
    assert listener.silence("one") > 1
    assert listener.silence_alone("one") < 0.4


def test_of_the_longest_silence_it_is_known_how_long_the_machine_did_not_let_an_agent_run(
    hearing: tuple[Hearing, Store],
) -> None:
    listener, store = hearing
    store.waited = 7.0
    store.go_on(1, beats=True)
    store.go_on(1)
    store.waited += 1.5
    store.go_on(1)
    store.go_on(0.1, beats=True)
    store.waited += 3.0
    store.go_on(1, beats=True)
    assert listener.silence("one") == pytest.approx(2.1)
    assert listener.waited("one") == pytest.approx(1.5)


def test_how_long_an_agent_had_no_processor_since_a_time_is_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, waits = 100.0, iter([5.0, 5.5, 7.0])
    monkeypatch.setattr("tests.chaos.hearing.time.monotonic", lambda: now)
    listener = Hearing(["one"], LEASE)
    for second in range(3):
        now = 100.0 + second
        listener.note_waits(lambda name: next(waits))
    assert [listener.waited_since("one", since) for since in (99.0, 100.0, 101.5, 103.0)] == [
        *(0.0, 2.0, 1.5, 0.0)
    ]
