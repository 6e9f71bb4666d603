"""What X servers may send, well-formed and not, and what the agent makes of it.

``python -m tests.fuzz.x11 --seconds 3600`` goes on for an hour; the seed that it prints first
brings the same cases again.
"""

from __future__ import annotations

import argparse
import random
import struct
import sys
import time
from collections.abc import Iterator, Sequence

from fastx_list.agent.x11 import MAX_BYTES, ScreenSize, X11Error, parse_authority

MAX_KEPT_BYTES = 4096  # by the parser, whatever came
MAX_CASE_SECONDS = 1.0  # of processor time for MAX_BYTES; it takes a hundredth of that
ROOT = 77
_EXTREME = (0, 1, 0x7F, 0x80, 0xFF)


def setup(source: random.Random) -> bytes:
    """Return an answer to the connection's setup: X11 protocol, section 8."""
    vendor = source.randbytes(source.choice((0, 1, 20, source.randrange(60_000))))
    formats, screens = source.randrange(8), source.choice((0, 1, 1, 1, 255))
    body = struct.pack("<IIIIHHBB10x", 1, 2, 3, 4, len(vendor), 65535, screens, formats)
    body += vendor + bytes(-len(vendor) % 4) + bytes(8 * formats)
    size = source.choice((0, 1, 800, 65535)), source.choice((0, 600))
    body += struct.pack("<IIIIIHH", ROOT, 1, 2, 3, 4, *size) + bytes(16)
    body += bytes(4 * source.choice((0, 0, 1, source.randrange(1000))))
    return struct.pack("<BxHHH", 1, 11, 0, len(body) // 4) + body


def refusal(source: random.Random) -> bytes:
    reason = source.randbytes(source.choice((0, 3, 255)))
    head = struct.pack("<BBHHH", source.choice((0, 2)), len(reason), 11, 0, (len(reason) + 3) // 4)
    return head + reason + bytes(-len(reason) % 4)


def event(source: random.Random) -> bytes:
    kind = source.choice((0, 1, 22, 22, 34, 35, 150, source.randrange(256)))
    extra = source.choice((0, 0, 1, source.randrange(2000), 0x3FFFFFFF, 0xFFFFFFFF))
    length = struct.pack("<I", extra if kind & 0x7F in (1, 35) else source.randrange(1 << 32))
    rest = source.randbytes(8) + struct.pack("<HH", source.randrange(9000), source.randrange(9000))
    window = struct.pack("<I", source.choice((ROOT, ROOT, 5)))
    return bytes([kind, 0, 1, 0]) + length + window + rest + bytes(8) + bytes(min(4 * extra, 8000))


def mutated(data: bytes, source: random.Random) -> bytes:
    """Return ``data`` with a few things wrong in it, mostly where the lengths stand."""
    changed = bytearray(data)
    for _ in range(source.choice((0, 0, 1, 2, 20))):
        if not changed:
            break
        reach = min(len(changed), source.choice((8, 64, len(changed))))
        at = source.randrange(reach)
        action = source.randrange(4)
        if action == 0:
            changed[at] = source.choice((*_EXTREME, source.randrange(256)))
        elif action == 1:
            del changed[at : at + source.randrange(1, 40)]
        elif action == 2:
            changed[at:at] = source.randbytes(source.randrange(40))
        else:
            changed[at:at] = changed[at : at + source.randrange(1, 200)]
    return bytes(changed[:MAX_BYTES])


def stream(source: random.Random) -> bytes:
    """Return what a server sends."""
    if source.random() < 0.05:
        return source.randbytes(source.randrange(400))
    first = refusal(source) if source.random() < 0.1 else setup(source)
    return mutated(first + b"".join(event(source) for _ in range(source.randrange(12))), source)


def pieces(data: bytes, source: random.Random) -> Iterator[bytes]:
    """Cut ``data`` as a socket might."""
    most = source.choice((1, 7, 40, 5000) if len(data) < 5000 else (300, 5000, MAX_BYTES))
    position = 0
    while position < len(data):
        size = source.randint(1, most)
        yield data[position : position + size]
        position += size


def outcome(parts: Sequence[bytes]) -> tuple[object, ...]:
    """Return what the agent makes of it: the size, what it sends, and why it leaves. Only
    :class:`X11Error` may come out, and little may be kept."""
    screen, sent = ScreenSize(), b""
    try:
        for part in parts:
            sent += screen.receive(part)
    except X11Error as error:
        assert str(error).isprintable()
        return type(error), str(error)
    kept = sum(map(sys.getsizeof, vars(screen).values()))
    assert kept <= MAX_KEPT_BYTES, f"{kept} bytes are kept"
    return screen.size, sent


def one_case(seed: str) -> None:
    """Try one stream: it means the same however it is cut, and an authority file of any content is
    read or refused."""
    source = random.Random(seed)
    data = stream(source)
    cut = list(pieces(data, source))
    began = time.thread_time()
    assert outcome([data]) == outcome(cut), "it matters how the bytes are cut"
    took = time.thread_time() - began
    assert took < MAX_CASE_SECONDS, f"it takes {took:.2f} s"
    try:
        parse_authority(data)
    except ValueError:
        pass


def run(seed: int, *, cases: int | None = None, seconds: float | None = None) -> int:
    """Try so many cases, or for so long; return how many those were. Raises ``AssertionError`` with
    the case's seed."""
    deadline = None if seconds is None else time.monotonic() + seconds
    count = 0
    while (cases is None or count < cases) and (deadline is None or time.monotonic() < deadline):
        try:
            one_case(f"{seed}:{count}")
        except Exception as error:
            raise AssertionError(f"case {seed}:{count}: {error!r}") from error
        count += 1
    return count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--case", help="try this one alone, as a failure names it")
    arguments = parser.parse_args()
    if arguments.case:
        one_case(arguments.case)
        return
    print(f"seed {arguments.seed}", flush=True)
    print(f"{run(arguments.seed, seconds=arguments.seconds)} cases")


if __name__ == "__main__":
    main()
