"""``fastx-list events`` prints what has happened; ``fastx-list deliver`` sends it on."""

from __future__ import annotations

import logging
import sys
from contextlib import closing
from typing import Any

import click

from fastx_list import config
from fastx_list.command.history import When
from fastx_list.command.listing import Filters, whose_of, whose_options
from fastx_list.command.sinks import Deliverer, sinks_of
from fastx_list.command.source import Asked, Away, Found, Source, Whose, source_of, warn
from fastx_list.command.stop import Stop, interrupt, say_ready
from fastx_list.command.terminal import echo_json
from fastx_list.config import PREFIX
from fastx_list.model.event import is_event_id
from fastx_list.model.json import to_json
from fastx_list.store import open_store

AT_ONCE = 1000  # events that are asked for
POLL_SECONDS = 1.0  # between two questions of who follows


class Place(When):
    """A moment, or the id of an event."""

    name = "time|id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if is_event_id(value):
            return value
        return super().convert(value, param, ctx)


@click.command()
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C.")
@click.option(
    "--since",
    type=Place(),
    help="Only what happened since then, such as 12h or 2026-11-27, or after the event with this"
    " id. Without it all that is kept, or, with --follow, only what happens.",
)
@click.option(
    "--filter",
    "filters",
    multiple=True,
    type=Filters(),
    help="Only those that match: session==ID; repeatable.",
)
@whose_options
def events(
    follow: bool,
    since: int | str | None,
    filters: tuple[str, ...],
    login: str | None,
    everybody: bool,
    url: str | None,
    token_file: str | None,
) -> None:
    """Print what has happened, one JSON object a line: sessions that began and ended, clients that
    came and left, params, tokens, and, with --all, servers that came and were lost."""
    whose = whose_of(login, everybody)
    try:
        interrupt()
        source = source_of(url, token_file, for_programs=True)
        asked: Asked = {"filter": [*filters], "since": since, "limit": AT_ONCE}
        if not follow:
            _print_all(source, whose, asked, None)
            return
        if since is None:
            last = source.events(whose, {"sortReverse": True, "limit": 1}).items
            asked = {**asked, "since": last[0].get("id") if last else None}
        _print_all(source, whose, asked, Stop())
    except (KeyboardInterrupt, BrokenPipeError):
        pass


def _print_all(source: Source, whose: Whose, asked: Asked, stop: Stop | None) -> None:
    """Print the events, and what happens until ``stop``, where that is given."""
    told: str | None = None  # what was warned of last; None before anybody has answered
    while True:
        try:
            found = source.events(whose, asked)
        except Away as error:
            if told is None or stop is None:
                raise
            found = Found([], None, error.message)
        if found.warning != told:
            warn(found)
        told = found.warning or ""
        for event in found.items:
            echo_json(to_json(event))
        asked = {**asked, "since": found.place or asked["since"]}
        goes_on = found.place is not None and len(found.items) == AT_ONCE
        if not goes_on and (stop is None or stop.wait(POLL_SECONDS)):
            return


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
