"""What a compressed snapshot of a WebSocket takes, and what each way to make it smaller would
bring."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Iterable

from fastx_list.live.deflate import MOST_BITS, Snapshot, text_of
from fastx_list.live.frames import FramedEntry
from fastx_list.model.session import encode
from tests.bench import common

TARGET_KB = 120
TAIL = b"\x00\x00\xff\xff"  # that is not sent: RFC 7692 section 7.2.1


def size(texts: Iterable[str], level: int = 6, strategy: int = zlib.Z_DEFAULT_STRATEGY) -> int:
    """Return the bytes of one message each, compressed with those before it."""
    compressor, found = zlib.compressobj(level, zlib.DEFLATED, -MOST_BITS, 9, strategy), 0
    for text in texts:
        data = compressor.compress(text.encode()) + compressor.flush(zlib.Z_SYNC_FLUSH)
        payload = len(data.removesuffix(TAIL))
        found += payload + (2 if payload < 126 else 4)
    return found


def run(options: argparse.Namespace) -> int:
    report = common.Report("A compressed snapshot", options.quick)
    made = (common.make_session(number, options.sessions) for number in range(options.sessions))
    sessions = [(each, encode(each, each.params)) for each in made]
    entries = [FramedEntry(each.id, each.login, text.encode()) for each, text in sessions]
    texts = [text_of(entry.frame) for entry in entries]
    bare = [text.replace(entry.id, "") for entry, text in zip(entries, texts, strict=True)]
    ours = len(Snapshot(MOST_BITS).frames(entry.frame for entry in entries))
    together = len(zlib.compress("".join(texts).encode(), 9))
    print(f"{options.sessions} sessions of one login")
    for name, found in (
        ("as it is sent without compression", sum(len(entry.frame) for entry in entries)),
        ("as it is sent", ours),
        ("with the highest level", size(texts, 9)),
        ("with fixed Huffman codes alone", size(texts, strategy=zlib.Z_FIXED)),
        ("without the ids", size(bare)),
        ("all in one block, which messages cannot be", together),
    ):
        report.figure(name, [found / 1000], "kB")
        report.figure("  of each session", [found / options.sessions], "bytes")
    report.target("kB of 2,000 sessions", ours / options.sessions * 2, at_most=TARGET_KB)
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--sessions", type=common.whole(100, 100_000), default=2000, help="(%(default)s)"
    )
    common.main(run, parser)
