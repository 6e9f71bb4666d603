"""An agent in the process of a test."""

from __future__ import annotations

from fastx_list.agent.keep import Agent
from fastx_list.agent.xserver import XServers


class Watching(Agent):
    """An agent that leaves the X servers when a test is over."""

    def __enter__(self) -> Watching:
        return self

    def __exit__(self, *error: object) -> None:
        for source in self.look._sources.values():
            if isinstance(source, XServers):
                source.close(self.look.machine)
