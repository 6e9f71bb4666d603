"""What looks at X servers in the process of a test, and leaves them."""

from __future__ import annotations

from collections.abc import Iterable

from fastx_list.agent.keep import Agent
from fastx_list.agent.machine import Machine
from fastx_list.agent.xserver import XServers


def leave(sources: Iterable[object], machine: Machine) -> None:
    """Close the connections that ``sources`` have to X servers."""
    for source in sources:
        if isinstance(source, XServers):
            source.close(machine)


class Watching(Agent):
    """An agent that leaves the X servers when a test is over."""

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *error: object) -> None:
        leave(self.look._sources.values(), self.look.machine)
