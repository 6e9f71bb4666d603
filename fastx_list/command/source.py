"""Where commands ask: the store itself, for who may read it, else the service, over HTTP with a
token or over the socket of this machine on which the kernel says who asks."""

from __future__ import annotations

import json
import logging
import os
import time
from abc import ABC, abstractmethod
from collections.abc import Generator, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from fastx_list import config, settings_file
from fastx_list.agent.process import login_of
from fastx_list.api.addresses import (
    ALL_EVENTS,
    ALL_HISTORY,
    ALL_SESSIONS,
    EVENTS,
    HISTORY,
    SERVERS,
    SESSIONS,
)
from fastx_list.api.services import STALE
from fastx_list.client import PASSING, Client, Refused
from fastx_list.command.options import together
from fastx_list.command.signed_in import is_private_way, plain_token, read_signed_in, read_token
from fastx_list.config import PREFIX, Settings
from fastx_list.model.event import EventsQuery, EventsSchema
from fastx_list.model.history import HistoryQuery, HistorySchema
from fastx_list.model.query import Query, QuerySchema
from fastx_list.replica.past import NOT_ALL_KEPT, TooMany, events_page, past_page
from fastx_list.replica.replica import Replica
from fastx_list.replica.topics import Everything
from fastx_list.replica.view import Entry
from fastx_list.state import is_there
from fastx_list.store import StoreError, address, open_store
from fastx_list.store.division import finish
from fastx_list.text import printable

URL, TOKEN = f"{PREFIX}URL", f"{PREFIX}TOKEN"
Asked = Mapping[str, Any]  # parameters of the API
T = TypeVar("T")


class Whose(NamedTuple):
    """Of whom sessions are asked for."""

    login: str | None  # None: of who asks, unless it is of everybody
    everybody: bool


class Found(NamedTuple):
    """What was found."""

    items: list[dict[str, Any]]
    total: int | None  # before ``start`` and ``limit``, where that is counted
    warning: str | None  # why it may be out of date
    etag: str | None = None
    place: str | None = None  # from which it goes on, of what has happened


NOTHING = Found([], 0, None)


class Away(click.ClickException):
    """Nobody answers now; asking again later may help."""


class Source(ABC):
    """Answers as the API does."""

    @abstractmethod
    def sessions(self, whose: Whose, asked: Asked, etag: str | None = None) -> Found | None:
        """Return the sessions; ``None`` if they are those that had this ``etag``."""

    @abstractmethod
    def servers(self, asked: Asked) -> Found:
        """Return the machines."""

    @abstractmethod
    def history(self, whose: Whose, asked: Asked) -> Found:
        """Return sessions that run and that have ended."""

    @abstractmethod
    def events(self, whose: Whose, asked: Asked) -> Found:
        """Return what has happened."""

    @abstractmethod
    def wait(self, seconds: float) -> None:
        """Return when something has changed, or after so long."""


class _Store(Source):
    def __init__(self, settings: Settings, for_programs: bool) -> None:
        self._settings = settings
        self._hides_ours = for_programs and settings.hides_ours
        self.store = open_store(settings.store, create=False, keep=settings.keep)
        # What it would log is the answer's warning
        speaker = logging.getLogger("fastx_list.replica")
        context, before = click.get_current_context(), speaker.level
        context.call_on_close(self.store.close)
        context.call_on_close(lambda: speaker.setLevel(before))
        speaker.setLevel(logging.CRITICAL)
        self._replica = Replica(self.store, Entry, hides_ours=self._hides_ours)

    def sessions(self, whose: Whose, asked: Asked, etag: str | None = None) -> Found | None:
        return self._page(_login(whose) or Everything.SESSIONS, asked, etag)

    def servers(self, asked: Asked) -> Found:
        found = self._page(Everything.SERVERS, asked, None)
        assert found is not None
        return found

    def _page(self, topic: Any, asked: Asked, etag: str | None) -> Found | None:
        try:
            self._replica.refresh()
        except StoreError:
            if not self._replica.loaded:
                raise
        query: Query = QuerySchema().load(asked)
        page = self._replica.page(topic, query)
        warning = self._replica.problem
        if etag == page.etag:
            return None
        return Found(json.loads(page.body), page.total, warning, page.etag)

    def history(self, whose: Whose, asked: Asked) -> Found:
        if not self._settings.history:
            raise click.ClickException(f"no history is kept here ({PREFIX}HISTORY=0)")
        query: HistoryQuery = HistorySchema().load(asked)
        now = round(time.time() * 1000)
        page = _worked_out(
            past_page(self.store.archive, _login(whose), query, self._hides_ours, now)
        )
        return Found([json.loads(text) for text in page.texts], page.total, None)

    def events(self, whose: Whose, asked: Asked) -> Found:
        query: EventsQuery = EventsSchema().load(asked)
        found = _worked_out(events_page(self.store.archive, _login(whose), query))
        warning = NOT_ALL_KEPT if found.has_gap else None
        return Found(found.items, None, warning, place=found.place)

    def wait(self, seconds: float) -> None:
        self._replica.follow(seconds)


class _Service(Source):
    def __init__(self, url: str, token: str | None) -> None:
        try:
            self._client = Client(url, token)
        except ValueError as error:
            raise click.UsageError(f"--url {error}") from None
        self._url = url

    def sessions(self, whose: Whose, asked: Asked, etag: str | None = None) -> Found | None:
        where = SESSIONS.address
        if whose.everybody or whose.login is not None:
            where = ALL_SESSIONS.address
        return self._ask(where, _with_login(whose, asked), etag)

    def servers(self, asked: Asked) -> Found:
        found = self._ask(SERVERS.address, asked)
        assert found is not None
        return found

    def history(self, whose: Whose, asked: Asked) -> Found:
        where = HISTORY if whose == Whose(None, False) else ALL_HISTORY
        found = self._ask(where, _with_login(whose, asked))
        assert found is not None
        return found

    def events(self, whose: Whose, asked: Asked) -> Found:
        where = EVENTS if whose == Whose(None, False) else ALL_EVENTS
        found = self._ask(where, _with_login(whose, asked))
        assert found is not None
        return found

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)

    def _ask(self, where: str, asked: Asked, etag: str | None = None) -> Found | None:
        query = []
        for name, value in asked.items():
            for each in value if isinstance(value, list) else [value]:
                if each is not None:
                    query.append((name, str(each).lower() if isinstance(each, bool) else str(each)))
        try:
            answer = self._client.ask(where, query, etag)
            if answer.content is not None and not _are_items(answer.content):
                raise HTTPException("the answer is no service's of ours")
        except Refused as error:
            why = printable(error)
            if error.status in PASSING:
                raise Away(f"{self._url} says: {why}") from None
            mend = "; fastx-list login URL takes another token" if error.status == 401 else ""
            raise click.ClickException(f"{self._url} refuses: {why}{mend}") from None
        except (OSError, HTTPException) as error:
            why = printable(getattr(error, "strerror", None) or error)
            raise Away(
                f"no answer from {self._url}: {why}; is the address right, and the service up?"
            ) from None
        if answer.content is None:
            return None
        warning = answer.warning and (NOT_ALL_KEPT if NOT_ALL_KEPT in answer.warning else STALE)
        return Found(answer.content, answer.total, warning, answer.etag, answer.revision)


# The options that say where to ask.
source_options = together(
    click.option(
        "--token-file",
        type=click.Path(dir_okay=False, allow_dash=True),
        help=f"Where the token is; - is standard input. Without it: {TOKEN}, or that of login.",
    ),
    click.option(
        "--url",
        envvar=URL,
        show_envvar=True,
        help="The service to ask: https://HOST, or unix:/PATH of its socket.",
    ),
)


def source_of(url: str | None, token_file: str | None, for_programs: bool = False) -> Source:
    """Return where to ask; ``for_programs`` says what the API would, and else all is shown."""
    if os.getuid() != os.geteuid():
        raise click.ClickException("this runs as another user than its caller; run it as yourself")
    signed_in = read_signed_in()
    if url is None and token_file is not None and signed_in is None:
        raise click.UsageError("--token-file: say with --url whom to ask")
    is_own = any(os.environ.get(PREFIX + name) for name in ("STORE", "STATE_DIR"))
    if url is None and signed_in is not None and not (is_own or os.geteuid() == 0):
        url = signed_in.url
    if url is not None:
        token = read_token(token_file) if token_file else plain_token(os.environ.get(TOKEN, ""))
        if not token and signed_in is not None and signed_in.url == url:
            token = signed_in.token
        if token and not is_private_way(url):
            raise click.UsageError(f"a token goes over https, and not to {url}")
        return _Service(url, token)
    local = Path(os.environ.get(f"{PREFIX}LOCAL_SOCKET") or Settings.local_socket)
    if _settings_are_closed() and _is_there(local, else_take=True):
        return _Service(f"unix:{local}", None)
    settings = config.load()
    where = address.parse(settings.store)
    is_ours = not isinstance(where, Path) or _is_there(where, else_take=False)
    if not is_ours and _is_there(local, else_take=True):
        return _Service(f"unix:{local}", None)
    return _Store(settings, for_programs)


def warn(found: Found) -> None:
    """Say on standard error if what was ``found`` may be out of date."""
    if found.warning:
        click.echo(f"Warning: {found.warning}", err=True)


def _is_there(path: Path, else_take: bool) -> bool:
    """Return whether anything is at ``path``; what cannot be looked at is taken for what the caller
    says, and asking it tells why that does not work."""
    try:
        return is_there(path)
    except OSError:
        return else_take


def _settings_are_closed() -> bool:
    is_usual = not any(
        os.environ.get(name) for name in (settings_file.VARIABLE, f"{PREFIX}STATE_DIR")
    )
    if not is_usual or not _is_there(settings_file.FILE, else_take=True):
        return False
    return not os.access(settings_file.FILE, os.R_OK)


def _are_items(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(each, dict) for each in content)


def _login(whose: Whose) -> str | None:
    return None if whose.everybody else whose.login or login_of(os.geteuid())


def _worked_out(working: Generator[None, None, T]) -> T:
    try:
        return finish(working)
    except TooMany as error:
        raise click.ClickException(str(error)) from None


def _with_login(whose: Whose, asked: Asked) -> Asked:
    if whose.login is None:
        return asked
    login = f'"{whose.login}"' if "," in whose.login else whose.login
    return {**asked, "filter": [*asked.get("filter", ()), f"login=={login}"]}
