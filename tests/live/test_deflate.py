"""What is agreed on about compression (RFC 7692), and the compressed messages of clients."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import pytest
from websockets.frames import Opcode

from fastx_list.api.protocol import MAX_CLIENT_MESSAGE
from fastx_list.live.deflate import agree
from tests.live.wire import Wire, client, client_close, close_code, is_open, opcodes, raw

NAME = "permessage-deflate"
MIBIBYTE = 1 << 20


@pytest.fixture
def inflating() -> Iterator[Wire]:
    """A wire of a client that compression was agreed on with."""
    wire = Wire(inflates=True)
    yield wire
    wire.close()


def compressed(data: bytes, level: int = 6) -> bytes:
    """Return ``data`` as RFC 7692 section 7.2.1 has it."""
    compressor = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (compressor.compress(data) + compressor.flush(zlib.Z_SYNC_FLUSH))[:-4]


def deflated(opcode: Opcode, data: bytes, fin: bool = True) -> bytes:
    """Return a frame of a client whose payload is ``data``, compressed already."""
    frame = bytearray(client(opcode, data, fin))
    frame[0] |= 0x40  # RSV1
    return bytes(frame)


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        # What Chromium and Firefox offer, and then websockets for Python
        (f"{NAME}; client_max_window_bits", ""),
        (NAME, ""),
        (f"{NAME}; server_max_window_bits=12; client_max_window_bits=12", "server 12"),
        (f"{NAME};server_no_context_takeover", "alone"),
        (f"{NAME}; client_no_context_takeover; server_no_context_takeover", "alone"),
        (f'{NAME}; server_max_window_bits="10"', "server 10"),
        (f"{NAME} ; server_max_window_bits = 9 ", "server 9"),
        (f"x-webkit-deflate-frame, {NAME}; x=1, {NAME}", ""),
        (f"{NAME}; server_max_window_bits=8, {NAME}; server_max_window_bits=15", "server 15"),
        # The first that can be kept is the client's dearest
        (f"{NAME}; server_no_context_takeover, {NAME}", "alone"),
    ],
)
def test_the_first_offer_that_can_be_kept_is_taken(offers: str, answer: str) -> None:
    agreed = agree(offers)
    assert agreed is not None
    assert agreed.answer == "; ".join(
        [
            NAME,
            "client_no_context_takeover",
            *(["server_no_context_takeover"] if answer == "alone" else []),
            *([f"server_max_window_bits={answer[7:]}"] if answer.startswith("server") else []),
        ]
    )


@pytest.mark.parametrize(
    "offers",
    [
        "",
        ",;=,;",
        "permessage-deflat",
        f"x-{NAME}",
        f"{NAME}; unknown",
        f"{NAME};",
        f"{NAME}; server_no_context_takeover=1",
        f"{NAME}; client_no_context_takeover=true",
        f"{NAME}; server_no_context_takeover; server_no_context_takeover",
        f"{NAME}; client_max_window_bits; client_max_window_bits=10",
        f"{NAME}; server_max_window_bits",
        # In this window zlib cannot compress
        f"{NAME}; server_max_window_bits=8",
        *(
            f"{NAME}; {side}_max_window_bits={value}"
            for side in ("server", "client")
            for value in (
                "7",
                "16",
                "08",
                "010",
                "-9",
                "+9",
                "9.0",
                "",
                '"9',
                "0x9",
                "٩",
                "9" * 999,
            )
        ),
        f"{NAME}; ".ljust(5000) + "client_max_window_bits",
        f"{NAME}; x, " * 1000 + NAME,
    ],
)
def test_an_offer_that_is_wrong_or_cannot_be_kept_leaves_messages_as_they_are(offers: str) -> None:
    assert agree(offers) is None


@pytest.mark.parametrize("opcode", [Opcode.TEXT, Opcode.BINARY])
@pytest.mark.parametrize("level", [0, 1, 9])
@pytest.mark.parametrize("size", [0, 1, MAX_CLIENT_MESSAGE])
def test_compressed_messages_of_a_client_are_ignored_like_others(
    inflating: Wire, opcode: Opcode, level: int, size: int
) -> None:
    inflating.sends(deflated(opcode, compressed(b"x" * size, level)))
    assert is_open(inflating)


def test_a_client_may_compress_some_messages_and_not_others(inflating: Wire) -> None:
    for _ in range(3):
        inflating.sends(deflated(Opcode.TEXT, compressed(b"x")), client(Opcode.TEXT, b"y"))
    assert is_open(inflating)


def test_a_compressed_message_may_come_in_fragments_with_pings_between(inflating: Wire) -> None:
    data = compressed("żółw".encode() * 100)
    inflating.sends(deflated(Opcode.TEXT, data[:3], fin=False))
    for byte in data[3:]:
        inflating.sends(client(Opcode.PING, b"p"), client(Opcode.CONT, bytes([byte]), fin=False))
    inflating.sends(client(Opcode.CONT, b""))
    assert set(opcodes(inflating.reads_all())) == {Opcode.PONG}
    inflating.sends(client(Opcode.TEXT, b"the next is not compressed"), client_close(1000))
    assert close_code(inflating.reads_all()) == 1000


def test_a_block_that_says_it_is_the_last_may_end_a_message(inflating: Wire) -> None:
    # RFC 7692 section 7.2.3.4
    inflating.sends(deflated(Opcode.TEXT, bytes.fromhex("f348cdc9c9070000")))
    assert is_open(inflating)


@pytest.mark.parametrize("size", [MAX_CLIENT_MESSAGE + 1, 100 * MIBIBYTE])
def test_a_message_that_inflates_to_more_than_is_taken_closes_with_1009(
    inflating: Wire, size: int
) -> None:
    data = compressed(b"x" * size)[: 2 * MAX_CLIENT_MESSAGE]
    inflating.sends(deflated(Opcode.TEXT, data))
    assert close_code(inflating.reads_all()) == 1009


def test_a_compressed_message_without_end_closes_with_1009(inflating: Wire) -> None:
    empty_block = b"\x00\x00\x00\xff\xff"
    inflating.sends(deflated(Opcode.TEXT, empty_block * 20, fin=False))
    for _ in range(20):
        inflating.tend(1)
        inflating.sends(client(Opcode.CONT, empty_block * 20, fin=False))
    assert close_code(inflating.reads_all()) == 1009


@pytest.mark.parametrize(
    "data",
    [b"\x07", b"\xff" * 20, b"\x01\x05\x00\xff\xff", compressed(b"\xff"), compressed(b"\xc3")],
    ids=["block", "bytes", "length", "no character", "half a character"],
)
def test_what_cannot_be_inflated_or_is_no_text_closes_with_1007(
    inflating: Wire, data: bytes
) -> None:
    inflating.sends(deflated(Opcode.TEXT, data))
    assert close_code(inflating.reads_all()) == 1007


@pytest.mark.parametrize(
    "data",
    [
        deflated(Opcode.PING, b""),
        deflated(Opcode.CLOSE, b"\x03\xe8"),
        deflated(Opcode.TEXT, compressed(b"x"), fin=False) + deflated(Opcode.CONT, b""),
        client(Opcode.TEXT, b"x", fin=False) + deflated(Opcode.CONT, b""),
        deflated(Opcode.TEXT, b"", fin=False) + deflated(Opcode.TEXT, b""),
        raw(0xE1, b"\x80"),
        raw(0xD1, b"\x80"),
    ],
    ids=["ping", "close", "fragment", "plain fragment", "message", "second bit", "third bit"],
)
def test_reserved_bits_that_were_not_agreed_on_close_with_1002(
    inflating: Wire, data: bytes
) -> None:
    inflating.sends(data)
    assert close_code(inflating.reads_all()) == 1002


def test_half_a_message_keeps_no_inflater(inflating: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def decompressobj(bits: int) -> zlib._Decompress:
        made.append(bits)
        return inflate(bits)

    inflate = zlib.decompressobj
    monkeypatch.setattr(zlib, "decompressobj", decompressobj)
    data = compressed(b"x" * 100)
    inflating.sends(deflated(Opcode.TEXT, data[:4], fin=False))
    assert not made
    inflating.sends(client(Opcode.CONT, data[4:]))
    assert len(made) == 1 and is_open(inflating)
