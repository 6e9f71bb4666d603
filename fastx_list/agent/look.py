"""Looking: what the sources see on this machine now."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.machine import Machine

log = logging.getLogger(__name__)


class Look:
    """Asks the sources, again and again."""

    def __init__(self, sources: Sequence[Source]) -> None:
        # What the sources look at.
        self.machine = Machine()
        # In the order in which they may claim processes.
        self._sources = sources
        # What each source said when it last succeeded.
        self._said: dict[Source, list[Facts]] = {}
        # The sources that failed at this look.
        self._failing: set[Source] = set()

    def take(self) -> list[Facts]:
        """Look once, and return what all sources see."""
        self.machine.look()
        return [facts for source in self._sources for facts in self._ask(source)]

    @property
    def all_answered(self) -> bool:
        """Whether every source has succeeded at least once."""
        return all(source in self._said for source in self._sources)

    def _ask(self, source: Source) -> list[Facts]:
        """Return what ``source`` sees. One that fails costs the others nothing, and its sessions
        stay as they were."""
        try:
            self._said[source] = list(source.scan(self.machine))
        except Exception:
            if source not in self._failing:
                log.exception(
                    "the source %s failed; its sessions stay as they were", type(source).__name__
                )
            self._failing.add(source)
        else:
            self._failing.discard(source)
        return self._said.get(source, [])
