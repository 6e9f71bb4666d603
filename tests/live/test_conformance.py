"""What the Autobahn test suite tries on a server, for one that sends and does not listen.

The suite itself wants each message back. Its cases are here by the section that they are about,
each sent at once and byte by byte: what has to be answered is, what is wrong ends the connection
with the code for it, and what is right does not. Compression is in ``test_deflate``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from websockets.frames import Opcode

from fastx_list.api.protocol import MAX_CLIENT_MESSAGE
from fastx_list.live.connection import CLOSE_SECONDS
from tests.live.wire import Wire, client, client_close, close_code, fragments, is_open, opcodes, raw

TEXT, BINARY, CONT = Opcode.TEXT, Opcode.BINARY, Opcode.CONT
PING, PONG, CLOSE = Opcode.PING, Opcode.PONG, Opcode.CLOSE
GREEK = "κόσμε".encode()
PROTOCOL_ERROR, INVALID_TEXT, TOO_LONG = 1002, 1007, 1009


class Case(NamedTuple):
    """What a client sends, and what comes of it."""

    section: str  # of RFC 6455
    title: str
    sent: bytes
    pongs: tuple[bytes, ...] = ()
    code: int | None = None  # of the close; None if the connection goes on


def framing() -> Iterator[Case]:
    for opcode in (TEXT, BINARY):
        for size in (0, 1, 125, 126, 127, 128, MAX_CLIENT_MESSAGE):
            yield Case("5.2", f"{opcode.name} of {size} bytes", client(opcode, b"*" * size))
        for size in (MAX_CLIENT_MESSAGE + 1, 65_535, 65_536):
            title = f"{opcode.name} of {size} bytes"
            yield Case("7.4.1", title, client(opcode, b"*" * size), code=TOO_LONG)
        parts = fragments(opcode, *[b"*" * 130] * 10)
        yield Case("7.4.1", f"{opcode.name} too long in fragments", b"".join(parts), code=TOO_LONG)


def pings() -> Iterator[Case]:
    for payload in (b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125):
        title = f"ping of {len(payload)} bytes"
        yield Case("5.5.2", title, client(PING, payload), (payload,))
    too_long = raw(0x89, b"\xfe\x00\x7e", b"*" * 126)
    yield Case("5.5", "ping of 126 bytes", too_long, code=PROTOCOL_ERROR)
    yield Case("5.5.3", "unsolicited pong", client(PONG))
    yield Case("5.5.3", "unsolicited pong with payload", client(PONG, b"unsolicited"))
    unsolicited = client(PONG, b"unsolicited") + client(PING, b"ours")
    yield Case("5.5.3", "unsolicited pong, then ping", unsolicited, (b"ours",))
    payloads = tuple(b"payload-%d" % number for number in range(10))
    yield Case("5.5.2", "ten pings", b"".join(client(PING, each) for each in payloads), payloads)


def reserved() -> Iterator[Case]:
    for bits in range(1, 8):
        for opcode in (TEXT, BINARY, PING, CLOSE):
            sent = raw(0x80 | bits << 4 | opcode, b"\x80")
            for before in (b"", client(TEXT, b"before")):
                title = f"reserved bits {bits} on {opcode.name}, {len(before)} bytes before"
                yield Case("5.2", title, before + sent, code=PROTOCOL_ERROR)
    for unknown in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        for payload in (b"", b"payload"):
            sent = raw(0x80 | unknown, bytes([0x80 | len(payload)]), payload)
            title = f"opcode {unknown} of {len(payload)} bytes"
            yield Case("5.2", title, client(TEXT, b"before") + sent, code=PROTOCOL_ERROR)


def fragmentation() -> Iterator[Case]:
    def broken(title: str, *frames: bytes) -> Case:
        return Case("5.4", title, b"".join(frames), code=PROTOCOL_ERROR)

    first, middle, last = (
        client(TEXT, b"fragment1", fin=False),
        client(CONT, b"fragment2", fin=False),
        client(CONT, b"fragment3"),
    )
    yield broken("fragmented ping", raw(0x09, b"\x81", b"1") + client(CONT, b"2"))
    yield broken("fragmented pong", raw(0x0A, b"\x81", b"1") + client(CONT, b"2"))
    yield broken("fragmented close", raw(0x08, b"\x82", b"\x03\xe8"))
    yield Case("5.4", "text in two fragments", first + last)
    yield Case("5.4", "text in three fragments", first + middle + last)
    yield Case("5.4", "empty fragments", b"".join(fragments(TEXT, b"", b"", b"")))
    yield Case("5.4", "empty fragments around text", b"".join(fragments(TEXT, b"", b"x", b"")))
    between = first + client(PING, b"1") + middle + client(PING, b"2") + last
    yield Case("5.4", "pings between fragments", between, (b"1", b"2"))
    yield broken("end of no message", last)
    yield broken("end of no message, after a message", client(TEXT, b"x") + last)
    yield broken("middle of no message", middle + last)
    yield broken("middle of no message, again and again", client(TEXT, b"x") + middle + middle)
    yield broken("text within a text", first + client(TEXT, b"x"))
    yield broken("binary within a text", first + client(BINARY, b"x"))
    yield broken("end after the end", first + last + last)
    yield broken("beginning after the beginning", first + first)


VALID = [
    *(GREEK, b"Hello-\xc2\xb5@\xc3\x9f\xc3\xb6\xc3\xa4", "\U0010ffff".encode(), "\ud7ff".encode()),
    *(b"\x00", b"\x7f", b"\xc2\x80", b"\xdf\xbf", b"\xe0\xa0\x80", b"\xef\xbf\xbf"),
    *(b"\xf0\x90\x80\x80", b"\xf4\x8f\xbf\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd"),
    # Characters that are none: RFC 3629 has them
    *(b"\xef\xbf\xbe", b"\xf0\x9f\xbf\xbe", b"\xf4\x8f\xbf\xbe", b"\xef\xb7\x90"),
]
INVALID = [
    *(b"\x80", b"\xbf", b"\x80\xbf\x80", b"\xc0 ", b"\xe0 ", b"\xf0 ", b"\xf8 ", b"\xfc "),
    *(b"\xfe", b"\xff", b"\xfe\xfe\xff\xff", b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"),
    *(b"\xf7\xbf\xbf\xbf", b"\xf4\x90\x80\x80", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"),
    # Longer than need be
    *(b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xc1\xbf"),
    *(b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80"),
    # Surrogates
    *(
        b"\xed\xa0\x80",
        b"\xed\xad\xbf",
        b"\xed\xae\x80",
        b"\xed\xbf\xbf",
        b"\xed\xa0\x80\xed\xb0\x80",
    ),
    GREEK + b"\xed\xa0\x80edited",
]
UNFINISHED = [
    b"\xce",
    b"\xe0\xa0",
    b"\xed\x9f",
    b"\xf0\x90",
    b"\xf0\x90\x80",
    b"\xf4\x8f\xbf",
    GREEK[:-1],
]


def texts() -> Iterator[Case]:
    for text in VALID:
        yield Case("8.1", f"text {text.hex()}", client(TEXT, text))
        bytewise = fragments(TEXT, *(bytes([byte]) for byte in text))
        yield Case("8.1", f"text {text.hex()} in bytes", b"".join(bytewise))
    for text in [*INVALID, *UNFINISHED]:
        yield Case("8.1", f"no text {text.hex()}", client(TEXT, text), code=INVALID_TEXT)
        bytewise = fragments(TEXT, GREEK, *(bytes([byte]) for byte in text))
        title = f"no text {text.hex()} in bytes"
        yield Case("8.1", title, b"".join(bytewise), code=INVALID_TEXT)
        yield Case("5.6", f"binary {text.hex()}", client(BINARY, text))
    for text in INVALID:  # it is not waited for the end of what is wrong already
        title = f"no text {text.hex()}, without end"
        yield Case("8.1", title, client(TEXT, text, fin=False), code=INVALID_TEXT)
        torn = client(TEXT, text + b"*" * 100)[:-100]
        yield Case("8.1", f"no text {text.hex()}, torn", torn, code=INVALID_TEXT)
    for text in UNFINISHED:
        rest = client(CONT, b"*")
        title = f"no text {text.hex()}, and the wrong rest"
        yield Case("8.1", title, client(TEXT, text, fin=False) + rest, code=INVALID_TEXT)


def closing() -> Iterator[Case]:
    for code in (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999):
        yield Case("7.4", f"close {code}", client_close(code, "bye"), code=code)
    for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535):
        yield Case("7.4", f"close {code}", client_close(code), code=PROTOCOL_ERROR)
    yield Case("5.5.1", "close without code", client_close(None), code=1000)
    yield Case("5.5.1", "close of one byte", client(CLOSE, b"\x03"), code=PROTOCOL_ERROR)
    yield Case("5.5.1", "longest reason", client_close(1000, "*" * 123), code=1000)
    too_long = raw(0x88, b"\xfe\x00\x7e", b"\x03\xe8" + b"*" * 124)
    yield Case("5.5", "reason too long", too_long, code=PROTOCOL_ERROR)
    no_text = client(CLOSE, b"\x03\xe8" + INVALID[-1])
    yield Case("8.1", "reason that is no text", no_text, code=INVALID_TEXT)
    close = client_close(1000)
    for title, behind in (
        ("close", client_close(1001)),
        ("ping", client(PING, b"x")),
        ("text", client(TEXT, b"x")),
        ("end of a message", client(CONT, b"x")),
        ("anything", b"\xff" * 100_000),
    ):
        yield Case("5.5.1", f"{title} after close", close + behind, code=1000)
    within = client(TEXT, b"x", fin=False) + close
    yield Case("5.5.1", "close within a message", within, code=1000)
    yield Case("5.1", "no mask", b"\x81\x01x", code=PROTOCOL_ERROR)


CASES = [
    case for group in (framing, pings, reserved, fragmentation, texts, closing) for case in group()
]


@pytest.mark.parametrize("chop", [0, 1], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("case", CASES, ids=[f"{each.section}: {each.title}" for each in CASES])
def test_a_server_answers_as_rfc_6455_says(wire: Wire, case: Case, chop: int) -> None:
    pieces = [case.sent[at : at + chop] for at in range(0, min(len(case.sent), 3000), chop or 3000)]
    for piece in pieces if chop else [case.sent]:
        wire.sends(piece)
    frames = wire.reads_all()
    assert tuple(bytes(frame.data) for frame in frames if frame.opcode is PONG) == case.pongs
    if case.code is None:
        assert opcodes(frames) == [PONG] * len(case.pongs)
        wire.received.clear()
        assert is_open(wire)
    else:
        assert close_code(frames) == case.code
        wire.tend(CLOSE_SECONDS)
        wire.reads_all()
        assert wire.ended
