"""Faults to be found: ``python -m tests.chaos.planted`` plants each in a copy of the package and
says after how many rounds it was noticed."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TIMEOUT_SECONDS = 3600.0


class Planted(NamedTuple):
    """One fault: in ``file`` of the package ``right`` becomes ``wrong``."""

    what: str
    file: str
    right: str
    wrong: str


PLANTED = [
    Planted(
        "a reader skips a change, now and then",
        "replica/replica.py",
        "        for record in records:\n            before",
        "        for record in records:\n            if hash(record.text) % 20 == 0:\n"
        "                continue\n            before",
    ),
    Planted(
        "an end is lost on its way to readers",
        "store/records.py",
        "                yield from self.ended(name, login, server_id)\n",
        "                continue\n",
    ),
    Planted(
        "leases end after a third of their time",
        "store/sqlite_leases.py",
        '"SELECT id FROM server WHERE expires <= ? ORDER BY id", (clock_now,)',
        '"SELECT id FROM server WHERE expires - seconds * 0.67 <= ? ORDER BY id", (clock_now,)',
    ),
    Planted(
        "a store that has lost revocations is not told them",
        "replica/owed.py",
        "    def add(self, tokens: Mapping[str, int]) -> None:\n",
        "    def add(self, tokens: Mapping[str, int]) -> None:\n        return\n",
    ),
    Planted(
        "a spool that cannot be read counts as empty",
        "agent/sources/spool.py",
        "        except FileNotFoundError:\n            files, self._unread",
        "        except OSError:\n            files, self._unread",
    ),
    Planted(
        "a session that leaves a filter is not told to have left",
        "live/bus.py",
        "        elif was_there:\n",
        "        elif was_there and change.entry is None:\n",
    ),
    Planted(
        "a slow client keeps the oldest state of a session, not the newest",
        "live/bus.py",
        "            self._owed[told.id] = told\n",
        "            self._owed.setdefault(told.id, told)\n",
    ),
    Planted(
        "a server that is silent is not doubted, and neither is a store that takes no writes",
        "replica/replica.py",
        "        if self._store.overdue:\n",
        "        if False:\n",
    ),
    Planted(
        "a connection outlives its token",
        "live/sidecar.py",
        "            if connection.claims.jti in revoked:\n",
        "            if False:\n",
    ),
    Planted(
        "an agent that is started again has forgotten when clients came and went",
        "agent/merge.py",
        "        last_connect=moment.now if came else known.last_connect,\n",
        "        last_connect=moment.now if came else before.facts and known.last_connect,\n",
    ),
    Planted(
        "a change of a session takes its params back",
        "store/sqlite.py",
        "        params = session.params if kept is None else kept\n",
        "        params = session.params\n",
    ),
    Planted(
        "who follows all sessions of a login gets those of another one",
        "live/sidecar.py",
        "        replica, topic = self._replica, connection.topic\n",
        "        from fastx_list.replica.topics import Everything\n\n"
        "        replica, topic = self._replica, Everything.SESSIONS\n",
    ),
    Planted(
        "the end of a session is told of twice",
        "store/sqlite_past.py",
        "    step.db.executemany(_NOTE_END, values)\n",
        "    step.db.executemany(_NOTE_END, values * 2)\n",
    ),
    Planted(
        "history forgets for how long clients were there when the last one leaves",
        "model/past.py",
        "        time, since = time + max(0, now - since), None\n",
        "        since = None\n",
    ),
]


def rounds_until(planted: Planted, store: str, rounds: int, seed: int) -> tuple[int | None, str]:
    """Plant it and run; return in which round it was noticed, and how, or ``None``."""
    with tempfile.TemporaryDirectory(prefix="fastx-planted-") as name:
        place = Path(name)
        for part in ("fastx_list", "tests", ".ci"):
            shutil.copytree(ROOT / part, place / part)
        file = place / "fastx_list" / planted.file
        text = file.read_text(encoding="utf-8")
        assert text.count(planted.right) == 1, f"{planted.file} has changed: {planted.what}"
        file.write_text(text.replace(planted.right, planted.wrong), encoding="utf-8")
        command = [sys.executable, "-m", "tests.chaos", "--store", store, "--patience", "60"]
        done = subprocess.run(
            [*command, "--rounds", str(rounds), "--seed", str(seed)],
            cwd=place,
            env={**os.environ, "PYTHONPATH": str(place)},
            capture_output=True,
            text=True,
            timeout=TIMEOUT_SECONDS,
        )
    if done.returncode == 0:
        return None, ""
    finished = re.findall(r"^ +([0-9]+) \w+ +[0-9.]+ s$", done.stdout, re.MULTILINE)
    said = (done.stderr.strip().splitlines() or ["nothing"])[-1]
    return len(finished) + 1, said


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=100, help="at most (%(default)s)")
    parser.add_argument("--store", choices=("sqlite", "redis"), default="sqlite")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", type=int, nargs="*", help="their numbers, from 1")
    options = parser.parse_args()
    missed = 0
    for number, planted in enumerate(PLANTED, start=1):
        if options.only and number not in options.only:
            continue
        found, said = rounds_until(planted, options.store, options.rounds, options.seed)
        missed += found is None
        how = f"in round {found}: {said[:200]}" if found else f"not in {options.rounds} rounds"
        print(f"{number:2} {planted.what}: noticed {how}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
