"""Viewers that another user's gnome-remote-desktop hands over, among others that only look so."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sources.wayland import GNOME_BRIDGE, Bridge

PORT, VIEWER = 3389, 7


def named(*args: str, network: str | None = "ours", runs: bool = True) -> Any:
    return SimpleNamespace(
        args=[GNOME_BRIDGE, *args],
        network=network,
        runs=runs,
        stat=SimpleNamespace(name=GNOME_BRIDGE[:15]),
        is_young=True,
    )


class Simulated:
    """A machine on which ``processes`` run, and a viewer of the one that is handed viewers."""

    def __init__(self, *processes: Any) -> None:
        self._processes = processes

    def named(self, names: object) -> tuple[Any, ...]:
        return self._processes

    def waits_at(self, process: Any) -> frozenset[int] | None:
        if "--handover" in process.args:
            return frozenset()
        return frozenset([PORT]) if process.network == "ours" and process.runs else None

    def still_runs(self, process: Any) -> bool:
        return bool(process.runs)

    def sockets(self, process: Any) -> Any:
        return SimpleNamespace(
            tcp_clients=lambda port, least: frozenset([VIEWER] if port == PORT else []),
            unix_clients=lambda path: frozenset(),
            unix_listeners=lambda path: {},
        )

    def own_listeners(self, process: Any, makers: object) -> frozenset[int]:
        return frozenset()

    def opened(self, process: Any, inodes: frozenset[int]) -> frozenset[int]:
        return inodes


def viewers(*others: Any) -> frozenset[int] | None:
    machine = cast(Machine, Simulated(*others))
    bridge = Bridge(cast(Process, named("--handover")))
    bridge.follow(machine)
    return bridge.connections(machine)


def test_who_hands_over_says_where_viewers_come_in() -> None:
    assert viewers(named("--system")) == frozenset([VIEWER])
    assert viewers(named("--system"), named("--headless")) == frozenset([VIEWER])


@pytest.mark.parametrize(
    "forged", [named("--system", network="theirs"), named("--system", network=None, runs=False)]
)
def test_one_who_only_looks_so_hides_no_viewers(forged: Any) -> None:
    assert viewers(named("--system"), forged) == frozenset([VIEWER])


def test_one_of_whom_nothing_may_be_known_leaves_it_unknown() -> None:
    assert viewers(named("--system", network=None)) is None
