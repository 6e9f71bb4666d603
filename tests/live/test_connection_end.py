"""How a connection ends, whoever ends it."""

from __future__ import annotations

import json
import random
import select
import socket
import struct
from contextlib import closing
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from fastx_list.live.connection import CLOSE_SECONDS
from tests.live.wire import (
    GOING_AWAY,
    INTERVAL,
    Wire,
    client,
    client_close,
    close_code,
    closes,
    fill,
    messages,
    opcodes,
    parse,
    text_of,
)


def test_a_close_says_its_code_and_reason(wire: Wire) -> None:
    wire.connection.close(4401, "the token has expired")
    assert closes(wire.reads_all()) == [Close(4401, "the token has expired")]


def test_what_is_out_before_the_close_arrives_before_it(wire: Wire) -> None:
    wire.publish("s1", b"{}")
    wire.connection.close(GOING_AWAY, "")
    assert opcodes(wire.reads_all()) == [Opcode.TEXT, Opcode.CLOSE]


def test_nothing_is_sent_after_a_close(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.publish("s1", b"{}")
    wire.sends(client(Opcode.PING, b"x"), client(Opcode.TEXT, b"x" * 2000))
    wire.tend(INTERVAL)
    wire.connection.close(4401, "")
    assert close_code(wire.reads_all()) == GOING_AWAY


def test_a_frame_that_is_partly_out_is_finished_before_the_close(narrow: Wire) -> None:
    big = text_of(100_000)
    narrow.publish("s1", big)
    assert narrow.watching.callback is not None
    narrow.publish("s2", b"{}")
    narrow.connection.close(GOING_AWAY, "")
    narrow.publish("s3", b"{}")
    frames = narrow.reads_all()
    assert messages(frames) == [("s1", json.loads(big))]  # what stood behind it is obsolete
    assert close_code(frames) == GOING_AWAY


def test_what_is_queued_behind_a_frame_that_is_partly_out_is_not_sent_any_more(
    narrow: Wire,
) -> None:
    for name in ("s1", "s2", "s3"):
        narrow.put(name, text_of(100_000))
    narrow.tell()
    narrow.connection.close(GOING_AWAY, "")
    assert opcodes(narrow.reads_all()) == [Opcode.TEXT, Opcode.CLOSE]


@pytest.mark.parametrize("seed", range(10))
def test_a_close_to_a_full_socket_waits_for_its_turn(seed: int) -> None:
    choose = random.Random(seed)
    with closing(Wire(send_buffer=choose.choice([1, 3000, 9000]))) as wire:
        fill(wire, choose.randint(30, 100), choose.randint(500, 3000))
        for _ in range(choose.randint(0, 20)):
            wire.reads(choose.randint(1, 5000))
            wire.lets_it_write()
        wire.connection.close(GOING_AWAY, "the server restarts")
        assert close_code(wire.reads_all()) == GOING_AWAY


def test_the_peers_answer_to_a_close_ends_the_connection_at_once(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.sends(client_close(GOING_AWAY))
    assert not wire.is_served
    assert close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended


def test_a_peer_that_does_not_answer_a_close_is_dropped(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.tend(CLOSE_SECONDS - 0.1)
    wire.let_it_read()
    assert wire.is_served
    wire.tend(0.1)
    wire.let_it_read()
    assert not wire.is_served
    assert close_code(wire.reads_all()) == GOING_AWAY
    assert wire.ended


def test_a_second_close_does_not_give_the_peer_more_time(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    wire.tend(CLOSE_SECONDS / 2)
    wire.connection.close(4401, "")
    wire.tend(CLOSE_SECONDS / 2)
    wire.let_it_read()
    assert not wire.is_served


def test_a_peer_that_talks_on_instead_of_answering_a_close_is_dropped(wire: Wire) -> None:
    wire.connection.close(GOING_AWAY, "")
    for _ in range(20):
        wire.sends(client(Opcode.TEXT, b"x"), client(Opcode.PING), client(Opcode.PONG))
        wire.tend(CLOSE_SECONDS / 10)
    wire.let_it_read()
    assert not wire.is_served


def test_a_peer_that_does_not_even_read_the_close_is_dropped(narrow: Wire) -> None:
    fill(narrow)
    narrow.connection.close(GOING_AWAY, "")
    narrow.tend(CLOSE_SECONDS)
    narrow.let_it_read()
    assert not narrow.is_served
    assert narrow.watching.callback is None


# RFC 6455 section 5.5.1: a close is answered with its own code. One without a code reads as 1005,
# which may not be sent.
@pytest.mark.parametrize(
    ("code", "answer"),
    [(1000, 1000), (1001, 1001), (1011, 1011), (3000, 3000), (4999, 4999), (None, 1000)],
)
def test_a_clients_close_is_answered_and_the_connection_ends(
    wire: Wire, code: int | None, answer: int
) -> None:
    wire.sends(client_close(code))
    assert not wire.is_served  # at once: RFC 6455 section 7.1.1 has the server close first
    assert close_code(wire.reads_all()) == answer
    assert wire.ended


def test_a_clients_close_may_have_a_reason(wire: Wire) -> None:
    wire.sends(client_close(1000, "żółw" * 10))
    assert close_code(wire.reads_all()) == 1000


def test_what_a_client_sends_after_its_close_is_ignored(wire: Wire) -> None:
    wire.sends(client_close(1000) + client(Opcode.PING, b"x") + client_close(1001) + b"\xff\xff")
    assert close_code(wire.reads_all()) == 1000


def test_what_a_client_sends_behind_its_close_does_not_reset_the_connection(wire: Wire) -> None:
    """What nobody has read when a socket is closed would."""
    wire.peer.send(client_close(1000) + b"\xff" * 50_000)
    wire.let_it_read()
    assert not wire.is_served
    assert closes(parse(wire.peer.recv(1 << 20))) == [Close(1000, "")]
    assert wire.peer.recv(1) == b""  # a reset would be an error


def test_a_clients_close_is_answered_also_when_the_socket_is_full(narrow: Wire) -> None:
    narrow.publish("s1", text_of(100_000))
    assert narrow.watching.callback is not None
    narrow.sends(client_close(1000))
    frames = narrow.reads_all()
    assert [name for name, _ in messages(frames)] == ["s1"]
    assert close_code(frames) == 1000
    # Here, too, it is the server that hangs up when all is out, and it does not wait for anything
    # more.
    narrow.let_it_read()
    narrow.reads()
    assert narrow.ended
    assert not narrow.is_served


def test_a_client_that_closes_and_then_reads_nothing_is_dropped(narrow: Wire) -> None:
    fill(narrow)
    narrow.sends(client_close(1000))
    narrow.tend(CLOSE_SECONDS)
    narrow.let_it_read()
    assert not narrow.is_served


def test_a_client_that_hangs_up_without_a_word_is_no_longer_served(wire: Wire) -> None:
    wire.hangs_up()
    assert not wire.is_served


def test_a_client_that_ends_its_side_with_its_close_is_answered_as_well(wire: Wire) -> None:
    wire.peer.send(client_close(1000))
    wire.peer.shutdown(socket.SHUT_WR)
    wire.let_it_read()
    assert not wire.is_served
    assert close_code(wire.reads_all()) == 1000
    assert wire.ended


def test_a_client_that_resets_the_connection_while_it_is_refused_leaves_nothing_behind() -> None:
    class Resetting(socket.socket):
        """Whoever is at the other end resets the connection once something has come."""

        def sendmsg(self, *parts: Any) -> int:
            sent = super().sendmsg(*parts)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            return sent

    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        ours = Resetting(fileno=server.accept()[0].detach())
    wire = Wire(pair=(ours, peer))
    peer.send(client(Opcode.CONT, b"of nothing"))
    select.select([ours], [], [])
    wire.let_it_read()
    assert not wire.is_served
