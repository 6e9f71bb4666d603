"""``fastx-list ls``, ``watch`` and ``servers``: what the store says, in the terminal."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import click
from rich.live import Live
from rich.text import Text

from fastx_list import config
from fastx_list.agent.process import login_of
from fastx_list.command.stop import interrupt
from fastx_list.command.tables import server_columns, session_columns
from fastx_list.command.terminal import echo_json, encoding_of, lines_of, print_table
from fastx_list.config import Settings
from fastx_list.model.json import to_json
from fastx_list.model.query import Query, QuerySchema, matches
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import Entry
from fastx_list.store import open_store
from fastx_list.text import printable

F = TypeVar("F", bound=Callable[..., Any])


class Filters(click.ParamType[str]):
    """A filter in the API's form."""

    name = "name==value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        wrong = QuerySchema().validate({"filter": [value]})
        if wrong:
            self.fail(" ".join(wrong["filter"]), param, ctx)
        return str(value)


def list_options(command: F) -> F:
    """Add the options that ls and watch share."""
    for option in (
        click.option(
            "--filter",
            "filters",
            multiple=True,
            type=Filters(),
            help="Only those that match: clients==0; repeatable.",
        ),
        click.option("--reverse", is_flag=True, help="From last to first."),
        click.option(
            "--sort-by",
            metavar="MEMBER",
            help="Sort by this member or param; without it: by start.",
        ),
        click.option(
            "--all",
            "everybody",
            is_flag=True,
            help="The sessions of all logins, with whose they are.",
        ),
        click.option("--login", help="Whose sessions; without it: yours."),
    ):
        command = option(command)
    return command


@click.command()
@list_options
@click.option("--json", "as_json", is_flag=True, help="Print what the API would answer.")
def ls(
    login: str | None,
    everybody: bool,
    sort_by: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the sessions that run now, on all machines that share the store."""
    topic = topic_of(login, everybody)
    replica = _replica(config.load(), as_json)
    replica.refresh()
    body = replica.page(topic, _query(sort_by, reverse, filters)).body.decode()
    if as_json:
        echo_json(body)
        return
    sessions = json.loads(body)
    if sessions:
        print_table(session_columns(everybody), sessions)
    else:
        who = "nobody has a" if isinstance(topic, Everything) else f"{printable(topic)} has no"
        click.echo(f"{who} session{' that matches' if filters else ''}", err=True)


@click.command()
@list_options
def watch(
    login: str | None, everybody: bool, sort_by: str | None, reverse: bool, filters: tuple[str, ...]
) -> None:
    """Follow the sessions until Ctrl-C: a live table, or, piped on, the published messages, one a
    line."""
    topic, query = topic_of(login, everybody), _query(sort_by, reverse, filters)
    try:
        interrupt()
        is_table = sys.stdout.isatty()
        replica = _replica(config.load(), not is_table)
        replica.refresh()
        if is_table:
            _watch_table(replica, topic, query)
        else:
            _watch_lines(replica, topic, query)
    except KeyboardInterrupt:
        pass


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print what the API would answer.")
def servers(as_json: bool) -> None:
    """List the machines whose agents write to the store, and their load."""
    replica = _replica(config.load(), as_json)
    replica.refresh()
    body = replica.page(Everything.SERVERS, Query()).body.decode()
    if as_json:
        echo_json(body)
    elif found := json.loads(body):
        print_table(server_columns(), found)
    else:
        click.echo("no server is there: no agent writes to this store now", err=True)


def _watch_table(replica: Replica[Entry], topic: Topic, query: Query) -> None:
    columns = session_columns(isinstance(topic, Everything))
    with Live(screen=True, auto_refresh=False) as display:
        while True:
            rows = json.loads(replica.page(topic, query).body)
            width = display.console.width
            display.update(_drawn(lines_of(columns, rows, width, encoding_of(sys.stdout))))
            display.refresh()
            # The table says "3 s ago", so it is drawn anew each second at the latest
            replica.follow(1.0)


def _drawn(lines: list[str]) -> Text:
    head, *rest = lines
    return Text.assemble((head, "bold"), *(f"\n{line}" for line in rest), no_wrap=True)


def _watch_lines(replica: Replica[Entry], topic: Topic, query: Query) -> None:
    shown: set[str] = set()
    entries: list[tuple[str, Entry | None]] = list(replica.entries(topic).items())
    while True:
        for name, entry in entries:
            if entry is not None and matches(entry.members, query.filters):
                shown.add(name)
                echo_json(to_json({"id": name, "data": entry.members}))
            elif name in shown:
                shown.discard(name)
                echo_json(to_json({"id": name, "data": None}))
        entries = [
            (change.id, change_there.entry)
            for change in replica.follow(1.0)
            for where, change_there in change.by_topic()
            if where == topic
        ]


def topic_of(login: str | None, everybody: bool) -> Topic:
    """Return whose sessions are asked for."""
    if everybody and login is not None:
        raise click.UsageError("--all and --login: take one of the two")
    return Everything.SESSIONS if everybody else login or login_of(os.geteuid())


def _replica(settings: Settings, for_programs: bool) -> Replica[Entry]:
    """Return what follows the store; ``for_programs`` says what the API would, and else all is
    shown."""
    store = open_store(settings.store, create=False, keep=settings.keep)
    click.get_current_context().call_on_close(store.close)
    return Replica(store, Entry, hides_ours=for_programs and settings.hides_ours)


def _query(sort_by: str | None, reverse: bool, filters: Iterable[str]) -> Query:
    query: Query = QuerySchema().load(
        {"sortBy": sort_by, "sortReverse": reverse, "filter": list(filters)}
    )
    return query
