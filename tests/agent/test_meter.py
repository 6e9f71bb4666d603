"""What sessions use: real processes, and some that are made up."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from types import SimpleNamespace
from typing import Any, cast

import psutil
import pytest

from fastx_list.agent import meter as meter_module
from fastx_list.agent import usage as usage_module
from fastx_list.agent.door import Door, Unanswered
from fastx_list.agent.machine import Machine
from fastx_list.agent.meter import (
    ASKING_SECONDS,
    LOOK_SECONDS,
    MOST_SECONDS,
    Meter,
    Metered,
    Used,
    _spent,
    owners,
)
from fastx_list.agent.process import Process
from fastx_list.agent.steady import steady
from fastx_list.agent.usage import SLICE_SECONDS, Usage
from tests.support import Processes, needs_root, started, wait_for

MIB = 1024**2
WORKS = f"""import time
held = bytearray({300 * MIB})
print("ready", flush=True)
while True: pass"""


def usage(pid: int, parent: int = 1, own: float = 0, of_children: float = 0, **more: Any) -> Usage:
    stat = SimpleNamespace(parent=parent, start=more.pop("start", 100 + pid))
    process = SimpleNamespace(pid=pid, stat=stat, age=more.pop("age", 1e9))
    given = {"resident": 0, "memory": 0, "display": None, "unit": None, **more}
    return Usage(cast(Process, process), own, of_children, **given)


def read(*usages: Usage) -> dict[int, Usage]:
    return {each.process.pid: each for each in usages}


def metered(pid: int, display: int | None = None) -> Metered:
    return Metered(cast(Process, SimpleNamespace(pid=pid)), display)


# Whose a process is


def test_a_session_has_its_server_what_that_started_and_what_runs_on_its_display() -> None:
    processes = read(
        usage(10), usage(11, parent=10), usage(12, parent=11), usage(13, display=4), usage(14)
    )
    assert owners({"a": metered(10, 4)}, processes) == dict.fromkeys((10, 11, 12, 13), "a")


def test_a_session_within_another_has_its_own_processes() -> None:
    processes = read(usage(10), usage(11, 10, display=4), usage(12, 11, display=5), usage(13, 11))
    sessions = {"a": metered(10, 4), "b": metered(11, 5)}
    assert owners(sessions, processes) == {10: "a", 11: "b", 12: "b", 13: "b"}


def test_a_unit_is_a_sessions_only_if_it_is_no_other_sessions() -> None:
    processes = read(usage(10, unit=b"/x"), usage(11, unit=b"/x"), usage(12, unit=b"/y"), usage(13))
    assert owners({"a": metered(10)}, processes) == {10: "a", 11: "a"}
    assert owners({"a": metered(10), "b": metered(12)}, processes)[11] == "a"
    processes |= read(usage(12, unit=b"/x"))
    assert owners({"a": metered(10), "b": metered(12)}, processes) == {10: "a", 12: "b"}


def test_a_display_that_two_sessions_have_tells_nothing() -> None:
    sessions = {"a": metered(10, 4), "b": metered(11, 4)}
    assert owners(sessions, read(usage(10), usage(11), usage(12, display=4))) == {10: "a", 11: "b"}


# Processor time


def test_time_is_what_was_spent_since_and_of_new_processes_all() -> None:
    before = read(usage(10, own=5), usage(12, own=7, start=1))
    now = read(usage(10, own=8), usage(11, own=2, age=3), usage(12, own=1, age=3), usage(13, own=9))
    assert _spent(now, before, seconds=10) == {10: 3, 11: 2, 12: 1}  # 13 is old, and was not read


def test_time_of_processes_that_have_ended_counts_once() -> None:
    before = read(usage(10, of_children=1), usage(11, parent=10, own=50, of_children=4))
    assert _spent(read(usage(10, of_children=1 + 54 + 2)), before, 10) == {10: 2}
    assert _spent(read(usage(10, of_children=1)), before, 10) == {10: 0}  # nobody has waited for it


@pytest.mark.parametrize(
    "name, known, now, told",
    [
        ("cpu", None, 3.2, 3.2),
        ("cpu", 50, 54.0, 50),
        ("cpu", 50, 56.0, 56.0),
        ("cpu", 0, 0.7, 0),
        ("cpu", 1, 0.1, 0.1),
        ("memory", 300 * MIB, 320 * MIB, 300 * MIB),
        ("memory", 300 * MIB, 340 * MIB, 340 * MIB),
        ("memory", 2 * MIB, 2.9 * MIB, 2 * MIB),
    ],
)
def test_what_differs_by_less_than_a_tenth_stays(
    name: str, known: float | None, now: float, told: float
) -> None:
    assert steady(name, known, now) == told


# Real processes


def machine_of(listing: object) -> Any:
    return SimpleNamespace(listing=listing, made_for=frozenset(), processes={})


def measured(meter: Meter, machine: Machine, server: Process) -> Used | None:
    machine.listing.look()
    meter.of(server, None)
    meter.go_on(machine)
    return meter.of(server, None)


def test_a_program_that_burns_a_core_and_holds_memory_is_seen_as_that(processes: Processes) -> None:
    shell = processes.start(["sh", "-c", f"timeout 300 python3 -c '{WORKS}'; true"], "works")
    wait_for("its memory", lambda: "ready" in processes.log("works"))
    machine, meter = Machine(), Meter(round_seconds=0.5)
    machine.listing.look()
    server = machine.processes[shell.pid]
    [timeout] = psutil.Process(shell.pid).children()
    [program] = timeout.children()
    first = wait_for("its memory", lambda: measured(meter, machine, server))
    assert first.cpu is None and first.memory is not None
    assert 300 * MIB <= first.memory <= 350 * MIB
    began, spent = time.monotonic(), sum(program.cpu_times()[:2])

    def burns() -> bool:
        used = measured(meter, machine, server)
        share = (sum(program.cpu_times()[:2]) - spent) / (time.monotonic() - began)
        return used is not None and used.cpu is not None and used.cpu > 50 * share > 0

    wait_for("what it burns", burns)
    program.kill()  # who ends the shell does not end it


def test_who_has_very_many_processes_makes_no_look_longer_and_is_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look reads a slice of them, and what others have comes meanwhile."""
    looks, asked = 0, list[int]()

    def read_slice(waiting: Any, before: object, number: int) -> list[Usage]:
        found = [next(waiting) for _ in range(min(64, len(list(waiting_now[0]))))]
        return [usage(each.pid, own=1, memory=7) for each in found]

    class Listing:
        def __init__(self) -> None:
            many = [SimpleNamespace(pid=pid, uid=1) for pid in range(100, 10_100)]
            theirs = {1: many, 2: [SimpleNamespace(pid=50, uid=2)]}
            self.by_user = SimpleNamespace(of=theirs.__getitem__)
            self.by_parent = SimpleNamespace(of=lambda pid: [])

    def ask(uid: int, what: str, call: Any) -> Any:
        asked.append(uid)
        waiting_now[0] = meter._users[uid].queue or []
        return call()

    waiting_now: list[Any] = [[]]
    monkeypatch.setattr(meter_module, "ask", ask)
    monkeypatch.setattr(meter_module, "read_slice", read_slice)
    machine, meter = machine_of(Listing()), Meter()
    servers = [SimpleNamespace(pid=100, uid=1, identity="a"), SimpleNamespace(pid=50, uid=2)]
    servers[1].identity = "b"
    told: list[Any] = [None, None]
    while told[0] is None:
        for server in servers:
            meter.of(cast(Process, server), None)
        meter._account.left = 0.002
        meter.go_on(machine)
        looks += 1
        told = [meter.of(cast(Process, server), None) for server in servers]
        assert told[1] is not None or looks < 3
    assert looks > 1 and asked.count(2) == 1
    assert told == [Used(7, None), Used(7, None)]


def test_however_many_users_there_are_a_look_ends_soon_and_all_have_their_turn(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, asked = [time.monotonic() + 3600], list[int]()

    def ask(uid: int, what: str, call: object) -> list[Usage]:
        asked.append(uid)
        now[0] += SLICE_SECONDS
        return [usage(uid, memory=7)]

    monkeypatch.setattr(meter_module, "ask", ask)
    monkeypatch.setattr(meter_module, "time", SimpleNamespace(monotonic=lambda: now[0]))
    monkeypatch.setattr(meter_module, "work", lambda: 0.0)
    processes = {uid: [SimpleNamespace(pid=uid, uid=uid, identity=uid)] for uid in range(1, 301)}
    by_user = SimpleNamespace(of=processes.__getitem__)
    listing = SimpleNamespace(by_user=by_user, by_parent=SimpleNamespace(of=lambda pid: []))
    machine, meter = machine_of(listing), Meter()
    while len(asked) < len(processes):
        began = now[0]
        for [each] in processes.values():
            meter.of(cast(Process, each), None)
        meter.go_on(machine)
        assert 0 < now[0] - began <= ASKING_SECONDS + SLICE_SECONDS
    assert len({*asked}) == len(asked)


def test_what_another_thread_asks_counts_as_the_time_of_the_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As with the processes of who has very many: to add up the memory of each takes the kernel
    long, and that is done by the door's thread."""
    asked, spent = 0, 0.0

    def read_slice(processes: Any, before: object, number: int) -> list[None]:
        nonlocal asked, spent
        began, asked = time.thread_time(), asked + 1
        while (took := time.thread_time() - began) < SLICE_SECONDS:
            pass
        spent += took
        return [None for _, _ in zip(processes, range(1), strict=False)]

    monkeypatch.setattr(meter_module, "read_slice", read_slice)
    many = [SimpleNamespace(pid=pid, uid=1, identity=pid) for pid in range(100)]
    by_user = SimpleNamespace(of=lambda uid: many)
    listing = SimpleNamespace(by_user=by_user, by_parent=SimpleNamespace(of=lambda pid: []))
    machine, meter = machine_of(listing), Meter()
    meter.of(cast(Process, many[0]), None)
    meter.go_on(machine)
    assert 0 < asked <= LOOK_SECONDS / SLICE_SECONDS + 1
    assert meter._account.left <= MOST_SECONDS - spent


def test_a_look_that_is_made_for_some_measures_nothing_and_forgets_nobody(
    processes: Processes,
) -> None:
    sleep = processes.start(["sleep", "600"], "sleep")
    machine, meter = Machine(), Meter(round_seconds=0)
    machine.listing.look()
    server = machine.processes[sleep.pid]
    first = wait_for("its memory", lambda: measured(meter, machine, server))
    number = meter._users[0].number
    machine.made_for = {1}
    meter.go_on(machine)
    assert meter._users[0].number == number
    # Nor does one in which there is no time for a session
    machine.made_for = frozenset()
    meter.go_on(machine)
    meter.go_on(machine)
    wait_for(
        "another round",
        lambda: measured(meter, machine, server) and meter._users[0].number > number,
    )
    told = meter.of(server, None)
    assert told is not None and told.memory == first.memory


def test_processes_that_cannot_be_asked_now_are_asked_at_the_next_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, meter = Machine(), Meter()
    machine.listing.look()
    server = machine.processes[os.getpid()]

    def refuse(*_: object) -> None:
        raise Unanswered("its processes")

    with monkeypatch.context() as patch:
        patch.setattr(meter_module, "ask", refuse)
        assert measured(meter, machine, server) is None
    assert wait_for("its memory", lambda: measured(meter, machine, server))


def test_processes_of_others_that_hang_cost_the_session_above_them_nothing(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What su(1) has started is its user's, who can let the memory of each process be locked."""
    needs_root()
    change = (
        "import os; os.setuid(1); print('ready', flush=True); os.execlp('sleep', 'sleep', '600')"
    )
    shell = processes.start(["sh", "-c", f'python3 -c "{change}"; true'], "shell")
    wait_for("another user's", lambda: "ready" in processes.log("shell"))
    [other] = psutil.Process(shell.pid).children()
    wait_for("its program", lambda: other.name() == "sleep")
    machine, meter, door = Machine(), Meter(round_seconds=0), Door()
    monkeypatch.setattr(meter_module, "ask", door.ask)
    machine.listing.look()
    server = machine.processes[shell.pid]
    assert machine.processes[other.pid].uid == 1
    first = wait_for("its memory", lambda: measured(meter, machine, server))
    released, answer = threading.Event(), usage_module._read

    def hang(pid: int, name: str) -> bytes:
        if pid == other.pid:
            released.wait(60)
        return answer(pid, name)

    monkeypatch.setattr(usage_module, "_read", hang)
    try:
        number = meter._users[0].number
        wait_for("another round", lambda: measured(meter, machine, server)
                 and meter._users[0].number > number)  # fmt: skip
        assert meter.of(server, None) == Used(first.memory, 0)
        assert door.unanswered().keys() == {1} and door.ask(0, "this", lambda: 7) == 7
    finally:
        released.set()


def test_a_process_that_has_ended_is_left_out(processes: Processes) -> None:
    child = started(subprocess.Popen(["sleep", "600"]))
    machine, meter = Machine(), Meter(round_seconds=0)
    machine.listing.look()
    server = machine.processes[child.pid]
    assert wait_for("its memory", lambda: measured(meter, machine, server))
    child.kill()
    child.wait()
    wait_for("its end", lambda: measured(meter, machine, server) is None)
