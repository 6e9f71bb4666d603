"""The kinds of session, one file each, and which of them the agent looks for.

Other packages add kinds through the entry point group ``fastx_list.sources``; docs/sessions.md has
a complete example.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from importlib.metadata import EntryPoint, entry_points
from typing import NamedTuple

from fastx_list.agent.facts import Source
from fastx_list.agent.sources.other import Other
from fastx_list.agent.sources.plain import Xephyr, Xorg, Xvfb
from fastx_list.agent.sources.spool import Spool
from fastx_list.agent.sources.tigervnc import TigerVnc
from fastx_list.agent.sources.wayland import Wayland
from fastx_list.agent.sources.x2go import X2Go
from fastx_list.agent.sources.xpra import Xpra
from fastx_list.agent.sources.xrdp import Xrdp
from fastx_list.agent.xserver import XServers
from fastx_list.config import PREFIX, Settings, SettingsError
from fastx_list.state import machine_mark

GROUP = "fastx_list.sources"
SPOOL = "spool"

log = logging.getLogger(__name__)


class Kind(NamedTuple):
    """One of our own kinds of X server."""

    source: type[XServers]
    is_usual: bool  # whether it is looked for where the settings name none
    takes_any: bool  # whether it takes every X server of its programs that is left


# The first to claim a process has it. Other packages' kinds come before those that take any.
KINDS = {
    "xrdp": Kind(Xrdp, is_usual=True, takes_any=False),
    "xpra": Kind(Xpra, is_usual=True, takes_any=False),
    "x2go": Kind(X2Go, is_usual=True, takes_any=False),
    "wayland": Kind(Wayland, is_usual=True, takes_any=False),
    "tigervnc": Kind(TigerVnc, is_usual=True, takes_any=True),
    "other": Kind(Other, is_usual=True, takes_any=True),
    "xvfb": Kind(Xvfb, is_usual=False, takes_any=True),
    "xephyr": Kind(Xephyr, is_usual=False, takes_any=True),
    "xorg": Kind(Xorg, is_usual=False, takes_any=True),
}


def load_sources(settings: Settings) -> dict[str, Source]:
    """Return the sources that ``settings`` ask for by their names, in the order in which they claim
    processes. Raises :class:`SettingsError` if a name is not known.

    Our own kinds of X server are there even if they are not asked for: see
    :attr:`XServers.listed`.
    """
    others = {point.name: point for point in entry_points(group=GROUP)}
    known = {*KINDS, *others, SPOOL}
    usual = {name for name, kind in KINDS.items() if kind.is_usual}
    wanted = {*usual, *others, SPOOL} if settings.sources is None else set(settings.sources)
    if not wanted <= known:
        raise SettingsError(
            f"{PREFIX}SOURCES takes names out of {' '.join(sorted(known))}, not"
            f" {' '.join(sorted(wanted - known))}"
        )

    def ours(takes_any: bool) -> dict[str, Source]:
        return {
            name: kind.source(listed=name in wanted)
            for name, kind in KINDS.items()
            if kind.takes_any == takes_any
        }

    sources = ours(False) | _load(point for name, point in others.items() if name in wanted)
    sources |= ours(True)
    if SPOOL in wanted:
        directory, name = settings.state_dir, "spool-processes"
        sources[SPOOL] = Spool(
            settings.spool,
            directory / f"{name}{machine_mark()}.json",
            earlier=directory / f"{name}.json",
        )
    return sources


def _load(points: Iterable[EntryPoint]) -> dict[str, Source]:
    """Return other packages' sources; one that cannot be loaded costs the rest nothing."""
    loaded: dict[str, Source] = {}
    for point in points:
        try:
            if point.name in KINDS or point.name == SPOOL:
                raise ValueError(f"the name {point.name} is taken by one of ours")
            make: Callable[[], Source] = point.load()
            loaded[point.name] = make()
        except Exception:
            log.exception(
                "the source %s (%s) cannot be loaded; its sessions are not listed",
                point.name,
                point.value,
            )
    return loaded
