"""The agent with a large spool: how soon all is listed, and what it costs when nothing happens,
beside a bare scandir loop."""

from __future__ import annotations

import argparse
import cProfile
import io
import json
import os
import pstats
import statistics
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fastx_list import config
from fastx_list.agent.keep import Agent
from fastx_list.model.registration import SpoolSchema
from fastx_list.store import open_store
from tests.bench import common

SETTLE_SECONDS = 8.0  # a file that was written in the last seconds may be looked at again
CLOSE_TOGETHER = 0.05

_BARE = """
import os, sys, time
while True:
    with os.scandir(sys.argv[1]) as entries:
        for entry in entries:
            entry.stat(follow_symlinks=False)
    time.sleep(1)
"""


def write_files(spool: Path, count: int) -> None:
    """Register ``count`` sessions of one login, so that one question tells how many are listed."""
    spool.mkdir(mode=0o700)
    schema = SpoolSchema()
    for index in range(count):
        (spool / f"session-{index}.json").write_text(
            json.dumps(schema.dump(common.make_session(index, per_login=count)))
        )


def total(url: str) -> int:
    with urllib.request.urlopen(url, timeout=60) as response:
        return int(response.headers["X-Total-Count"])


@contextmanager
def lister(directory: Path) -> Iterator[str]:
    """Run the list over HTTP, and yield the address that tells how many sessions there are."""
    port = common.free_port()
    command = common.gunicorn("web", f"127.0.0.1:{port}")
    with common.running(
        command, common.environment(directory, WEB_CONCURRENCY="1"), common.listens(port)
    ):
        token = common.issue(directory, common.login_name(0))
        url = f"http://127.0.0.1:{port}/api/list/{token}?limit=0"
        total(url)
        yield url


def shares(pids: dict[str, int], seconds: int, windows: int) -> dict[str, list[float]]:
    """Return the percent of one core that each process uses in each of ``windows``, all watched at
    once."""
    found: dict[str, list[float]] = {name: [] for name in pids}
    for _ in range(windows):
        before = {name: common.used(pid) for name, pid in pids.items()}
        began = time.monotonic()
        time.sleep(seconds)
        for name, pid in pids.items():
            found[name].append((common.used(pid) - before[name]) / (time.monotonic() - began) * 100)
    return found


def profile(directory: Path, scans: int) -> str:
    """Return where an idle agent's time goes, over ``scans`` scans of the same directory in this
    process."""
    settings = config.load(common.environment(directory))
    store = open_store(settings.store)
    agent = Agent(settings, store)
    agent.scan()
    began = time.process_time()
    for _ in range(scans):
        agent.scan()
    bare = (time.process_time() - began) / scans * 1000
    profiler = cProfile.Profile()
    profiler.enable()
    for _ in range(scans):
        agent.scan()
    profiler.disable()
    store.close()
    text = io.StringIO()
    pstats.Stats(profiler, stream=text).strip_dirs().sort_stats("tottime").print_stats(14)
    return (
        f"one idle scan takes {bare:.1f} ms of processor time without the profiler; with it,"
        f" {scans} scans:\n{text.getvalue()}"
    )


def run(options: argparse.Namespace) -> int:
    if options.quick:
        options.files, options.seconds, options.windows = 500, 2, 1
    report = common.Report("The agent with a large spool", options.quick)
    with common.work_dir() as directory:
        state = directory / "state"
        state.mkdir(mode=0o700)
        write_files(state / "spool", options.files)
        program = [sys.executable, "-m", "fastx_list", "agent"]
        with lister(state) as url:
            began = time.monotonic()
            with common.running(program, common.environment(state), lambda: True) as agent:
                while total(url) < options.files:
                    if time.monotonic() - began > common.START_SECONDS:
                        raise common.BenchmarkError(
                            f"after {common.START_SECONDS:g} s not all sessions are listed"
                        )
                    time.sleep(CLOSE_TOGETHER)
                listed = time.monotonic() - began
                print(f"{options.files} session files")
                report.figure("all listed over HTTP, from the start of the agent", [listed], "s")
                report.target("seconds until all are listed", listed, at_most=10)
                bare = [sys.executable, "-c", _BARE, str(state / "spool")]
                with common.running(bare, dict(os.environ), lambda: True) as loop:
                    time.sleep(min(SETTLE_SECONDS, options.seconds * 2))
                    found = shares({"agent": agent, "bare": loop}, options.seconds, options.windows)
        print(f"nothing happens, {options.windows} times {options.seconds} s")
        report.figure("the agent", found["agent"], "% of a core")
        report.figure("bare scandir and stat once a second", found["bare"], "% of a core")
        report.figure(
            "  the agent : bare",
            common.ratios(found["agent"], [max(0.01, share) for share in found["bare"]]),
            "times",
        )
        report.target("the agent, mean of all", statistics.mean(found["agent"]), at_most=5)
        if options.profile:
            print(profile(state, 20))
    return report.status()


if __name__ == "__main__":
    parser = common.arguments(__doc__)
    parser.add_argument(
        "--files", type=common.whole(1, 100_000), default=10_000, help="in the spool (%(default)s)"
    )
    # Six times ten seconds hold two of the complete writes that the agent makes every 30 seconds.
    parser.add_argument(
        "--seconds", type=common.whole(1, 600), default=10, help="of each window (%(default)s)"
    )
    parser.add_argument("--windows", type=common.whole(1, 100), default=6, help="(%(default)s)")
    parser.add_argument(
        "--profile", action="store_true", help="say where an idle agent's time goes"
    )
    common.main(run, parser)
