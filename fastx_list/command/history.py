"""``fastx-list history`` and ``erase``: the sessions that run and that have ended."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import click

from fastx_list import config
from fastx_list.command.formats import FOR_PROGRAMS, format_options, print_found
from fastx_list.command.listing import asked_of, list_options, page_options, whose_of
from fastx_list.command.source import source_of, warn
from fastx_list.command.tables import past_columns
from fastx_list.model.history import HistorySchema
from fastx_list.model.history import columns as members
from fastx_list.store import open_store
from fastx_list.text import amount, printable, seconds_in


class When(click.ParamType[int]):
    """A moment, as the API takes it, or so long ago, such as ``12h``."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        ago = seconds_in(value)
        if ago is not None:
            return max(0, round((time.time() - ago) * 1000))
        wrong = HistorySchema().validate({"since": value})
        if wrong:
            self.fail(f"{' '.join(wrong['since'])}; or so long ago, such as 12h", param, ctx)
        moment: int = HistorySchema().fields["since"].deserialize(value)
        return moment


@click.command()
@list_options
@page_options
@format_options
@click.option("--csv", "output", flag_value="csv", help="The same as -o csv.")
@click.option("--since", type=When(), help="Only what ended since then, or runs: 12h, 2026-11-27.")
@click.option("--until", type=When(), help="Only what had ended before; likewise.")
def history(
    login: str | None,
    everybody: bool,
    url: str | None,
    token_file: str | None,
    output: str | None,
    columns: str | None,
    since: int | None,
    until: int | None,
    **options: Any,
) -> None:
    """Tell of the sessions that run and that have ended: those that run first, then those that
    ended last. Without --limit, of a hundred."""
    whose, asked = whose_of(login, everybody), asked_of(options)
    asked = {**asked, **({"since": since} if since else {}), **({"until": until} if until else {})}
    found = source_of(url, token_file, output in FOR_PROGRAMS).history(whose, asked)
    warn(found)
    print_found(found.items, output, columns, past_columns(everybody), members(hides_ours=False))
    if output in FOR_PROGRAMS or output == "name":
        return
    if not found.items:
        click.echo("there was no such session", err=True)
    elif found.total is None or found.total > (options["start"] or 0) + len(found.items):
        count = "very many" if found.total is None else found.total
        click.echo(f"{len(found.items)} of {count}; --limit shows more", err=True)


@click.command()
@click.argument("login")
def erase(login: str) -> None:
    """Forget the sessions of LOGIN that have ended, and the events that are about it."""
    settings = config.load()
    with closing(open_store(settings.store, create=False, keep=settings.keep)) as store:
        count = store.archive.erase(login)
    click.echo(f"{amount(count, 'session')} of {printable(login)} forgotten")
