"""``fastx-list history`` and ``erase``: the sessions that run and that have ended."""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import closing
from typing import Any

import click

from fastx_list import config
from fastx_list.command.listing import list_options, topic_of
from fastx_list.command.tables import past_columns
from fastx_list.command.terminal import echo_csv, echo_json, print_table
from fastx_list.config import PREFIX, Settings
from fastx_list.model.history import MAX_LIMIT, USUAL_LIMIT, HistoryQuery, HistorySchema, to_csv
from fastx_list.replica.past import PastPage, TooMany, past_page
from fastx_list.replica.topics import Everything
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
@click.option("--since", type=When(), help="Only what ended since then, or runs: 12h, 2026-11-27.")
@click.option("--until", type=When(), help="Only what had ended before; likewise.")
@click.option("--limit", type=click.IntRange(0, MAX_LIMIT), default=USUAL_LIMIT, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print what the API would answer.")
@click.option("--csv", "as_csv", is_flag=True, help="Print it for a spreadsheet.")
def history(
    login: str | None,
    everybody: bool,
    sort_by: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    since: int | None,
    until: int | None,
    limit: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Tell of the sessions that run and that have ended: those that run first, then those that
    ended last."""
    if as_json and as_csv:
        raise click.UsageError("--json and --csv: take one of the two")
    topic = topic_of(login, everybody)
    asked = {
        "sortBy": sort_by,
        "sortReverse": reverse,
        "filter": list(filters),
        "since": since,
        "until": until,
        "limit": limit,
    }
    query: HistoryQuery = HistorySchema().load(asked)
    settings = _settings()
    hides_ours = settings.hides_ours and (as_json or as_csv)
    with closing(open_store(settings.store, create=False, keep=settings.keep)) as store:
        whose = None if isinstance(topic, Everything) else topic
        now = round(time.time() * 1000)
        try:
            page = _result(past_page(store.archive, whose, query, hides_ours, now))
        except TooMany as error:
            raise click.ClickException(str(error)) from None
    sessions = [json.loads(text) for text in page.texts]
    if as_json:
        echo_json(f"[{','.join(page.texts)}]")
    elif as_csv:
        echo_csv(to_csv(sessions, hides_ours))
    elif sessions:
        print_table(past_columns(everybody), sessions)
        if page.total is None or page.total > query.start + len(sessions):
            count = "very many" if page.total is None else page.total
            click.echo(f"{len(sessions)} of {count}; --limit shows more", err=True)
    else:
        click.echo("there was no such session", err=True)


@click.command()
@click.argument("login")
def erase(login: str) -> None:
    """Forget the sessions of LOGIN that have ended, and the events that are about it."""
    settings = config.load()
    with closing(open_store(settings.store, create=False, keep=settings.keep)) as store:
        count = store.archive.erase(login)
    click.echo(f"{amount(count, 'session')} of {printable(login)} forgotten")


def _settings() -> Settings:
    settings = config.load()
    if not settings.history:
        raise click.ClickException(f"no history is kept here ({PREFIX}HISTORY=0)")
    return settings


def _result(working: Generator[None, None, PastPage]) -> PastPage:
    while True:
        try:
            next(working)
        except StopIteration as end:
            page: PastPage = end.value
            return page
