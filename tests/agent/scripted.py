"""A source that says what a test wants, and what the store then lists."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastx_list.agent.facts import Facts
from fastx_list.agent.machine import Machine
from fastx_list.model.session import Session, decode
from fastx_list.store import Store


class Scripted:
    """A source that sees what a test says, at moments that no real session can be made to keep."""

    def __init__(self, *facts: Facts) -> None:
        self.facts: list[Facts] = list(facts)
        self.broken = False

    def scan(self, machine: Machine) -> Iterable[Facts]:
        if self.broken:
            raise RuntimeError("broken")
        return list(self.facts)


def facts(identity: str = "x", **more: Any) -> Facts:
    return Facts(
        identity=identity,
        **{"login": "alice", "clients": 0, "started": 1000, "server_pid": 5, **more},
    )


def listed(store: Store) -> dict[str, Session]:
    return {
        record.id: decode(record.text)
        for record in store.snapshot().records
        if record.text is not None
    }


def only(store: Store) -> Session:
    [session] = listed(store).values()
    return session
