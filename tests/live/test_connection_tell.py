"""News goes straight into the socket: what becomes of it where the socket takes a part, or none."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

import pytest

from fastx_list.live.bus import Bus, News, Told
from fastx_list.live.frames import FramedEntry, session_frame
from tests.live.mailboxes import Reader, make_entry, new
from tests.live.wire import GOING_AWAY, Wire, close_code, fill, is_open, messages, opcodes

NAMES = ("s1", "s2", "s3")
OLD, NEW = b'{"state":"old"}', b'{"state":"new"}'
FRAME = len(session_frame("s1", OLD))


class Socket(socket.socket):
    """A socket that takes so many bytes and no more, or fails."""

    takes: int | OSError = 0

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override]
        if isinstance(self.takes, OSError):
            raise self.takes
        if not self.takes:
            raise BlockingIOError
        taken, self.takes = super().send(data[: self.takes]), 0
        return taken


@contextmanager
def wired(takes: int | OSError) -> Iterator[Wire]:
    """A wire whose socket takes so many bytes of the first news."""
    ours, peer = socket.socketpair()
    ours = Socket(fileno=ours.detach())
    ours.takes = takes
    with closing(Wire(pair=(ours, peer))) as wire:
        for name in NAMES:
            wire.put(name, OLD)
        wire.tell()
        yield wire


@pytest.mark.parametrize("takes", range(3 * FRAME))
def test_what_the_socket_does_not_take_at_once_comes_later_and_only_in_its_newest_state(
    takes: int,
) -> None:
    with wired(takes) as wire:
        for name in NAMES:
            wire.publish(name, NEW)
        begun = -(-takes // FRAME)  # frames that were out in part, or whole
        old = [(name, {"state": "old"}) for name in NAMES[:begun]]
        # What waited keeps its place
        later = [*NAMES[begun:], *NAMES[:begun]]
        assert messages(wire.reads_all()) == [*old, *((name, {"state": "new"}) for name in later)]
        assert wire.watching.callback is None


@pytest.mark.parametrize("takes", range(3 * FRAME))
def test_a_close_finishes_the_frame_that_is_partly_out_and_sends_no_other(takes: int) -> None:
    with wired(takes) as wire:
        wire.connection.close(GOING_AWAY, "the server restarts")
        wire.publish("s4", OLD)
        frames = wire.reads_all()
        assert [name for name, _ in messages(frames)] == list(NAMES[: -(-takes // FRAME)])
        assert close_code(frames) == GOING_AWAY


def test_a_session_that_was_not_sent_and_has_ended_is_not_heard_of() -> None:
    with wired(takes=1) as wire:
        for name in NAMES:
            wire.publish(name, None)
        assert messages(wire.reads_all()) == [("s1", {"state": "old"}), ("s1", None)]


def test_a_connection_whose_socket_fails_ends_and_others_are_told() -> None:
    with wired(OSError(errno.ETIMEDOUT, "timed out")) as wire:
        assert not wire.is_served and wire.watching.callback is None
        bus, reader = Bus(), Reader()
        wire.sessions.clear()
        bus.subscribe("alice", wire.connection)
        bus.subscribe("alice", reader)
        bus.publish([new(make_entry())])
        bus.tell()
        assert reader.told == 1


def test_news_waits_behind_what_waits_already(narrow: Wire) -> None:
    fill(narrow, 20)
    narrow.reads(1)  # the socket may take something again, but its turn has not come
    narrow.publish("last", b"{}")
    assert messages(narrow.reads_all())[-1] == ("last", {})


def test_who_has_said_goodbye_is_told_nothing(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.publish("s1", OLD)
    assert messages(wire.reads_all()) == []


def test_no_news_is_nothing(wire: Wire) -> None:
    wire.connection.tell(News([]))
    assert is_open(wire) and len(opcodes(wire.reads_all())) == 1


@pytest.mark.parametrize("deflated", [False, True])
def test_the_rest_of_news_is_all_that_is_not_out(deflated: bool) -> None:
    told = [Told(name, FramedEntry(name, "alice", OLD * 9), True) for name in NAMES]
    news = News([*told, Told("s4", session_frame("s4", None), True)])
    data = news.deflated if deflated else news.data
    assert (len(news.deflated) < len(news.data) / 2) and news.told[3].deflated in data
    for sent in range(len(data) + 1):
        rest, owed = news.after(sent, deflated)
        frames = [each.deflated if deflated else each.frame for each in owed]
        assert bytes(rest or b"") + b"".join(frames) == data[sent:]
        assert rest is None or owed == news.told[len(news.told) - len(owed) :]
