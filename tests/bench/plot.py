"""Draws what ``tests.bench.fanout --save FILE`` has written, as an SVG: ``python -m
tests.bench.plot FILE docs/fanout.svg``."""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

WIDTH, LABELS, MARGIN = 780, 240, 60
BAR, ROW, HEAD = 18, 30, 46
STYLE = """
text { font: 13px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.ours { fill: #2f81f7 }
.other { fill: #9198a1 }
.range { stroke: #1f2328; stroke-width: 1.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .range { stroke: #e6edf3 } }
"""


class Bar(NamedTuple):
    """A median, and between which values half of the rounds lie, if there were several."""

    name: str
    value: float
    low: float | None = None
    high: float | None = None


def panel(title: str, bars: Sequence[Bar], top: int) -> Iterator[str]:
    """Draw one measure from ``top`` down, the first bar being ours."""
    scale = (WIDTH - LABELS - MARGIN) / max(bar.high or bar.value for bar in bars)
    yield f'<text class="title" x="0" y="{top + 18}">{escape(title)}</text>'
    for row, bar in enumerate(bars):
        y = top + HEAD + row * ROW
        middle, end = y + BAR / 2, LABELS + bar.value * scale
        yield (
            f'<text x="{LABELS - 10}" y="{middle + 4:g}"'
            f' text-anchor="end">{escape(bar.name)}</text>'
        )
        whose = "other" if row else "ours"
        yield (
            f'<rect class="{whose}" x="{LABELS}" y="{y}" width="{bar.value * scale:.1f}"'
            f' height="{BAR}" rx="2"/>'
        )
        if bar.low is not None and bar.high is not None:
            low, end = LABELS + bar.low * scale, LABELS + bar.high * scale
            ends = "".join(f"M{x:.1f} {y + 5}v{BAR - 10}" for x in (low, end))
            yield f'<path class="range" d="M{low:.1f} {middle:g}H{end:.1f}{ends}"/>'
        yield f'<text x="{end + 8:.1f}" y="{middle + 4:g}">{bar.value:.0f}</text>'


def draw(results: dict[str, Any]) -> str:
    servers = results["servers"]
    times = []
    for server in servers:
        low, median, high = statistics.quantiles(server["p99"], n=4, method="inclusive")
        times.append(Bar(server["name"], median, low, high))
    sizes = [Bar(server["name"], server["kib"]) for server in servers]
    height = HEAD + len(servers) * ROW
    connections = f"{results['connections']:,} WebSockets"
    lines = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {2 * height + 10}"'
            ' role="img">'
        ),
        f"<title>One change to {connections}: time and memory</title>",
        f"<style>{STYLE}</style>",
        *panel(
            f"One change to {connections}: ms until 99 of 100 have it (line: half of the rounds)",
            times,
            0,
        ),
        *panel("Memory of the server, KiB a connection", sizes, height + 10),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("drawing", type=Path)
    options = parser.parse_args()
    options.drawing.write_text(draw(json.loads(options.results.read_text())))
