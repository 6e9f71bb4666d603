"""Who gives occasion without end is not heard without end, and keeps nobody else from it."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fastx_list.agent import occasions as module
from fastx_list.agent import traffic
from fastx_list.agent.ends import Ends
from fastx_list.agent.heard import Heard
from fastx_list.agent.look import Seen
from fastx_list.agent.occasions import ALL_SECONDS, ALL_SHARE, LOGIN_SECONDS, LOGIN_SHARE, Occasions
from fastx_list.agent.signs import Change
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.x11 import socket_path
from fastx_list.model.session import Start
from tests.hostile.forging import acting_as
from tests.system.sessions import User, free_display

HOSTILE, QUIET = 60_001, 60_002
LOOK_SECONDS = 0.02  # of processor time, that each look takes here
NOTHING = Seen([], None, None, True, set(), set(), (), Start(), {}, 0.0)


class Time:
    """Goes on only as a test says."""

    def __init__(self) -> None:
        self.now, self.spent = 1000.0, 0.0
        self.looks = 0

    def look(self, occasions: Occasions, seen: Seen = NOTHING) -> None:
        occasions.begin()
        self.looks += 1
        self.spent += LOOK_SECONDS
        occasions.follow(seen)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    clock = Time()
    monkeypatch.setattr(time, "monotonic", lambda: clock.now)
    monkeypatch.setattr(time, "process_time", lambda: clock.spent)
    return clock


@pytest.fixture
def happens(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Says what happens whenever that is asked: ``happens(uid, uid)``."""
    changes: set[Change] = set()
    monkeypatch.setattr(Ends, "changes", lambda self: set(changes))

    def happens(*uids: int | None) -> None:
        changes.clear()
        changes.update(Change("something", uid) for uid in uids)

    yield happens


@pytest.fixture
def occasions() -> Iterator[Occasions]:
    occasions = Occasions(0)
    occasions._woken = [(0, 0)]  # so that ends are asked for
    yield occasions
    occasions.close()


def test_who_never_has_time_enough_is_looked_at_again_a_few_times_only(
    clock: Time, occasions: Occasions, happens: Callable[..., None]
) -> None:
    late = NOTHING._replace(late={HOSTILE})
    clock.look(occasions, late)
    assert not occasions.is_due()  # that look was made anyway
    happens(HOSTILE)
    assert occasions.is_due()
    happens()
    clock.look(occasions, late)
    for _ in range(module.MAX_AGAIN):
        assert occasions.is_due()
        clock.look(occasions, late)
    assert not occasions.is_due()


@pytest.mark.parametrize("whose", [HOSTILE, None], ids=["a login", "nobody knows whose"])
def test_occasions_without_end_are_heard_for_a_share_of_the_time(
    clock: Time, occasions: Occasions, happens: Callable[..., None], whose: int | None
) -> None:
    clock.look(occasions)
    happens(whose)
    for _ in range(round(60 / module.ASK_SECONDS)):
        clock.now += module.ASK_SECONDS
        if occasions.is_due():
            clock.look(occasions)
    assert clock.looks * LOOK_SECONDS <= LOGIN_SECONDS + 60 * LOGIN_SHARE + 2 * LOOK_SECONDS
    assert clock.looks * LOOK_SECONDS >= 60 * LOGIN_SHARE


def test_another_login_is_heard_at_once_meanwhile(
    clock: Time, occasions: Occasions, happens: Callable[..., None]
) -> None:
    clock.look(occasions)
    heard = 0
    for second in range(60):
        for _ in range(round(1 / module.ASK_SECONDS) - 1):
            happens(HOSTILE, None)
            clock.now += module.ASK_SECONDS
            if occasions.is_due():
                clock.look(occasions)
        happens(HOSTILE, None, QUIET)
        clock.now += module.ASK_SECONDS
        assert occasions.is_due(), second
        heard += Change("something", QUIET) in occasions.causes
        clock.look(occasions)
    assert heard == 60


def test_many_logins_together_are_heard_for_a_share_as_well(
    clock: Time, occasions: Occasions, happens: Callable[..., None]
) -> None:
    clock.look(occasions)
    happens(*range(HOSTILE, HOSTILE + 100))
    for _ in range(round(60 / module.ASK_SECONDS)):
        clock.now += module.ASK_SECONDS
        if occasions.is_due():
            clock.look(occasions)
    assert clock.looks * LOOK_SECONDS <= ALL_SECONDS + 60 * ALL_SHARE + 2 * LOOK_SECONDS


def test_what_was_not_heard_is_seen_by_the_look_that_comes_anyway(
    clock: Time, occasions: Occasions, happens: Callable[..., None]
) -> None:
    clock.look(occasions)
    happens(HOSTILE)
    while occasions.is_due():
        clock.look(occasions)
    happens()
    assert not occasions.is_due()
    clock.look(occasions)
    clock.now += 3600
    assert not occasions.is_due()


def test_who_connects_without_end_leaves_time_to_ask_for_others(clock: Time) -> None:
    heard = Heard()
    watching = traffic.Traffic()
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def look() -> None:
            watching.begin()
            sockets = Sockets(heard=heard)
            sockets.tcp_clients(port)
            watching.follow(sockets.signs)

        look()
        noticed = 0
        for _ in range(300):
            clock.now += module.ASK_SECONDS
            with socket.create_connection(server.getsockname()) as one, server.accept()[0]:
                one.send(b"x")
                if watching.changes():
                    noticed += 1
                    look()
        # However long the kernel takes: what was spent is no more than may be
        assert noticed > 0 and watching.problem is None
        with socket.create_connection(server.getsockname()) as one, server.accept()[0]:
            one.send(b"x")
            clock.now += 3600
            assert {each.what for each in watching.changes()} >= {"a client that has come"}
    watching.close()


def test_what_has_happened_to_who_was_left_out_of_a_look_is_an_occasion_after_it(
    clock: Time, occasions: Occasions, happens: Callable[..., None]
) -> None:
    happens(QUIET)
    assert occasions.is_due() and occasions.made_for == {QUIET}
    occasions._happened.add(Change("something", HOSTILE))
    happens()
    clock.look(occasions, NOTHING._replace(left_out={HOSTILE}))
    assert occasions.is_due() and occasions.made_for == {HOSTILE}
    clock.look(occasions)
    assert not occasions.is_due()


def test_a_new_x_server_is_told_at_once_though_another_has_used_up_the_time_for_asking(
    clock: Time, occasions: Occasions, users: list[User]
) -> None:
    hostile, quiet, _ = users
    path = socket_path(free_display())
    Path(path).parent.mkdir(mode=0o1777, exist_ok=True)
    watching, sockets = occasions._traffic, Sockets()
    sockets.unix_listeners_at(re.compile(re.escape(path)))
    clock.look(occasions, NOTHING._replace(signs=sockets.signs))
    with ExitStack() as stack, socket.socket(socket.AF_UNIX) as server:
        while watching._account.left >= watching._cost:
            with acting_as(hostile):
                stack.enter_context(socket.socket())
            assert not occasions.is_due()
        with acting_as(quiet):
            server.bind(path)
            stack.callback(Path(path).unlink)
            server.listen()
        assert occasions.is_due() and occasions.made_for == {quiet.ids[0]}


def test_who_makes_names_without_end_does_not_wake_us_without_end(
    occasions: Occasions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(module, "ASK_SECONDS", 3600.0)
        occasions.begin()
        path = Path(socket_path(free_display()))
        woken = 0
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as server:
                server.bind(str(path))
            path.unlink()
            occasions.rest(0.01)
            woken += bool(occasions._woken)
        assert woken == 1
