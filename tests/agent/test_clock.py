from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fastx_list.agent import clock
from tests.support import Service, end, program, wait_for


def test_the_boot_is_at_one_moment_until_the_clock_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    wall, began = time.time, time.time()
    clocks = clock.Clock()
    booted = clocks.read()
    assert abs(booted + time.clock_gettime(time.CLOCK_BOOTTIME) - began) < 60
    for by, expected in ((1.5, 0), (-1.5, 0), (7200, 7200), (7201.5, 7200), (0, 0)):
        monkeypatch.setattr(time, "time", lambda by=by: wall() + by)
        assert clocks.read() - booted == pytest.approx(expected, abs=1.9)
        assert clocks.read() == clocks.read()


def test_who_is_stopped_between_two_clocks_reads_them_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clocks, since_boot, stops = clock.Clock(), time.clock_gettime, [0.0, 3600.0, 0.0, 3600.0]
    booted = clocks.read()
    late = 0.0

    def stopped(kind: int) -> float:
        nonlocal late
        late += stops.pop(0) if stops else 0.0
        return since_boot(kind) + late

    wall = time.time
    monkeypatch.setattr(time, "clock_gettime", stopped)
    monkeypatch.setattr(time, "time", lambda: wall() + late)
    assert clocks.read() == booted


@pytest.fixture
def display(service: Service) -> subprocess.Popen[bytes]:
    """An X server that is listed as a session."""
    return service.processes.start(
        [program("Xvfb", "xvfb"), "-displayfd", "1", "-screen", "0", "64x64x8"],
        "xvfb",
        service.environ,
    )


def test_when_a_clock_is_put_right_so_are_the_times_of_all_sessions(
    service: Service, display: subprocess.Popen[bytes]
) -> None:
    program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    offset, spool = service.state / "offset", service.state / "spool"
    spool.mkdir(parents=True)
    service.environ["FASTX_LIST_SOURCES"] = "spool,xvfb"
    faked = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }

    def set_clock(hours: int) -> None:
        offset.with_suffix(".new").write_text(f"{hours:+d}h\n")
        offset.with_suffix(".new").rename(offset)

    def start_agent() -> None:
        command = [sys.executable, "-m", "fastx_list", "agent"]
        environ = {**service.environ, **faked}
        service.running["agent"] = service.processes.start(command, "agent", environ)

    def write(clients: int) -> None:
        said = {"login": "alice", "display": 9, "clients": clients}
        (spool / "new").write_text(json.dumps(said))
        (spool / "new").rename(spool / "a.json")

    def hours(member: str, session: str) -> float | None:
        """Return how far a moment is from now, by the right clock."""
        served_by = None if session == "spool" else display.pid
        for each in service.stored():
            if each["serverPid"] == served_by and each[member] is not None:
                return float((each[member] / 1000 - time.time()) / 3600)
        return None

    def wait_until(member: str, session: str, expected: float) -> None:
        def is_so() -> bool:
            found = hours(member, session)
            return found is not None and abs(found - expected) < 0.5

        wait_for(f"{member} at {expected} h", is_so)

    set_clock(24)
    write(0)
    start_agent()
    wait_until("started", "xvfb", 24)
    write(1)
    wait_until("lastConnect", "spool", 24)
    set_clock(0)
    wait_until("started", "xvfb", 0)
    wait_until("lastConnect", "spool", 0)
    set_clock(-2)
    wait_until("started", "xvfb", -2)
    wait_until("lastConnect", "spool", -2)
    write(0)
    wait_until("lastDisconnect", "spool", -2)
    set_clock(24)
    wait_until("started", "xvfb", 24)
    end(service.running["agent"])
    set_clock(0)
    start_agent()
    wait_until("started", "xvfb", 0)
    wait_until("lastConnect", "spool", 0)
    wait_until("lastDisconnect", "spool", 0)
