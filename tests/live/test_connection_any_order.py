"""Whatever both sides do, in whatever order, no frame is torn."""

from __future__ import annotations

import json
import math
import random
from contextlib import closing
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.frames import Opcode

from tests.live.wire import (
    GOING_AWAY,
    INTERVAL,
    Wire,
    client,
    client_close,
    close_code,
    closes,
    fragments,
    messages,
    opcodes,
    text_of,
)


@pytest.mark.parametrize("seed", range(40))
def test_no_frame_is_ever_torn_whoever_writes_and_however_the_peer_reads(seed: int) -> None:
    choose = random.Random(seed)
    with closing(Wire(send_buffer=choose.choice([1, 2500, 6000, 20_000]))) as wire:
        _scribble(wire, choose)


def _scribble(wire: Wire, choose: random.Random) -> None:
    wire.patience = math.inf  # the clock here is for pings
    sizes = choose.choice([(0, 100), (0, 3000), (60_000, 70_000)])
    latest: dict[str, Any] = {}
    pings: list[bytes] = []
    ends = choose.choice(["stays", "server closes", "client closes", "client sends too much"])
    for step in range(400):
        action = choose.choice(
            ["publish", "publish", "reads", "reads", "writable", "ping", "tend", "talk"]
        )
        if action == "publish":
            for _ in range(choose.randint(1, 5)):
                name, text = (
                    f"s{choose.randint(0, 20)}",
                    choose.choice([None, text_of(choose.randint(*sizes), step=step)]),
                )
                latest[name] = text and json.loads(text)
                wire.put(name, text)
            wire.tell()
        elif action == "reads":
            wire.reads(choose.randint(1, 5000))
        elif action == "writable":
            wire.lets_it_write()
        elif action == "ping":
            pings.append(choose.randbytes(choose.randint(0, 125)))
            wire.sends(client(Opcode.PING, pings[-1]))
        elif action == "tend":
            wire.sends(client(Opcode.PONG))  # whoever reads slowly is not dead
            wire.tend(INTERVAL)
        else:
            wire.sends(
                *fragments(choose.choice([Opcode.TEXT, Opcode.BINARY]), b"x" * 500, b"x" * 500)
            )
    assert wire.is_served
    if ends == "server closes":
        wire.connection.close(GOING_AWAY, "the server restarts")
    elif ends == "client closes":
        wire.sends(client_close(1000))
    elif ends == "client sends too much":
        wire.sends(client(Opcode.BINARY, b"x" * 5000))
    for _ in range(100):
        wire.reads(choose.randint(1, 5000))
        wire.lets_it_write()
        wire.tell()
    frames = wire.reads_all()
    assert set(opcodes(frames)) <= {Opcode.TEXT, Opcode.PING, Opcode.PONG, Opcode.CLOSE}
    answers = iter(pings)
    # In order; some may be left out
    assert all(bytes(frame.data) in answers for frame in frames if frame.opcode is Opcode.PONG)
    if ends == "stays":
        there = {name: data for name, data in latest.items() if data is not None}
        assert {
            name: data for name, data in dict(messages(frames)).items() if data is not None
        } == there
    else:
        assert (
            close_code(frames)
            == {"server closes": GOING_AWAY, "client closes": 1000, "client sends too much": 1009}[
                ends
            ]
        )


_OPCODES = st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT, Opcode.PING, Opcode.PONG])
_FRAMES = st.builds(client, _OPCODES, st.binary(max_size=125), st.just(True)) | st.builds(
    client,
    st.sampled_from([Opcode.TEXT, Opcode.BINARY, Opcode.CONT]),
    st.binary(max_size=2000),
    st.booleans(),
)
_CLOSES = st.builds(client_close, st.none() | st.integers(0, 0xFFFF), st.text(max_size=20))


@settings(max_examples=300, deadline=None, derandomize=True, database=None)
@given(
    pieces=st.lists(_FRAMES | _FRAMES | _CLOSES | st.binary(max_size=50), max_size=10),
    cut=st.integers(1, 300),
)
def test_whatever_a_client_sends_is_answered_with_whole_frames(
    pieces: list[bytes], cut: int
) -> None:
    with closing(Wire()) as wire:
        data = b"".join(pieces)
        wire.publish("s1", b"{}")
        for start in range(0, len(data), cut):
            wire.sends(data[start : start + cut])
        wire.publish("s2", b"{}")
        frames = wire.reads_all()
        assert set(opcodes(frames)) <= {Opcode.TEXT, Opcode.PONG, Opcode.CLOSE}
        names = [name for name, _ in messages(frames)]
        assert names == (["s1"] if closes(frames) else ["s1", "s2"])
        assert all(
            close.code in (1000, 1002, 1007, 1009) or close.code in range(1000, 5000)
            for close in closes(frames)
        )
