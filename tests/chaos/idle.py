"""An idle hour: ``python -m tests.chaos.idle --minutes 60`` (as root). 500 WebSockets come and go,
and nothing else happens; no process may need more memory or files at the end."""

from __future__ import annotations

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest
from websockets.asyncio.client import ClientConnection, connect

from tests.chaos.namespace import enter
from tests.chaos.operations import LIVE_URL, Operations
from tests.chaos.world import LIVE_PORT, World, world
from tests.support import wait_for

CLIENTS = 500
LOGINS = 10  # that they belong to: one may have 100 on each sidecar
LEASE_SECONDS = 60.0  # as by default
STAY_SECONDS = 15.0
WARM_UP = 0.1  # of the time, in which what is kept is made
MOST_GROWTH = 1.02
AT_ONCE = 20
GONE_SECONDS = 60.0


async def come_and_go(urls: list[str]) -> None:
    """Connect with each, stay for a while, and leave."""
    connecting = asyncio.Semaphore(AT_ONCE)

    async def one(url: str) -> None:
        async with connecting:
            client: ClientConnection = await connect(
                url, proxy=None, open_timeout=60, compression=None, ping_interval=None
            )
        try:
            await asyncio.wait_for(client.wait_closed(), STAY_SECONDS)
        except asyncio.TimeoutError:
            await client.close()

    await asyncio.gather(*map(one, urls))


def needs(run: World) -> dict[str, tuple[int, int]]:
    """Return the bytes and the files that each process has, by its name."""
    wait_for("the end of all connections", lambda: not connections(run), GONE_SECONDS)
    found = {}
    for name in run.running:
        for number, pid in enumerate(run.pids(name)):
            process = psutil.Process(pid)
            found[f"{name} {number}"] = process.memory_full_info().uss, process.num_fds()
    return found


def connections(run: World) -> int:
    answer = run.ask("/health", LIVE_PORT)
    return -1 if answer is None else int(answer.json["connections"])


def idle(minutes: float) -> list[str]:
    """Return what has grown."""
    place = Path(tempfile.mkdtemp(prefix="fastx-chaos-"))
    with world(place, "sqlite", random.Random(1), LEASE_SECONDS) as run:
        run.live_workers = 1
        run.terminate("live")
        run.start("live")
        run.await_servers()
        operations = Operations(run)
        operations.begin_sessions()
        logins = ["alice", "bob", "carol", *(f"user{number}" for number in range(LOGINS - 3))]
        tokens = [run.token(login) for login in logins]
        urls = [f"{LIVE_URL}/api/list?token={tokens[number % LOGINS]}" for number in range(CLIENTS)]
        began = time.monotonic()
        first: dict[str, tuple[int, int]] = {}
        while True:
            asyncio.run(come_and_go(urls))
            now = needs(run)
            passed = time.monotonic() - began
            if not first and passed > WARM_UP * minutes * 60:
                first = now
            print(f"{passed:6.0f} s {now}", flush=True)
            if passed > minutes * 60:
                break
        run.read_logs()
    shutil.rmtree(place)
    wrong = list(run.judge.wrong)
    for name, (size, files) in now.items():
        before, files_before = first.get(name, (size, files))
        print(f"{name:8} {before:10} {size:10} bytes ({size / before - 1:+.2%}), {files} files")
        if size > MOST_GROWTH * before:
            wrong.append(f"{name} has grown from {before} to {size} bytes")
        if files > files_before:
            wrong.append(f"{name} has {files} files, and had {files_before}")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="(%(default)s)")
    options = parser.parse_args()
    try:
        enter("tests.chaos.idle")
    except pytest.skip.Exception as reason:
        print(f"it cannot be run: {reason}", file=sys.stderr)
        return 2
    wrong = idle(options.minutes)
    print("\n".join(wrong) or "nothing has grown", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
