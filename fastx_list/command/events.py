"""``fastx-list events`` prints what has happened; ``fastx-list deliver`` sends it on."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import click

from fastx_list import config
from fastx_list.command.history import When
from fastx_list.command.sinks import AT_ONCE, POLL_SECONDS, Deliverer, sinks_of
from fastx_list.command.stop import Stop, interrupt, say_ready
from fastx_list.command.terminal import echo_json
from fastx_list.config import PREFIX
from fastx_list.model.event import Event, encode_event
from fastx_list.store import open_store
from fastx_list.store.archive import Archive


class Place(click.ParamType[object]):
    """A moment, or the id of an event."""

    name = "time|id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and re.fullmatch(r"[0-9]+(-[0-9]+)?-[0-9a-f]{16}", value):
            return value
        return When().convert(value, param, ctx)


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--since",
    type=Place(),
    help="Only what happened since then, such as 12h or 2026-11-27, or after the event with this"
    " id. Without it all that is kept, or, with --follow, only what happens.",
)
def events(follow: bool, since: int | str | None) -> None:
    """Print what has happened, one JSON object a line: sessions that began and ended, clients that
    came and left, params, tokens, and servers that came and were lost."""
    settings = config.load()
    try:
        interrupt()
        with closing(open_store(settings.store, create=False, keep=settings.keep)) as store:
            place = since if isinstance(since, str) else None
            if follow and since is None:
                place = store.archive.last_event()
            stop = Stop() if follow else None
            while True:
                for event in _all_after(store.archive, place):
                    place = event.id
                    if not isinstance(since, int) or event.at >= since:
                        echo_json(encode_event(event))
                if stop is None or stop.wait(POLL_SECONDS):
                    return
    except (KeyboardInterrupt, BrokenPipeError):
        pass


def _all_after(archive: Archive, place: str | None) -> Iterator[Event]:
    while (found := archive.events(place, AT_ONCE)).events or found.has_gap:
        if found.has_gap:
            click.echo("not all events up to here are kept (any more)", err=True)
        if not found.events:
            return
        yield from found.events
        place = found.events[-1].id


@click.command()
def deliver() -> None:
    """Send what happens to where FASTX_LIST_EVENTS and FASTX_LIST_WEBHOOK say, until stopped; also
    what has happened since it last ran."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    settings = config.load()
    sinks = sinks_of(settings)
    if not sinks:
        raise config.SettingsError(f"set {PREFIX}EVENTS or {PREFIX}WEBHOOK: where to deliver to")
    stop = Stop()
    with (
        closing(open_store(settings.store, keep=settings.keep)) as store,
        Deliverer(settings, store.archive, sinks) as deliverer,
    ):
        pause = deliverer.turn()
        say_ready()  # what happens from now on is sent
        while not stop.wait(pause):
            pause = deliverer.turn()
