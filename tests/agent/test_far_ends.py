"""Where clients come from, of connections that are simulated: real ones are in tests/system."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastx_list.agent.door import Unanswered
from fastx_list.agent.far_ends import ATTEMPTS, MAX_ACCEPTED, FarEnds, Relays
from fastx_list.agent.sockets import OtherEnd

SERVER = cast(Any, SimpleNamespace(pid=1))


@dataclass
class Simulated:
    """A machine with processes that have sockets open, and the other ends of these."""

    # By the process's name, the oldest first
    holds: Mapping[str, set[int]] = field(default_factory=dict)
    parents: Mapping[str, str] = field(default_factory=dict)
    newer: tuple[str, ...] = ()  # have begun since the look has
    ends: dict[int, OtherEnd] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()
    ports: Mapping[int, int] = field(default_factory=dict)  # of those that listen or were accepted
    asked: int = 0
    is_busy: bool = False
    most: int = 10_000  # that there is time to ask about

    def __post_init__(self) -> None:
        self.relays = Relays()
        self.limits = SimpleNamespace(
            spending=lambda payer: nullcontext(), has_time=lambda: self.asked < self.most
        )
        pids = {name: pid for pid, name in enumerate(self.holds, start=2)}
        started = [
            SimpleNamespace(
                pid=pid,
                uid=7,
                payer=7,
                stat=SimpleNamespace(name=name, parent=pids.get(self.parents.get(name, ""), 0)),
            )
            for name, pid in pids.items()
        ]
        older = [each for each in started if each.stat.name not in self.newer]
        self.processes = {each.pid: each for each in older}
        self.listing = SimpleNamespace(
            by_user=SimpleNamespace(of=lambda uid: older),
            newer=lambda: [each for each in started if each.stat.name in self.newer],
        )

    def parent_name(self, process: Any) -> str:
        return self.parents.get(process.stat.name, "")

    def children(self, pid: int) -> list[Any]:
        return [each for each in self.processes.values() if each.stat.parent == pid]

    def sockets(self, process: Any) -> Any:
        return self

    def other_end(self, inode: int) -> OtherEnd | None:
        self.asked += 1
        if self.is_busy:
            raise Unanswered("the sockets")
        return self.ends.get(inode)

    def tcp_accepted(self) -> frozenset[int]:
        return self.accepted

    def tcp_inodes(self) -> Mapping[int, int]:
        return self.ports

    def tcp_listeners(self) -> Mapping[int, Mapping[int, int]]:
        listening = {each: port for each, port in self.ports.items() if each not in self.accepted}
        return {port: {each: 7} for each, port in listening.items()}

    def held_sockets(self, process: Any) -> Any:
        if process.stat.name == "sshd-locked":
            return None
        return [("", inode) for inode in self.holds[process.stat.name]]


def come_from(machine: Simulated, *connections: int) -> tuple[str, ...] | None:
    return FarEnds(SERVER).of(frozenset(connections), cast(Any, machine))


def test_they_are_sorted_and_each_once() -> None:
    ends = {1: OtherEnd("192.0.2.9"), 2: OtherEnd("192.0.2.1"), 3: OtherEnd("192.0.2.9")}
    assert come_from(Simulated(ends=ends), 1, 2, 3) == ("192.0.2.1", "192.0.2.9")
    assert come_from(Simulated()) == ()


def test_what_is_not_known_of_one_is_left_out_and_of_all_it_is_unknown() -> None:
    machine = Simulated(ends={1: OtherEnd("192.0.2.9")})
    assert come_from(machine, 1, 2) == ("192.0.2.9",)
    assert come_from(machine, 2) is None
    assert FarEnds(SERVER).of(None, cast(Any, machine)) is None


def behind(*accepted: str, relay: str = "websockify") -> Simulated:
    """Return a machine on which ``relay`` has made connection 1, and accepted some."""
    numbers = range(100, 100 + len(accepted))
    return Simulated(
        holds={"other": {50, *numbers}, relay: {50, *numbers}},
        ends={
            1: OtherEnd("127.0.0.1", 7, 50),
            **{each: OtherEnd(text) for each, text in zip(numbers, accepted, strict=True)},
        },
        accepted=frozenset(numbers),
    )


@pytest.mark.parametrize(
    "machine, address",
    [
        (behind("192.0.2.9"), "192.0.2.9"),
        (behind("192.0.2.9", "192.0.2.9"), "192.0.2.9"),
        (behind("192.0.2.9", "192.0.2.1"), "127.0.0.1"),
        (behind(), "127.0.0.1"),
        (behind("192.0.2.9", relay="viewer"), "127.0.0.1"),
        (behind("192.0.2.9", relay="sshd-locked"), "127.0.0.1"),
        (behind(*["192.0.2.9"] * (MAX_ACCEPTED + 1)), "127.0.0.1"),
    ],
    ids=["one", "one twice", "of several", "none", "no relay", "closed", "too many"],
)
def test_behind_a_relay_it_is_where_all_that_it_has_accepted_comes_from(
    machine: Simulated, address: str
) -> None:
    assert come_from(machine, 1) == (address,)


OVER_SSH = {"xpra": "sh", "sh": "sshd-session"}


def test_of_what_somebody_runs_over_ssh_it_is_where_they_come_from() -> None:
    ends = {1: OtherEnd("local", 7, 50), 100: OtherEnd("192.0.2.9")}
    holds = {"sshd-session": {100}, "sh": set[int](), "xpra": {50}}
    machine = Simulated(holds, OVER_SSH, ends=ends, accepted=frozenset({100}))
    assert come_from(machine, 1) == ("192.0.2.9",)
    machine.parents = {**OVER_SSH, "sh": "bash"}
    machine.__post_init__()
    assert come_from(machine, 1) == ("local",)


def test_whatever_it_is_called() -> None:
    ends = {1: OtherEnd("127.0.0.1", 7, 50), 100: OtherEnd("192.0.2.9")}
    holds: dict[str, set[int]] = {"sshd-session": {100}, "forward": {50}}
    parents = {"forward": "sshd-session"}
    machine = Simulated(holds, parents, ends=ends, accepted=frozenset({100}))
    assert come_from(machine, 1) == ("192.0.2.9",)


def test_what_a_server_of_ssh_has_accepted_for_a_tunnel_the_other_way_is_no_client_of_it() -> None:
    ends = {1: OtherEnd("127.0.0.1", 7, 50), 100: OtherEnd("192.0.2.9"), 101: OtherEnd("127.0.0.1")}
    holds, ports = {"sshd": {50, 100, 101, 60}}, {100: 22, 101: 6010, 60: 6010}
    machine = Simulated(holds, ends=ends, accepted=frozenset({100, 101}), ports=ports)
    assert come_from(machine, 1) == ("192.0.2.9",)


def test_what_was_there_when_a_relay_forked_is_its_elders() -> None:
    ends = {1: OtherEnd("127.0.0.1", 7, 50), 2: OtherEnd("127.0.0.1", 7, 51)}
    ends |= {100: OtherEnd("192.0.2.1"), 101: OtherEnd("192.0.2.9")}
    holds = {"guacd": {100, 101}, "vnc": {100, 50}, "vnc 2": {100, 101, 51}}
    parents = {"vnc": "guacd", "vnc 2": "guacd"}
    machine = Simulated(holds, parents, ends=ends, accepted=frozenset({100, 101}))
    assert come_from(machine, 1) == ("192.0.2.1",)
    assert come_from(machine, 2) == ("192.0.2.9",)
    holds["vnc"].add(101)  # as if both had come at once: nobody can tell whose is which
    machine.relays.begin()
    assert come_from(machine, 1) == come_from(machine, 2) == ("127.0.0.1",)


def test_a_relay_may_have_begun_while_others_were_looked_at() -> None:
    """What is missed when a client comes would be told for as long as it stays."""
    machine = behind("192.0.2.9")
    machine.newer = ("websockify",)
    machine.__post_init__()
    assert come_from(machine, 1) == ("192.0.2.9",)


def test_relays_may_be_behind_relays_and_go_round_in_no_circle() -> None:
    machine = behind("192.0.2.9")
    machine.ends[100] = OtherEnd("127.0.0.1", 7, 50)
    assert come_from(machine, 1) == ("127.0.0.1",)
    assert machine.asked < 10


def test_relays_with_many_connections_each_are_gone_through_once() -> None:
    """A user could make one connection cost as much as there are ways through three relays."""
    made = [range(start, start + MAX_ACCEPTED) for start in (200, 400)]
    names = {"xrdp": 100, "python": 300, "guacd": 500}
    accepted = {name: range(start, start + MAX_ACCEPTED) for name, start in names.items()}
    ends = {1: OtherEnd("127.0.0.1", 7, 50)} | {n: OtherEnd("192.0.2.9") for n in accepted["guacd"]}
    for name, theirs in zip(("xrdp", "python"), made, strict=True):
        ends |= {
            n: OtherEnd("127.0.0.1", 7, far) for n, far in zip(accepted[name], theirs, strict=True)
        }
    opened = {"xrdp": [50], "python": made[0], "guacd": made[1]}
    holds = {name: {*opened[name], *accepted[name]} for name in accepted}
    machine = Simulated(
        holds, ends=ends, accepted=frozenset(each for some in accepted.values() for each in some)
    )
    assert come_from(machine, 1) == ("192.0.2.9",)
    assert machine.asked == 1 + 3 * MAX_ACCEPTED


def test_of_very_many_connections_the_rest_has_its_turn_in_later_looks() -> None:
    ends = {inode: OtherEnd(f"192.0.2.{inode}") for inode in range(30)}
    machine, far_ends = Simulated(ends=ends, most=10), FarEnds(SERVER)
    for most in (*range(10, 40, 10), 40):
        machine.most = most
        known = far_ends.of(frozenset(ends), cast(Any, machine)) or ()
        assert len(known) == min(most, 30) == machine.asked


def test_a_connection_is_asked_about_once_unless_it_cannot_be_known_now() -> None:
    machine, far_ends = behind("192.0.2.9"), FarEnds(SERVER)
    machine.is_busy = True
    assert far_ends.of(frozenset({1}), cast(Any, machine)) is None
    machine.is_busy = False
    assert far_ends.of(frozenset({1}), cast(Any, machine)) == ("192.0.2.9",)
    asked = machine.asked
    assert far_ends.of(frozenset({1}), cast(Any, machine)) == ("192.0.2.9",)
    assert far_ends.of(frozenset({1, 2}), cast(Any, machine)) == ("192.0.2.9",)
    assert machine.asked == asked + 1
    machine.is_busy = True
    for _ in range(2 * ATTEMPTS):
        assert far_ends.of(frozenset({1, 3}), cast(Any, machine)) == ("192.0.2.9",)
    assert machine.asked == asked + 1 + ATTEMPTS
