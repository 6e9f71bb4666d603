"""Every setting of the product, declared once: its name, default, check and description.

A setting is an environment variable ``FASTX_LIST_<NAME>``; its value is always taken as text, so
that a secret of digits stays text. An empty variable counts as absent. ``python -m
fastx_list.config`` prints the table of settings that is in ``docs/deploy.md``.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from fastx_list import values
from fastx_list.state import machine, read_own
from fastx_list.store import address
from fastx_list.text import printable
from fastx_list.values import MIN_SECRET_BYTES, Network

PREFIX = "FASTX_LIST_"
SESSION_PREFIX = f"{PREFIX}SESSION_"  # what a launcher says of a session, in that environment

Environment = Mapping[str, str]
T = TypeVar("T")

log = logging.getLogger(__name__)


class ConfigError(ValueError):
    """A setting has a value it does not take; the message names the setting and what it takes."""


class _Declared(NamedTuple):
    """What is said of a setting: how its value is read, and its columns of the documentation."""

    read: Callable[[str], Any]
    find: Callable[[Environment], Any] | None  # the default, where it is not always the same
    default: str
    takes: str


def _setting(
    read: Callable[[str], T],
    default: T,
    takes: str,
    shown: str | None = None,
    is_secret: bool = False,
) -> T:
    """Declare a setting that is ``default`` unless it is set; ``shown`` says that to people."""
    declared = _Declared(read, None, shown or _shown(default), takes)
    return field(default=default, metadata={"": declared}, repr=not is_secret)


def _found(
    read: Callable[[str], T],
    find: Callable[[Environment], T],
    takes: str,
    shown: str,
    is_secret: bool = False,
) -> T:
    """Declare a setting whose default is looked up."""
    declared: T = field(metadata={"": _Declared(read, find, shown, takes)}, repr=not is_secret)
    return declared


def _shown(default: object) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    return f"{default:g}" if isinstance(default, int | float) else "none"


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
        f"`{address.TAKES}`; see below",
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
_DECLARED: dict[str, _Declared] = {
    each.name.upper(): each.metadata[""] for each in fields(Settings)
}


def load(environ: Environment | None = None) -> Settings:
    """Return the settings that ``environ`` (default: this process's environment) asks for.

    Raises :class:`ConfigError` for a value that a setting does not take. A variable that is no
    setting is logged as a warning.
    """
    environ = os.environ if environ is None else environ
    for problem in unknown(environ):
        log.warning("%s", problem)
    found: dict[str, Any] = {}
    for name, declared in _DECLARED.items():
        value = given(environ, name)
        try:
            if value is not None:
                found[name.lower()] = declared.read(value)
            elif declared.find is not None:
                found[name.lower()] = declared.find(environ)
        except ValueError as error:
            raise ConfigError(f"{PREFIX}{name} takes {error}") from None
    return Settings(**found)


def unknown(environ: Environment) -> Iterator[str]:
    """Yield what to tell people of each variable that looks like a setting and is none."""
    for variable in sorted(environ):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in _DECLARED or variable.startswith(SESSION_PREFIX):
            continue
        near = difflib.get_close_matches(name.upper(), _DECLARED, n=1)
        hint = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        yield f"{printable(variable)} is no setting{hint}"


def table() -> str:
    """Return the table of settings for ``docs/deploy.md``, in Markdown."""
    rows = [
        f"| `{PREFIX}{name}` | {declared.default} | {declared.takes} |"
        for name, declared in _DECLARED.items()
    ]
    return "\n".join(["| variable | default | takes |", "|---|---|---|", *rows])


def given(environ: Environment, name: str) -> str | None:
    """Return the text that the setting ``name`` is set to; ``None`` if it is not set."""
    return environ.get(PREFIX + name, "").strip() or None


if __name__ == "__main__":
    print(table())
