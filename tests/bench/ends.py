"""``python -m tests.bench.ends``: very many sessions of one machine end at once, while a list is
asked; how long the longest question takes, beside how long all of it takes."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fastx_list.model.session import Session
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything
from fastx_list.replica.view import Entry
from fastx_list.store import Lease, open_store

LEASE = Lease("one", "1", "host", 3600)
PAUSE = 0.005  # seconds between two questions
END_ALL = (
    "import sys; from fastx_list.store import open_store; from tests.bench.ends import LEASE;"
    " open_store(sys.argv[1]).observe('server', {}, LEASE)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--store", help="its address; without it, a new SQLite database")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        measure(asked.store or f"sqlite:///{Path(directory) / 'sessions.db'}", asked.sessions)


def measure(url: str, count: int) -> None:
    store = open_store(url)
    store.observe("server", dict(map(_session, range(count))), LEASE)
    replica = Replica(open_store(url), Entry)
    replica.refresh()
    began, longest, questions = time.monotonic(), 0.0, 0
    writer = subprocess.Popen([sys.executable, "-c", END_ALL, url])
    while writer.poll() is None or replica.entries(Everything.SESSIONS):
        asked = time.monotonic()
        replica.refresh()
        longest = max(longest, time.monotonic() - asked)
        questions += 1
        time.sleep(PAUSE)
    took = time.monotonic() - began
    print(
        f"{count} ends: {took:.2f} s in all, of {questions} questions the longest {longest:.3f} s"
    )
    print(f"longest question / all: {longest / took:.3f}")


def _session(number: int) -> tuple[str, Session]:
    name = f"s{number}"
    return name, Session(id=name, login=f"u{number % 1000}", server_id="server", hostname="host")


if __name__ == "__main__":
    main()
