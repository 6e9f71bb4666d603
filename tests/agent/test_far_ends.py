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

    holds: Mapping[str, set[int]] = field(default_factory=dict)  # by the process's name
    ends: dict[int, OtherEnd] = field(default_factory=dict)
    accepted: frozenset[int] = frozenset()
    asked: int = 0
    is_busy: bool = False
    most: int = 10_000  # that there is time to ask about

    def __post_init__(self) -> None:
        self.relays = Relays()
        self.limits = SimpleNamespace(
            spending=lambda payer: nullcontext(), has_time=lambda: self.asked < self.most
        )
        self.processes = [
            SimpleNamespace(pid=pid, payer=7, stat=SimpleNamespace(name=name))
            for pid, name in enumerate(self.holds, start=2)
        ]
        self.listing = SimpleNamespace(by_user=SimpleNamespace(of=lambda uid: self.processes))

    def sockets(self, process: Any) -> Any:
        return self

    def other_end(self, inode: int) -> OtherEnd | None:
        self.asked += 1
        if self.is_busy:
            raise Unanswered("the sockets")
        return self.ends.get(inode)

    def tcp_accepted(self) -> frozenset[int]:
        return self.accepted

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
    machine = Simulated(holds, ends, frozenset(each for some in accepted.values() for each in some))
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
