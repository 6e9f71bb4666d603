"""The kinds of session, one file each, and which of them the agent looks for.

Other packages add kinds through the entry point group ``fastx_list.sources``; docs/sessions.md has
a complete example.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from importlib.metadata import EntryPoint, entry_points

from fastx_list.agent.facts import Source
from fastx_list.agent.sources.plain import Xephyr, Xorg, Xvfb
from fastx_list.agent.sources.spool import Spool
from fastx_list.agent.sources.tigervnc import TigerVnc
from fastx_list.agent.sources.x2go import X2Go
from fastx_list.agent.sources.xpra import Xpra
from fastx_list.agent.sources.xrdp import Xrdp
from fastx_list.agent.xserver import XServers
from fastx_list.config import PREFIX, ConfigError, Settings

GROUP = "fastx_list.sources"
# The first to claim a process has it, so the more particular kinds come first.
_PARTICULAR: dict[str, type[XServers]] = {"xrdp": Xrdp, "xpra": Xpra, "x2go": X2Go}
_GENERAL: dict[str, type[XServers]] = {
    "tigervnc": TigerVnc,
    "xvfb": Xvfb,
    "xephyr": Xephyr,
    "xorg": Xorg,
}
USUAL = ("xrdp", "xpra", "x2go", "tigervnc", "spool")

log = logging.getLogger(__name__)


def load_sources(settings: Settings) -> list[Source]:
    """Return the sources that ``settings`` ask for. Raises :class:`ConfigError` if one is not
    known."""
    others = {point.name: point for point in entry_points(group=GROUP)}
    known = {*_PARTICULAR, *others, *_GENERAL, "spool"}
    wanted = {*USUAL, *others} if settings.sources is None else set(settings.sources)
    if not wanted <= known:
        raise ConfigError(
            f"{PREFIX}SOURCES takes names out of {' '.join(sorted(known))}, not"
            f" {' '.join(sorted(wanted - known))}"
        )
    sources: list[Source] = [kind(listed=name in wanted) for name, kind in _PARTICULAR.items()]
    sources += _load_others([point for name, point in others.items() if name in wanted])
    sources += [kind(listed=name in wanted) for name, kind in _GENERAL.items()]
    if "spool" in wanted:
        sources.append(Spool(settings.spool))
    return sources


def _load_others(points: Sequence[EntryPoint]) -> list[Source]:
    """Return other packages' sources; one that cannot be loaded costs the rest nothing."""
    loaded: list[Source] = []
    for point in points:
        try:
            make: Callable[[], Source] = point.load()
            loaded.append(make())
        except Exception:
            log.exception(
                "the source %s (%s) cannot be loaded; its sessions are not listed",
                point.name,
                point.value,
            )
    return loaded
