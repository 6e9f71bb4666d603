"""The ``fastx-list`` command."""

from __future__ import annotations

import logging
import os
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import click

from fastx_list import config, redaction
from fastx_list.agent.rights import missing, rights
from fastx_list.command import backup, events, history, listing, signed_in, terminal
from fastx_list.command.check import check
from fastx_list.command.findings import MARKS, status_of, unseen
from fastx_list.command.stop import on_stop, say_ready
from fastx_list.command.token_list import list_tokens
from fastx_list.config import ConfigError, Settings, SettingsError
from fastx_list.errors import AuthError
from fastx_list.model.event import What
from fastx_list.model.json import to_json
from fastx_list.state import is_there
from fastx_list.store import StoreError, address, open_store
from fastx_list.text import amount, printable, seconds_in
from fastx_list.tokens import Claims, Tokens

log = logging.getLogger(__name__)


class Duration(click.ParamType[int]):
    """A time such as ``30m``, ``8h`` or ``7d``, in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        seconds = seconds_in(value)
        if seconds is None:
            self.fail("takes a whole number and a unit, such as 30m, 8h or 7d", param, ctx)
        return seconds


class _WrongSetting(click.ClickException):
    exit_code = os.EX_CONFIG


class Commands(click.Group):
    """Turns what a user can mend into one line and exit status 1, or ``EX_CONFIG``."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            raise _WrongSetting(str(error)) from None
        except (ConfigError, StoreError, AuthError) as error:
            raise click.ClickException(str(error)) from None


_STATUS = (
    "Exit status: 0 if it did what was asked, also if there was nothing to find; 1 if it could not;"
    " 2 if the command line is wrong. check and doctor have their own: see their --help."
)


@click.group(cls=Commands, epilog=_STATUS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fastx-list")
def main() -> None:
    """The sessions of remote desktops on this machine, or on several: xrdp, TigerVNC, xpra, X2Go,
    and whatever registers itself.

    Settings are environment variables, FASTX_LIST_*, and lines of /etc/fastx-list/fastx-list.conf;
    docs/settings.md lists them. To see it work: fastx-list up --demo
    """
    redaction.install()
    terminal.prepare()


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
@click.option(
    "--admin",
    is_flag=True,
    help="Your token may see the sessions of all logins; with --demo, simulated machines, logins,"
    " kinds and a history are added, too.",
)
def up(bind: str, live_bind: str, demo: bool, admin: bool) -> None:
    """Run agent, list and sidecar in the foreground, until Ctrl-C.

    Prints the address of the browser page with a fresh token for you.
    """
    from fastx_list.command.up import run

    _log_to_stderr(logging.INFO)
    sys.exit(run(config.load(), bind, live_bind, demo, admin))


@main.command()
@click.option("--once", is_flag=True, help="Look once, write what was seen, and stop.")
@click.option("-v", "--verbose", is_flag=True, help="Say more.")
def agent(once: bool, verbose: bool) -> None:
    """Look at this machine again and again, and write its sessions to the store."""
    from fastx_list.agent import identity
    from fastx_list.agent.keep import Agent
    from fastx_list.agent.look import Looker
    from fastx_list.agent.occasions import Occasions

    _log_to_stderr(logging.DEBUG if verbose else logging.INFO)
    settings = config.load()
    if missing(rights()):
        log.warning(
            "without root's rights: of other users' sessions, command, its pid and geometry stay as"
            " far as they are public"
        )
    with identity.only_one(settings):
        looking = Agent(settings, open_store(settings.store, mends=True, keep=settings.keep))
        if once:
            count = looking.scan()
            if looking.problem:
                raise click.ClickException(looking.problem)
            if looking.look.unseen:
                raise click.ClickException(
                    f"{' and '.join(looking.look.unseen)}: what is there cannot be seen, as the log"
                    f" above says; else there are {amount(count, 'session')}"
                )
            click.echo(f"{amount(count, 'session')} on this machine")
            return
        look = looking.look
        looker = Looker(look)
        on_stop(looker.stop)
        say_ready()  # what may fail for good has not failed
        looking.run(looker, Occasions(look.machine.limits.processes, look.directories))


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print the same for programs.")
def doctor(as_json: bool) -> None:
    """Say what this machine runs, what the agent sees, and whether agent, list, sidecar and what is
    before them work as they should.

    One line each: "ok" is well, "--" is worth knowing, "! " should be mended, and "!!" keeps people
    from the list, or the list from what runs here. Exit status 2 if there is such a line, 1 if
    anything should be mended, else 0.
    """
    from fastx_list.command.doctor import examine

    logging.basicConfig(level=logging.CRITICAL)  # what could not be seen is in the lines below
    findings = list(examine())
    if as_json:
        terminal.echo_json(
            to_json([{"level": each.level.name, "text": each.text} for each in findings])
        )
    else:
        for each in findings:
            click.echo(f"{MARKS[each.level]} {printable(each.text)}")
    sys.exit(status_of(findings))


@main.group()
def token() -> None:
    """Issue, list and revoke tokens."""


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
def issue(login: str, ttl: int, admin: bool) -> None:
    """Print a token for LOGIN, and nothing else."""
    if not login or not login.isprintable():
        raise click.BadParameter("takes a login", param_hint="LOGIN")
    settings = config.load()
    tokens = Tokens(settings)
    issued = tokens.issue(login, ttl, admin)
    click.echo(issued)
    _note_issued(settings, tokens.verify(issued, ()))


@token.command()
@click.argument("login")
@click.option(
    "--ttl", type=Duration(), default="8h", show_default=True, help="How long the token is good."
)
@click.option("--admin", is_flag=True, help="The token may see the sessions of all logins.")
def code(login: str, ttl: int, admin: bool) -> None:
    """Print a code for a link to LOGIN's page, https://…/#code=CODE. Within a minute the first who
    opens it gets a token."""
    if not login or not login.isprintable():
        raise click.BadParameter("takes a login", param_hint="LOGIN")
    click.echo(Tokens(config.load()).issue_code(login, ttl, admin))


def _note_issued(settings: Settings, claims: Claims) -> None:
    """Add the event that a token was issued, which is good also where there is no store yet."""
    where = address.parse(settings.store)
    try:
        if isinstance(where, Path) and not is_there(where):
            return
    except OSError as error:
        log.warning("no event says that a token was issued: %s", unseen(str(where), error))
        return
    more = {"token": claims.jti, "expires": claims.expires, "admin": claims.admin}
    try:
        with closing(open_store(settings.store, serving=True, keep=settings.keep)) as store:
            store.archive.note(What.TOKEN_ISSUED, claims.login, more)
    except StoreError as error:
        log.warning("no event says that a token was issued: %s", error)


@token.command()
@click.argument("token")
def revoke(token: str) -> None:
    """Revoke TOKEN; with - it is read from standard input, where other users' ps(1) does not see
    it."""
    settings = config.load()
    claims = Tokens(settings).verify(sys.stdin.readline().strip() if token == "-" else token, ())
    if claims.jti is None:
        raise click.ClickException(
            'this token has no "jti" claim, so it cannot be revoked; it is good until it expires'
        )
    with closing(open_store(settings.store, keep=settings.keep)) as store:
        store.revoke({claims.jti: claims.expires})
    click.echo(f"revoked a token of {printable(claims.login)}", err=True)


def _log_to_stderr(level: int) -> None:
    logging.basicConfig(level=level, format="%(levelname)s %(message)s", stream=sys.stderr)


token.add_command(list_tokens)
for command in (
    *(
        check,
        listing.ls,
        listing.show,
        listing.watch,
        listing.servers,
        history.history,
        history.erase,
    ),
    *(
        signed_in.login,
        signed_in.logout,
        events.events,
        events.deliver,
        backup.backup,
        backup.restore,
    ),
):
    main.add_command(command)
