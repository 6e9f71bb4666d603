"""Looking: what the sources see on this machine now."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from fastx_list.agent.facts import Facts, Source
from fastx_list.agent.machine import Machine

log = logging.getLogger(__name__)


class Look:
    """Asks the sources, again and again."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        # What the sources look at.
        self.machine = Machine()
        # By their names, in the order in which they claim processes.
        self._sources = sources
        # What each source saw when it last succeeded.
        self._facts: dict[str, list[Facts]] = {}
        # The sources that failed at their last look.
        self._failing: set[str] = set()

    def take(self) -> list[Facts]:
        """Look once, and return what all sources see. One that fails costs the others nothing, and
        its sessions stay as they were."""
        self.machine.look()
        for name, source in self._sources.items():
            try:
                self._facts[name] = list(source.scan(self.machine))
            except Exception:
                if name not in self._failing:
                    log.exception("the source %s failed; its sessions stay as they were", name)
                self._failing.add(name)
            else:
                self._failing.discard(name)
        return [facts for name in self._sources for facts in self._facts.get(name, [])]

    @property
    def all_answered(self) -> bool:
        """Whether every source has succeeded at least once."""
        return self._sources.keys() == self._facts.keys()
