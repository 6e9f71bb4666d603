"""From a socket to the process that has it open."""

from __future__ import annotations

import os
import socket
import time

import pytest

from fastx_list.agent.holders import AGAIN_LOOKS, Holders
from fastx_list.agent.limits import LOGIN_SECONDS, Limits
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, Stat
from fastx_list.agent.started_with import args_in
from tests.support import Processes


def look() -> Machine:
    machine = Machine(Limits(5))
    machine.look()
    return machine


def inode(of: socket.socket) -> int:
    return os.fstat(of.fileno()).st_ino


def test_a_socket_is_its_process_and_not_who_has_inherited_it(processes: Processes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        processes.start(["/bin/sleep", "600"], "child", pass_fds=[server.fileno()])
        found = Holders().find({inode(server): os.geteuid()}, look())
        assert {each: holder.pid for each, holder in found.items()} == {inode(server): os.getpid()}


def test_a_socket_that_somebody_else_has_made_or_nobody_knows_who_has_no_holder() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for maker in (None, 4_000_000):
            assert Holders().find({inode(server): maker}, look()) == {}


def test_what_was_found_is_not_looked_for_again_and_what_was_not_is_after_a_while() -> None:
    machine, holders = look(), Holders()
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours, me = {inode(server): os.geteuid()}, machine.processes[os.getpid()]
        machine.listing.take({me.pid: None})
        assert holders.find(ours, machine) == {}
        machine.listing.take({me.pid: me})
        for _ in range(AGAIN_LOOKS):
            assert holders.find(ours, machine) == {}
        assert holders.find(ours, machine) == {inode(server): me}
        machine.own_listeners = lambda *_: None  # type: ignore[method-assign]
        assert holders.find(ours, machine) == {inode(server): me}
        machine.listing.take({me.pid: None})
        assert holders.find(ours, machine) == {}


def test_a_search_for_which_there_is_not_time_enough_in_one_look_goes_on_in_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    machine, holders, now = look(), Holders(), 0.0
    asked: list[int] = []
    for clock in ("thread_time", "perf_counter"):
        monkeypatch.setattr(time, clock, lambda: now)

    def own_listeners(process: Process, makers: object) -> frozenset[int]:
        nonlocal now
        now += LOGIN_SECONDS / 3
        asked.append(process.pid)
        return frozenset({7} if process.pid == 20 else ())

    monkeypatch.setattr(machine, "own_listeners", own_listeners)
    machine.listing.take(
        {pid: Process(pid, 5, Stat("x", "S", 1, 90 - pid)) for pid in range(2, 40)}
    )
    looks, found = 0, dict[int, Process]()
    while not found:
        looks += 1
        machine.limits.begin(is_first=False)
        found = holders.find({7: 5}, machine)
    assert found[7].pid == 20 and looks > 3 and asked == [*range(2, 21)]


def test_of_no_user_more_sockets_are_looked_for_than_may_serve_sessions() -> None:
    machine = look()
    many = dict.fromkeys(range(1, 100), os.geteuid())
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert Holders().find({**many, inode(server): os.geteuid()}, machine) == {}
    assert os.geteuid() in machine.limits.over


def test_a_title_that_is_padded_with_zeros_is_a_command_line() -> None:
    assert args_in(b"xpra start :5" + bytes(300)) == ["xpra", "start", ":5"]
