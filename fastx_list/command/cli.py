"""The ``fastx-list`` command."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any, ClassVar, TypeVar

import click
from rich.console import Console
from rich.live import Live
from rich.table import Table

from fastx_list import config, redaction
from fastx_list.agent.machine import sees_everything
from fastx_list.agent.process import login_of
from fastx_list.command.tables import server_table, session_table
from fastx_list.config import ConfigError, Settings
from fastx_list.errors import AuthError
from fastx_list.model.json import to_json
from fastx_list.model.query import Query, QuerySchema, matches
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything, Topic
from fastx_list.replica.view import Entry
from fastx_list.store import StoreError, open_store
from fastx_list.text import printable
from fastx_list.tokens import Tokens

F = TypeVar("F", bound=Callable[..., Any])


class Duration(click.ParamType[int]):
    """A time such as ``30m``, ``8h`` or ``7d``, in seconds."""

    name = "duration"
    units: ClassVar = {"s": 1, "m": 60, "h": 3600, "d": 86400}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,5})([smhd])", value)
        if not match:
            self.fail("takes a whole number and a unit, such as 30m, 8h or 7d", param, ctx)
        return int(match[1]) * self.units[match[2]]


class Filters(click.ParamType[str]):
    """A filter in the API's form."""

    name = "name==value,…"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        wrong = QuerySchema().validate({"filter": [value]})
        if wrong:
            self.fail(" ".join(wrong["filter"]), param, ctx)
        return str(value)


def says_what_is_wrong(command: F) -> F:
    """Turn what a user can mend into one line and exit status 1."""

    @wraps(command)
    def run(*args: Any, **kwargs: Any) -> Any:
        try:
            return command(*args, **kwargs)
        except (ConfigError, StoreError, AuthError) as error:
            raise click.ClickException(str(error)) from None

    return run  # type: ignore[return-value]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastx-list")
def main() -> None:
    """The sessions of remote desktops on this machine, or on several: xrdp, TigerVNC, xpra, X2Go,
    and whatever registers itself.

    Settings are environment variables, FASTX_LIST_*; docs/deploy.md lists them. To see it work:
    fastx-list up --demo
    """
    redaction.install()


@main.command()
@click.option(
    "--bind",
    default="127.0.0.1:8000",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the list and the page are.",
)
@click.option(
    "--live-bind",
    default="127.0.0.1:8001",
    show_default=True,
    metavar="HOST:PORT",
    help="Where the WebSocket is.",
)
@click.option(
    "--demo", is_flag=True, help="Add a handful of simulated sessions that live, connect and end."
)
@says_what_is_wrong
def up(bind: str, live_bind: str, demo: bool) -> None:
    """Run agent, list and sidecar in the foreground, until Ctrl-C.

    Prints the address of the browser page with a fresh token for you.
    """
    from fastx_list.command.up import run

    _log_to_stderr(logging.INFO)
    sys.exit(run(config.load(), bind, live_bind, demo))


@main.command()
@click.option("--once", is_flag=True, help="Look once, write what was seen, and stop.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
@says_what_is_wrong
def agent(once: bool, verbose: bool) -> None:
    """Look at this machine again and again, and write its sessions to the store."""
    from fastx_list.agent import identity
    from fastx_list.agent.keep import Agent

    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    settings = config.load()
    if not sees_everything():
        logging.getLogger(__name__).warning(
            "without root's rights: of other users' sessions, command, its pid and geometry stay as"
            " far as they are public"
        )
    with identity.only_one(settings):
        looking = Agent(settings, open_store(settings.store))
        if once:
            count = looking.scan()
            if looking.problem:
                raise click.ClickException(looking.problem)
            click.echo(f"{count} session{'' if count == 1 else 's'} on this machine")
            return
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        looking.run(stop.wait)


@main.command()
@says_what_is_wrong
def doctor() -> None:
    """Say what this machine runs, what the agent may see, and whether all is as it should be.

    One line each: "ok" is well, "--" is worth knowing, "!!" should be mended. Exit status 1 if
    anything should be.
    """
    from fastx_list.command.doctor import examine

    logging.basicConfig(level=logging.CRITICAL)  # what could not be seen is in the lines below
    findings = list(examine(config.load()))
    for finding in findings:
        click.echo(
            f"{ {True: 'ok', None: '--', False: '!!'}[finding.ok] } {printable(finding.text)}"
        )
    sys.exit(1 if any(finding.ok is False for finding in findings) else 0)


@main.group()
def token() -> None:
    """Issue and revoke tokens."""


@token.command()
@click.argument("login")
@click.option(
    "--ttl",
    type=Duration(),
    default="8h",
    show_default=True,
    help="How long the token is good for: 30m, 8h, 7d.",
)
@click.option("--admin", is_flag=True, help="The token may see the sessions of all logins.")
@says_what_is_wrong
def issue(login: str, ttl: int, admin: bool) -> None:
    """Print a token for LOGIN, and nothing else."""
    if not login or not login.isprintable():
        raise click.BadParameter("takes a login", param_hint="LOGIN")
    click.echo(Tokens(config.load()).issue(login, ttl, admin))


@token.command()
@click.argument("token")
@says_what_is_wrong
def revoke(token: str) -> None:
    """Revoke TOKEN; with - it is read from standard input, where other users' ps(1) does not see
    it."""
    settings = config.load()
    claims = Tokens(settings).verify(sys.stdin.readline().strip() if token == "-" else token, ())
    if claims.jti is None:
        raise click.ClickException(
            'this token has no "jti" claim, so it cannot be revoked; it is good until it expires'
        )
    open_store(settings.store).revoke(claims.jti, claims.expires)
    click.echo(f"revoked a token of {printable(claims.login)}", err=True)


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


@main.command()
@list_options
@click.option("--json", "as_json", is_flag=True, help="Print what the API would answer.")
@says_what_is_wrong
def ls(
    login: str | None,
    everybody: bool,
    sort_by: str | None,
    reverse: bool,
    filters: tuple[str, ...],
    as_json: bool,
) -> None:
    """List the sessions that run now, on all machines that share the store."""
    topic = _topic(login, everybody)
    replica = _replica(config.load())
    replica.refresh()
    body = replica.page(topic, _query(sort_by, reverse, filters)).body.decode()
    if as_json:
        click.echo(body)
        return
    sessions = json.loads(body)
    if sessions:
        _print(session_table(sessions, everybody))
    else:
        who = "nobody has a" if isinstance(topic, Everything) else f"{printable(topic)} has no"
        click.echo(f"{who} session{' that matches' if filters else ''}", err=True)


@main.command()
@list_options
@says_what_is_wrong
def watch(
    login: str | None, everybody: bool, sort_by: str | None, reverse: bool, filters: tuple[str, ...]
) -> None:
    """Follow the sessions until Ctrl-C: a live table, or, piped on, the published messages, one a
    line."""
    topic, query = _topic(login, everybody), _query(sort_by, reverse, filters)
    replica = _replica(config.load())
    replica.refresh()
    try:
        if sys.stdout.isatty():
            _watch_table(replica, topic, query)
        else:
            _watch_lines(replica, topic, query)
    except KeyboardInterrupt:
        pass


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print what the API would answer.")
@says_what_is_wrong
def servers(as_json: bool) -> None:
    """List the machines whose agents write to the store, and their load."""
    replica = _replica(config.load())
    replica.refresh()
    body = replica.page(Everything.SERVERS, Query()).body.decode()
    if as_json:
        click.echo(body)
    elif found := json.loads(body):
        _print(server_table(found))
    else:
        click.echo("no server is there: no agent writes to this store now", err=True)


def _watch_table(replica: Replica[Entry], topic: Topic, query: Query) -> None:
    with Live(screen=True, auto_refresh=False) as display:
        while True:
            display.update(
                session_table(
                    json.loads(replica.page(topic, query).body), isinstance(topic, Everything)
                ),
                refresh=True,
            )
            # The table says "3 s ago", so it is drawn anew each second at the latest
            replica.follow(1.0)


def _watch_lines(replica: Replica[Entry], topic: Topic, query: Query) -> None:
    shown: set[str] = set()
    entries: list[tuple[str, Entry | None]] = list(replica.entries(topic).items())
    while True:
        for name, entry in entries:
            if entry is not None and matches(entry.members, query.filters):
                shown.add(name)
                click.echo(to_json({"id": name, "data": entry.members}))
            elif name in shown:
                shown.discard(name)
                click.echo(to_json({"id": name, "data": None}))
        entries = [
            (change.id, change.entry)
            for change in replica.follow(1.0)
            if change.topic == topic
            or (topic is Everything.SESSIONS and change.topic is not Everything.SERVERS)
        ]


def _topic(login: str | None, everybody: bool) -> Topic:
    if everybody and login is not None:
        raise click.UsageError("--all and --login: take one of the two")
    return Everything.SESSIONS if everybody else login or login_of(os.geteuid())


def _print(table: Table) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 10_000  # what is piped on is not folded to any width
    console.print(table)


def _replica(settings: Settings) -> Replica[Entry]:
    return Replica(open_store(settings.store, create=False), Entry)


def _query(sort_by: str | None, reverse: bool, filters: Iterable[str]) -> Query:
    query: Query = QuerySchema().load(
        {"sortBy": sort_by, "sortReverse": reverse, "filter": list(filters)}
    )
    return query


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr)
