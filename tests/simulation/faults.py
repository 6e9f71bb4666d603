"""Faults that are planted, to see whether the simulation would find them.

``python -m tests.simulation.faults`` plants each and says after how many histories it was found.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from types import FunctionType
from typing import Any, NamedTuple

import pytest

from tests.simulation.run import Report, explain, runner

MOST_STEPS = 3_000_000  # that one fault is looked for


class Fault(NamedTuple):
    """A change of one function that makes it wrong."""

    name: str  # for people
    module: str  # below the package
    function: str  # or Class.method
    right: str  # what stands there once
    wrong: str
    seed: int = 1  # of a history that finds it


FAULTS = (
    Fault(
        "a reader skips one revision",
        "store.sqlite_reader",
        "Reader._changes_since",
        "span = revision.number, current.number",
        "span = revision.number + 1, current.number",
    ),
    Fault(
        "a lease ends a tenth too early",
        "store.sqlite_leases",
        "claim",
        "\n            now + lease.seconds,",
        "\n            now + 0.9 * lease.seconds,",
    ),
    Fault(
        "ends are forgotten before all have read them",
        "store.sqlite_order",
        "Step._forget",
        "for table in (",
        "horizon = self._last\n        for table in (",
        13,
    ),
    Fault(
        "the agent overwrites params",
        "store.sqlite",
        "SqliteStore._put",
        "session.params if kept is None else kept",
        "session.params",
    ),
    Fault(
        "sessions that come back after a lease have lost their params",
        "store.sqlite",
        "SqliteStore._put",
        "remembered WHERE id = ?",
        "remembered WHERE id = ? AND 0",
        283,
    ),
    Fault(
        "revoked tokens are not written again to a store that has lost them",
        "replica.replica",
        "Replica._start_over",
        "if jti not in snapshot.revoked",
        "if False",
        51,
    ),
    Fault(
        "revoked tokens are forgotten by the wall clock",
        "store.sqlite_order",
        "Step.__init__",
        "min(time.time(), _real(row[3]) + 2 * passed)",
        "time.time()",
        39,
    ),
    Fault(
        "an end is told of a session that the subscriber has never heard of",
        "live.bus",
        "Mailbox.put",
        "if told.is_known or isinstance(told.state, FramedEntry):",
        "if True:",
        87,
    ),
    Fault(
        "a restored store is taken for the one that was followed",
        "store.sqlite_order",
        "check",
        "if _has(db, revision) and (",
        "if db.execute('SELECT 1 FROM step WHERE revision = ?', revision[:1]).fetchone() and (True"
        " or",
        26,
    ),
    Fault(
        "an older store is believed before agents have written again",
        "replica.doubt",
        "may_be_old",
        "if not silent:",
        "if True:",
        26,
    ),
    Fault(
        "a step is written in parts",
        "store.sqlite_file",
        "SqliteFile.writing",
        "_begin(db)",
        "pass",
        37,
    ),
    Fault(
        "an agent takes for written what could not be written",
        "agent.keeper",
        "Keeper._write",
        "self._edition = self._store",
        "self._is_unwritten = False\n    self._edition = self._store",
        8,
    ),
    Fault(
        "an agent does not see that the store has become an older one",
        "agent.keeper",
        "Keeper.keep",
        "self._store.edition(self._server_id) != self._edition",
        "self._store.edition(self._server_id) is None",
        454,
    ),
    Fault(
        "an agent beats in a store that has lost what it has just written",
        "store.sqlite",
        "SqliteStore.heartbeat",
        "if edition is not None and",
        "if False and",
        53262,
    ),
    Fault(
        "an agent renews its lease before it sees that the store has become an older one",
        "store.sqlite",
        "SqliteStore.observe",
        "if sqlite_leases.edition(step.db, server_id) != edition:\n",
        "if False:\n",
        98755,
    ),
    Fault(
        "a reader trusts a store that has lost what it left out",
        "store.sqlite_order",
        "check",
        "seen is None or seen.revision == revision or _has(db, seen.revision)",
        "True",
        7000124,
    ),
    Fault(
        "another store is taken for what an older one has become",
        "store.sqlite_order",
        "_may_have_forgotten",
        "if not is_same:",
        "if False:",
        700081255,
    ),
    Fault(
        "a reader does not know the steps that it came past when it read all",
        "replica.trail",
        "Trail.end",
        "self._places.setdefault(step, UNKNOWN)",
        "pass",
        1000005723,
    ),
    Fault(
        "an agent that has not seen all writes to a store that has lost it",
        "agent.keep",
        "Agent._merge_and_keep",
        "self._seen.all_answered",
        "True",
        1000015792,
    ),
    Fault(
        "an agent that has not looked is believed what it read in an older store",
        "replica.doubt",
        "may_be_old",
        "is_soon and _NEVER_LOOKED in str(server.text)",
        "False",
        1200083649,
    ),
    Fault(
        "a revoked token that is lost twice is written again too late",
        "replica.owed",
        "Owed.add",
        "self._next_attempt = 0.0",
        "pass",
        1000024370,
    ),
    Fault(
        "a server is not waited for of which only sessions were told",
        "replica.doubt",
        "Refill.pause",
        "or lacks_server(sessions, snapshot, there)",
        "",
        1300107480,
    ),
    Fault(
        "a reader that was stopped while it read waits ten times as long",
        "replica.doubt",
        "Refill.pause",
        "min(max(RETRY_SECONDS, 10 * took), REFILL_SECONDS)",
        "max(RETRY_SECONDS, 10 * took)",
        1300298341,
    ),
    Fault(
        "a worker does not read what it has written itself",
        "store.sqlite",
        "SqliteStore._write",
        "self._reader.distrust()",
        "pass",
        51,
    ),
    Fault(
        "an agent that starts does not know when clients connected",
        "agent.keep",
        "Agent._merge_and_keep",
        "for name, session in recalled.items()",
        "for name, session in ()",
        78,
    ),
    Fault(
        "a reader that cannot read the store does not say so",
        "replica.replica",
        "Replica._note",
        "self.problem = problem",
        "self.problem = None",
    ),
)


def _resolve(fault: Fault) -> tuple[FunctionType, dict[str, Any]]:
    """Return the function, and its module's names."""
    module = importlib.import_module(f"fastx_list.{fault.module}")
    holder, _, name = fault.function.rpartition(".")
    found = inspect.unwrap(getattr(getattr(module, holder) if holder else module, name))
    assert isinstance(found, FunctionType)
    return found, vars(module)


@contextmanager
def planted(fault: Fault) -> Iterator[None]:
    """Let the package have this fault, whoever has imported the function by its name."""
    function, names = _resolve(fault)
    source = textwrap.dedent(inspect.getsource(function))
    if source.count(fault.right) != 1:
        raise LookupError(f"{fault.function} has no longer one {fault.right!r}")
    made: dict[str, Any] = {}
    code = "from __future__ import annotations\n" + source.replace(fault.right, fault.wrong)
    exec(compile(code, fault.name, "exec"), names, made)
    wrong = inspect.unwrap(made[function.__name__])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(function, "__code__", wrong.__code__)
        yield


def look_for(fault: Fault, seed: int, steps: int = MOST_STEPS) -> Report:
    """Run histories until one fails that does not without ``fault``, or until there were so many
    ``steps``."""
    seeds, report = count(seed), Report()
    with runner() as running:
        while report.steps < steps:
            with planted(fault):
                report.add(running.run_seeds(seeds, steps - report.steps, ()))
            if not report.failures:
                break
            [found] = report.failures
            if explain(running, found, shrinks=False) is None:
                break
            report.failures.clear()  # not by the fault that was planted
    return report


def main() -> int:
    missed = 0
    print("| planted fault | found after histories | steps |\n|---|---:|---:|")
    for fault in FAULTS:
        report = look_for(fault, 1)
        missed += not report.failures
        found = f"{report.histories:,}" if report.failures else "not found"
        print(f"| {fault.name} | {found} | {report.steps:,} |", flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main())
