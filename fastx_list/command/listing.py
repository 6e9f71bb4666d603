"""``fastx-list ls``, ``show``, ``watch`` and ``servers``: what runs now, in the terminal."""

from __future__ import annotations

import sys
from typing import Any

import click

from fastx_list.command.formats import FOR_PROGRAMS, complete_names, format_options, print_found
from fastx_list.command.options import together
from fastx_list.command.source import Asked, Whose, source_of, source_options, warn
from fastx_list.command.stop import interrupt
from fastx_list.command.tables import (
    SERVER_MEMBERS,
    SESSION_MEMBERS,
    details,
    server_columns,
    session_columns,
)
from fastx_list.command.terminal import encoding_of, put, shown
from fastx_list.command.watching import watch_lines, watch_table
from fastx_list.model.query import QuerySchema
from fastx_list.text import printable


class Filters(click.ParamType[str]):
    """A filter in the API's form."""

    name = "name==value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        wrong = QuerySchema().validate({"filter": [value]})
        if wrong:
            self.fail(" ".join(wrong["filter"]), param, ctx)
        return str(value)


# The options that say of whom, and where to ask.
whose_options = together(
    click.option(
        "--all", "everybody", is_flag=True, help="The sessions of all logins, with whose they are."
    ),
    click.option("--login", help="Whose sessions; without it: yours."),
    source_options,
)


# The options that say which sessions, in which order, and where to ask.
list_options = together(
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
        shell_complete=complete_names,
        help="Sort by this member or param; else by start.",
    ),
    whose_options,
)


# The options that cut a page out.
page_options = together(
    click.option("--limit", type=click.IntRange(0), help="So many at most."),
    click.option("--start", type=click.IntRange(0), help="Pass over so many."),
)


def asked_of(options: dict[str, Any]) -> Asked:
    """Return the parameters of the API that :data:`list_options` and :data:`page_options` say."""
    asked = {
        "sortBy": options["sort_by"],
        "sortReverse": options["reverse"] or None,
        "filter": list(options["filters"]),
        "start": options.get("start"),
        "limit": options.get("limit"),
    }
    return {name: value for name, value in asked.items() if value is not None}


def whose_of(login: str | None, everybody: bool) -> Whose:
    """Return of whom sessions are asked for."""
    if everybody and login is not None:
        raise click.UsageError("--all and --login: take one of the two")
    return Whose(login, everybody)


@click.command()
@list_options
@page_options
@format_options
@click.option("-w", "--watch", "follows", is_flag=True, help="Go on, as watch does.")
def ls(
    login: str | None,
    everybody: bool,
    url: str | None,
    token_file: str | None,
    output: str | None,
    columns: str | None,
    follows: bool,
    **options: Any,
) -> None:
    """List the sessions that run now, on all machines that share the store."""
    whose, asked = whose_of(login, everybody), asked_of(options)
    if follows:
        _watch(url, token_file, whose, asked)
        return
    found = source_of(url, token_file, output in FOR_PROGRAMS).sessions(whose, asked)
    assert found is not None
    warn(found)
    print_found(found.items, output, columns, session_columns(everybody), SESSION_MEMBERS)
    if output in FOR_PROGRAMS or output == "name":
        return
    if not found.items:
        who = (
            "nobody has a"
            if everybody
            else f"{printable(login)} has no"
            if login
            else "you have no"
        )
        matching = " that matches" if options["filters"] else ""
        click.echo(f"{who} session{matching}", err=True)
    elif found.total is not None and len(found.items) < found.total:
        click.echo(f"{len(found.items)} of {found.total}", err=True)


@click.command()
@click.argument("id")
@whose_options
@click.option("-o", "--output", type=click.Choice(("table", "json", "yaml")))
def show(
    id: str,
    login: str | None,
    everybody: bool,
    url: str | None,
    token_file: str | None,
    output: str | None,
) -> None:
    """Print all that is known of the session with this ID, or the only one that begins so."""
    source = source_of(url, token_file, output in FOR_PROGRAMS)
    found = source.sessions(whose_of(login, everybody), {})
    assert found is not None
    warn(found)
    items = [each for each in found.items if each["id"] == id]
    items = items or [each for each in found.items if each["id"].startswith(id)]
    if len(items) != 1:
        many = f"{len(items)} sessions begin so; give more of it" if items else "there is none"
        hint = "" if items or everybody else " of yours; --all looks at those of all logins"
        raise click.ClickException(f"{printable(id)}: {many}{hint}")
    if output in FOR_PROGRAMS:
        print_found(items, output, None, {})
        return
    encoding = encoding_of(sys.stdout)
    told = [(shown(label, encoding), shown(value, encoding)) for label, value in details(items[0])]
    width = max(len(label) for label, _ in told)
    put("".join(f"{label:{width}}  {value}\n" for label, value in told))


@click.command()
@list_options
def watch(
    login: str | None, everybody: bool, url: str | None, token_file: str | None, **options: Any
) -> None:
    """Follow the sessions until Ctrl-C: a live table, newest first, or, piped on, the published
    messages, one a line. The arrow keys, PgUp, PgDn, Home and End move the table; q ends it."""
    _watch(url, token_file, whose_of(login, everybody), asked_of(options))


def _watch(url: str | None, token_file: str | None, whose: Whose, asked: Asked) -> None:
    try:
        interrupt()
        is_table = sys.stdout.isatty()
        source = source_of(url, token_file, not is_table)
        if not is_table:
            watch_lines(source, whose, asked)
        if "sortBy" not in asked:
            asked = {**asked, "sortBy": "started", "sortReverse": not asked.get("sortReverse")}
        watch_table(source, whose, asked)
    except KeyboardInterrupt:
        pass


@click.command()
@format_options
@page_options
@click.option("--reverse", is_flag=True, help="From last to first.")
@click.option("--sort-by", metavar="MEMBER", help="Sort by this member; else by id.")
@click.option("--filter", "filters", multiple=True, type=Filters(), help="Only those that match.")
@source_options
def servers(
    url: str | None, token_file: str | None, output: str | None, columns: str | None, **options: Any
) -> None:
    """List the machines whose agents write to the store, and their load. For administrators."""
    found = source_of(url, token_file, output in FOR_PROGRAMS).servers(asked_of(options))
    warn(found)
    print_found(found.items, output, columns, server_columns(), SERVER_MEMBERS)
    if not found.items and output not in FOR_PROGRAMS:
        click.echo("no server is there: no agent writes to this store now", err=True)
