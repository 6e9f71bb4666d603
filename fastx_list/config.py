"""Every setting of the product, declared once: its name, default, check and description.

A setting is an environment variable ``FASTX_LIST_<NAME>``, or a line of the same name in the file
of :mod:`fastx_list.settings_file`; the environment wins. Its value is always taken as text, so that
a secret of digits stays text. An empty one counts as absent.

``command/settings.py`` makes the documents of it.
"""

from __future__ import annotations

import difflib
import hmac
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from fastx_list import settings_file, values
from fastx_list.settings_file import Sources
from fastx_list.state import machine, read_own
from fastx_list.store import address
from fastx_list.text import printable
from fastx_list.values import MIN_SECRET_BYTES, Declared, Environment, Network
from fastx_list.values import found as _found
from fastx_list.values import setting as _setting

PREFIX = "FASTX_LIST_"
SESSION_PREFIX = f"{PREFIX}SESSION_"  # what a launcher says of a session, in that environment

log = logging.getLogger(__name__)


class ConfigError(ValueError):
    """Something that a setting names cannot be used; the message says what to do."""


class SettingsError(ConfigError):
    """A setting has a value it does not take; the message names the setting and what it takes.

    The process that meets it ends with ``EX_CONFIG`` (sysexits.h), after which systemd does not
    start it again: only another value helps.
    """


# Defaults that are looked up


def _state_dir(environ: Environment) -> Path:
    """Return where the state is kept if nothing says so."""
    if os.geteuid() == 0:
        return Path("/var/lib/fastx-list")
    # XDG Base Directory Specification 0.8: a relative XDG_STATE_HOME is to be ignored.
    home = environ.get("XDG_STATE_HOME", "")
    return values.path(home if os.path.isabs(home) else "~/.local/state") / "fastx-list"


def _in_state_dir(name: str) -> Callable[[Environment], Path]:
    def find(environ: Environment) -> Path:
        directory = given(environ, "STATE_DIR")
        return (values.path(directory) if directory else _state_dir(environ)) / name

    return find


def _database(environ: Environment) -> str:
    return address.of_file(_in_state_dir("sessions.db")(environ))


def _server_id(environ: Environment) -> str:
    """Return the id that the agent keeps, or that it will keep when it is started."""
    with suppress(OSError, ValueError):
        return read_server_id(_in_state_dir(_SERVER_ID_FILE)(environ))
    return re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname())[:128] or "localhost"


def read_server_id(file: Path) -> str:
    """Return the id in ``file``. Raises ``ValueError`` if it is none, else ``OSError``."""
    return _take_server_id(read_own(file)[0].decode().strip())


# Several machines may share a directory, and a copy of a machine has another's files
_SERVER_ID_FILE = f"server-id-{machine()}"
_take_server_id = values.matching(r"[A-Za-z0-9._:-]{1,128}", "1 to 128 letters, digits and ._:-")


@dataclass(frozen=True)
class Settings:
    """The settings in force in this process, each under its name in lower case."""

    state_dir: Path = _found(
        values.path,
        _state_dir,
        "a directory",
        "`/var/lib/fastx-list` for root, else `~/.local/state/fastx-list`",
    )
    store: str = _found(
        values.store,
        _database,
        f"`{address.TAKES}`; see [several-machines.md](several-machines.md)",
        "`sessions.db` in the state directory, in SQLite",
        is_secret=True,  # it may hold a password
    )
    spool: Path = _found(
        values.path,
        _in_state_dir("spool"),
        "a directory; see [spool.md](spool.md)",
        "`spool` in the state directory",
    )
    session_json: Path = _found(
        values.path,
        _in_state_dir("session.json"),
        "a file; see [sessions.md](sessions.md)",
        "`session.json` in the state directory",
    )
    server_id: str = _found(
        _take_server_id,
        _server_id,
        "1 to 128 letters, digits and `._:-`",
        "the name that the host had when its agent was first started",
    )
    sources: tuple[str, ...] | None = _setting(
        values.names,
        None,
        "names of kinds of session; see [sessions.md](sessions.md)",
        "the usual kinds",
    )
    server_pool: str | None = _setting(
        values.text, None, "the pool that this machine is in, for administrators to see"
    )
    server_url: str | None = _setting(
        values.matching(r"https?://[^\s]+", "a URL such as https://node1.example.org"),
        None,
        "the URL of this machine, likewise",
    )
    connect_url: str | None = _setting(
        values.link,
        None,
        "where the page's link **Connect** leads to: a URL with names of members in braces, such as"
        " `https://portal.example.org/{display}`",
    )
    server_expiry: float = _setting(
        values.number(1, 86_400),
        60.0,
        "seconds after which the sessions of a machine that says nothing any more leave the list",
    )
    secret_key: str | None = _setting(
        values.secret,
        None,
        f"at least {MIN_SECRET_BYTES} bytes",
        "the file `secret` in the state directory, made on first use with mode 0600",
        is_secret=True,
    )
    token_public_key: Path | None = _setting(
        values.file, None, "a PEM file, RSA or EC P-256; needs `pip install 'fastx-list[keys]'`"
    )
    compat: str | None = _setting(
        values.matching("fastx", "fastx"),
        None,
        "`fastx` for portals that were written for FastX; see [portal.md](portal.md)",
    )
    result_envelope: bool = _setting(
        values.boolean, False, '`true` wraps successes in `{"result": …}`, as `COMPAT=fastx` does'
    )
    published_only: bool = _setting(
        values.boolean,
        False,
        "`true` leaves out the members of a session that the FastX page does not have, as"
        " `COMPAT=fastx` does",
    )
    allowed_origins: tuple[str, ...] = _setting(
        values.origins,
        (),
        "origins, such as `https://portal.example.org`, whose pages may read the API and open"
        " WebSockets",
    )
    trusted_proxies: frozenset[Network | str] = _setting(
        values.proxies,
        frozenset(),
        "addresses, networks, and `unix` for whoever connects over a Unix socket: their"
        " `X-Forwarded-For`, `-Proto`, `-Host` and `-Prefix` are believed, nobody else's",
    )
    local_socket: Path = _setting(
        values.path,
        Path("/run/fastx-list/local.sock"),
        "the list's socket that every user of this machine may open: who asks there needs no token"
        " and sees their own sessions, root all; see [users.md](users.md)",
        "`/run/fastx-list/local.sock`",
    )
    max_subscribers_per_login: int = _setting(
        values.whole(1, 1_000_000), 100, "WebSockets of one login over all workers of a sidecar"
    )
    slow_client_timeout: float = _setting(
        values.number(0.1, 3600),
        60.0,
        "seconds after which a WebSocket whose client reads nothing is closed",
    )
    ping_interval: float = _setting(values.number(0.1, 3600), 25.0, "seconds between pings")
    scan_interval: float = _setting(
        values.number(0.1, 3600), 1.0, "seconds between the agent's looks at the machine"
    )
    max_sessions_per_login: int = _setting(
        values.whole(1, 1_000_000),
        200,
        "sessions of one login on this machine that are listed, the oldest ones; those that a"
        " launcher whom you trust registers do not count",
    )
    history: float = _setting(
        values.number(0, 3650), 30.0, "days to keep history and events; `0` keeps an hour's events"
    )
    events: str | None = _setting(
        values.matching(r"journal|/.+", "journal, or the absolute path of a file"),
        None,
        "where `fastx-list deliver` writes events: `journal` or a file; see [events.md](events.md)",
    )
    metrics_from: frozenset[Network | str] = _setting(
        values.proxies,
        values.THIS_MACHINE,
        "addresses, networks and `unix` that may ask for `/metrics`",
        shown="`unix 127.0.0.0/8 ::1`",
    )
    webhook: str | None = _setting(
        values.hook,
        None,
        "a URL that `fastx-list deliver` posts each event to",
        is_secret=True,  # its path may be
    )
    webhook_secret: str | None = _setting(
        values.secret,
        None,
        f"at least {MIN_SECRET_BYTES} bytes, with which it signs them",
        is_secret=True,
    )
    list_port: int | None = _setting(
        values.port, None, "the list's port, where clients reach it without a proxy"
    )
    live_port: int | None = _setting(
        values.port, None, "the sidecar's port, where page and clients reach it without a proxy"
    )

    @property
    def envelope(self) -> bool:
        """Whether every success over HTTP is ``{"result": …}``."""
        return self.result_envelope or self.compat == "fastx"

    @property
    def keep(self) -> float:
        """For how many seconds the store keeps what has happened."""
        return self.history * 86_400

    @property
    def hides_ours(self) -> bool:
        """Whether sessions have the members of the published page and no others."""
        return self.published_only or self.compat == "fastx"

    @property
    def secret_file(self) -> Path:
        """Where the secret is kept when ``FASTX_LIST_SECRET_KEY`` does not give one."""
        return self.state_dir / "secret"

    @property
    def server_id_file(self) -> Path:
        """Where the server id is kept when ``FASTX_LIST_SERVER_ID`` does not give one."""
        return self.state_dir / _SERVER_ID_FILE


# By name, in the order of the documentation
_DECLARED: dict[str, Declared] = {each.name.upper(): each.metadata[""] for each in fields(Settings)}


# Which `COMPAT=fastx` brings: to have one without the other, the other two are there
_OF_COMPAT = ("RESULT_ENVELOPE", "PUBLISHED_ONLY")

# Which `up` sets for what it starts
_OF_A_PROCESS = ("list_port", "live_port")

# What ls and others read from the environment: whom to ask, and with which token
_OF_A_CLIENT = ("URL", "TOKEN")

# gunicorn's own, which the file may hold, too
_OTHERS: dict[str, Callable[[str], object]] = {"WEB_CONCURRENCY": values.whole(1, 1000)}


def load(environ: Environment | None = None) -> Settings:
    """Return the settings that this process's environment and the file ask for, or ``environ`` and
    the file that it names.

    Raises :class:`SettingsError` for a value that a setting does not take, and for a line or a file
    that cannot be used. What is no setting is logged as a warning.
    """
    found = set_by(environ)
    for problem in warnings(found):
        log.warning("%s", problem)
    settings, errors = read(found)
    if settings is None:
        raise SettingsError(errors[0])
    return settings


def set_by(environ: Environment | None = None) -> Sources:
    """Return what is set, and where; see :func:`fastx_list.settings_file.sources`. Raises
    :class:`SettingsError`."""
    try:
        return settings_file.sources(environ)
    except settings_file.FileError as error:
        raise SettingsError(str(error)) from None


def read(found: Sources) -> tuple[Settings | None, list[str]]:
    """Return the settings that ``found`` asks for; ``None``, and all that is wrong, if anything
    is."""
    taken: dict[str, Any] = {}
    errors = list(found.errors)
    for name, declared in _DECLARED.items():
        value = given(found.environ, name)
        try:
            if value is not None:
                taken[name.lower()] = declared.read(value)
            elif declared.find is not None:
                taken[name.lower()] = declared.find(found.environ)
        except ValueError as error:
            errors.append(f"{_where(found, PREFIX + name)}{PREFIX}{name} takes {error}")
    for name, take in _OTHERS.items():
        try:
            if value := found.environ.get(name, "").strip():
                take(value)
        except ValueError as error:
            errors.append(f"{_where(found, name)}{name} takes {error}")
    if taken.get("compat") == "fastx":
        for name in _OF_COMPAT:
            if taken.get(name.lower()) is False:
                where = _where(found, PREFIX + name)
                errors.append(f"{where}{PREFIX}{name} takes true beside {PREFIX}COMPAT=fastx")
    return (None, errors) if errors else (Settings(**taken), [])


def warnings(found: Sources) -> Iterator[str]:
    """Yield what to tell people of the file, of each variable that looks like a setting and is
    none, and of each line that sets none."""
    yield from found.warnings
    for variable in sorted(found.environ):
        name = variable.removeprefix(PREFIX)
        if name == variable and (variable not in found.lines or variable in _OTHERS):
            continue
        if variable == settings_file.VARIABLE or variable.startswith(SESSION_PREFIX):
            continue
        if name in _OF_A_CLIENT and variable not in found.lines:
            continue
        if name == variable or name not in _DECLARED:
            near = difflib.get_close_matches(name.upper(), _DECLARED, n=1)
            hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
            yield f"{_where(found, variable)}{printable(variable)} is no setting{hint}"


def _where(found: Sources, variable: str) -> str:
    return f"{found.lines[variable].where}: " if variable in found.lines else ""


def fingerprint(settings: Settings, key: str) -> str:
    """Return a text that changes with ``settings`` and says nothing of them without ``key``, which
    is kept secret. It is the same in all processes of a machine."""
    told = [
        (each.name, sorted(map(str, value)) if isinstance(value, frozenset) else str(value))
        for each in fields(settings)
        if each.name not in _OF_A_PROCESS
        for value in (getattr(settings, each.name),)
    ]
    return hmac.new(key.encode(), repr(told).encode(), "sha256").hexdigest()[:16]


def declared_settings() -> Mapping[str, Declared]:
    """Return what is said of each setting, by its name without the prefix."""
    return _DECLARED


def given(environ: Environment, name: str) -> str | None:
    """Return the text that the setting ``name`` is set to; ``None`` if it is not set."""
    return environ.get(PREFIX + name, "").strip() or None
