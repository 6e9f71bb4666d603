"""The table of faults, and what they share."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from tests.chaos.world import World

BOTH = ("sqlite", "redis")
OVER = 1.4  # leases, for what is to last longer than one
UNDER = 0.4  # of a lease, for what is to be over before


class Fault(NamedTuple):
    """One kind."""

    name: str
    stores: tuple[str, ...]
    weight: int  # how often it comes beside the others
    is_quick: bool  # whether it is among those of the suite
    do: Callable[[World], AbstractContextManager[None]]


FAULTS: dict[str, Fault] = {}


def fault(
    *stores: str, weight: int = 4, is_quick: bool = True
) -> Callable[[Callable[[World], Iterator[None]]], Callable[[World], Iterator[None]]]:
    """Put a function into the table, under its own name; ``stores`` are those that have it."""

    def enter(do: Callable[[World], Iterator[None]]) -> Callable[[World], Iterator[None]]:
        name = do.__name__
        FAULTS[name] = Fault(name, stores or BOTH, weight, is_quick, contextmanager(do))
        return do

    return enter


def fitting(store: str, is_quick: bool = False) -> list[Fault]:
    """Return the faults of this kind of store."""
    return [
        each for each in FAULTS.values() if store in each.stores and (each.is_quick or not is_quick)
    ]


def hold(world: World, leases: float = OVER) -> None:
    """Let time pass: that is what the fault is."""
    time.sleep(leases * world.truth.lease)


def hold_until_stale(world: World) -> None:
    """Let so much time pass that nothing old may be shown without a warning, and then look on for
    a moment."""
    time.sleep(world.truth.stale + 1.5)
