"""Every setting of the product: its name, its default, its check.

A setting is an environment variable ``FASTX_LIST_<NAME>``; its value is always taken as text, so
that a secret of digits stays text. An empty variable counts as absent.
"""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fastx_list.store import address
from fastx_list.text import FALSE, TRUE

PREFIX = "FASTX_LIST_"
MIN_SECRET_BYTES = 32  # RFC 7518 section 3.2: a key for HS256 has at least 256 bits
UNIX = "unix"  # among the trusted proxies: whoever connects over a Unix socket

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class ConfigError(ValueError):
    """A setting has a value it does not take; the message names the setting and what it takes."""


@dataclass(frozen=True)
class Settings:
    """The settings in force in this process.

    ``scan_interval``, ``ping_interval``, ``slow_client_timeout`` and ``server_expiry`` are in
    seconds, ``max_subscribers_per_login`` is a number of WebSockets on one sidecar worker,
    ``sources`` are names of kinds of session (``None``: the usual ones), ``trusted_proxies`` are
    networks and perhaps ``unix``, and ``live_port`` is the TCP port of the sidecar on the host that
    serves the page, or ``None`` where one proxy serves both on one port.
    """

    state_dir: Path
    store: str = field(repr=False)  # it may hold a password
    server_id: str
    spool: Path
    session_json: Path
    sources: tuple[str, ...] | None = None
    secret_key: str | None = None
    token_public_key: Path | None = None
    result_envelope: bool = False
    allowed_origins: tuple[str, ...] = ()
    trusted_proxies: frozenset[Network | str] = frozenset()
    scan_interval: float = 1.0
    max_subscribers_per_login: int = 100
    ping_interval: float = 25.0
    slow_client_timeout: float = 60.0
    live_port: int | None = None
    server_expiry: float = 60.0
    server_pool: str | None = None
    server_url: str | None = None

    @property
    def secret_file(self) -> Path:
        """Where the secret is kept when ``FASTX_LIST_SECRET_KEY`` does not give one."""
        return self.state_dir / "secret"


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings that ``environ`` (default: this process's environment) asks for.

    Raises :class:`ConfigError` for a value that a setting does not take.
    """
    read = _Reader(os.environ if environ is None else environ)
    state_dir = (
        Path(read.text("STATE_DIR") or _default_state_dir(read.environ)).expanduser().absolute()
    )
    return Settings(
        state_dir=state_dir,
        store=read.store("STORE") or address.of_file(state_dir / "sessions.db"),
        server_id=read.matching(
            "SERVER_ID", r"[A-Za-z0-9._:-]{1,128}", "1 to 128 letters, digits and ._:-"
        )
        or _hostname(),
        spool=Path(read.text("SPOOL") or state_dir / "spool").expanduser().absolute(),
        session_json=Path(read.text("SESSION_JSON") or state_dir / "session.json")
        .expanduser()
        .absolute(),
        sources=read.names("SOURCES") or None,
        secret_key=read.secret("SECRET_KEY"),
        token_public_key=read.file("TOKEN_PUBLIC_KEY"),
        result_envelope=read.boolean("RESULT_ENVELOPE", False),
        allowed_origins=read.origins("ALLOWED_ORIGINS"),
        trusted_proxies=read.proxies("TRUSTED_PROXIES"),
        scan_interval=read.number("SCAN_INTERVAL", 1.0, 0.1, 3600),
        max_subscribers_per_login=int(
            read.number("MAX_SUBSCRIBERS_PER_LOGIN", 100, 1, 1_000_000, whole=True)
        ),
        ping_interval=read.number("PING_INTERVAL", 25.0, 0.1, 3600),
        slow_client_timeout=read.number("SLOW_CLIENT_TIMEOUT", 60.0, 0.1, 3600),
        live_port=int(read.number("LIVE_PORT", 0, 0, 65535, whole=True)) or None,
        server_expiry=read.number("SERVER_EXPIRY", 60.0, 1, 86_400),
        server_pool=read.text("SERVER_POOL"),
        server_url=read.matching(
            "SERVER_URL", r"https?://[^\s]+", "a URL such as https://node1.example.org"
        ),
    )


class _Reader:
    """Reads one kind of value each; every error says the variable's name and what it takes."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self.environ = environ

    def text(self, name: str) -> str | None:
        return self.environ.get(PREFIX + name, "").strip() or None

    def matching(self, name: str, pattern: str, takes: str) -> str | None:
        value = self.text(name)
        if value is not None and not re.fullmatch(pattern, value):
            raise ConfigError(f"{PREFIX}{name} takes {takes}, not {value!r}")
        return value

    def store(self, name: str) -> str | None:
        value = self.text(name)
        if value is None:
            return None
        try:
            address.parse(value)
        # Which does not repeat the value, since that may hold a password
        except ValueError as error:
            raise ConfigError(f"{PREFIX}{name} takes {error}") from None
        return value

    def secret(self, name: str) -> str | None:
        value = self.text(name)
        if value is not None and (
            len(value.encode("utf-8", "replace")) < MIN_SECRET_BYTES or not value.isprintable()
        ):
            raise ConfigError(
                f"{PREFIX}{name} takes at least {MIN_SECRET_BYTES} bytes; make one with: openssl"
                " rand -hex 32"
            )
        return value

    def file(self, name: str) -> Path | None:
        value = self.text(name)
        try:
            if value is not None and not stat.S_ISREG(os.stat(value).st_mode):
                raise ConfigError(
                    f"{PREFIX}{name} takes the path of a file; there is none at {value!r}"
                )
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(
                f"{PREFIX}{name} takes the path of a file; at {value!r}: {reason}"
            ) from None
        return Path(value) if value is not None else None

    def boolean(self, name: str, default: bool) -> bool:
        value = (self.text(name) or str(default)).lower()
        if value not in TRUE + FALSE:
            raise ConfigError(f"{PREFIX}{name} takes true or false, not {value!r}")
        return value in TRUE

    def number(
        self, name: str, default: float, low: float, high: float, whole: bool = False
    ) -> float:
        value = self.text(name)
        takes = (
            f"{PREFIX}{name} takes a {'whole ' if whole else ''}number from {low:g} to {high:g},"
            f" not {value!r}"
        )
        if value is not None and not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,15})?", value):
            raise ConfigError(takes)
        number = default if value is None else float(value)
        if not low <= number <= high or (whole and number != int(number)):
            raise ConfigError(takes)
        return number

    def names(self, name: str) -> tuple[str, ...]:
        return tuple((self.text(name) or "").replace(",", " ").split())

    def origins(self, name: str) -> tuple[str, ...]:
        values = self.names(name)
        for value in values:
            if not re.fullmatch(r"https?://[^/\s*]+", value):
                raise ConfigError(
                    f"{PREFIX}{name} takes origins such as https://portal.example.org, not"
                    f" {value!r}"
                )
        return values

    def proxies(self, name: str) -> frozenset[Network | str]:
        try:
            return frozenset(
                value if value == UNIX else ipaddress.ip_network(value)
                for value in self.names(name)
            )
        except ValueError as error:
            raise ConfigError(
                f"{PREFIX}{name} takes addresses, networks such as 10.0.0.0/8, and unix: {error}"
            ) from None


def _default_state_dir(environ: Mapping[str, str]) -> str:
    if os.geteuid() == 0:
        return "/var/lib/fastx-list"
    # XDG Base Directory Specification 0.8: a relative XDG_STATE_HOME is to be ignored.
    home = environ.get("XDG_STATE_HOME", "")
    return os.path.join(
        home if os.path.isabs(home) else os.path.expanduser("~/.local/state"), "fastx-list"
    )


def _hostname() -> str:
    return re.sub(r"[^A-Za-z0-9._:-]", "-", socket.gethostname())[:128] or "localhost"
