"""Where a store in Redis is: what its URL says, and nothing of its password in any text that is
meant for people."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias
from urllib.parse import parse_qsl, unquote, urlsplit

from fastx_list.state import StateError, read_file

DEFAULT_PORT, SENTINEL_PORT = 6379, 26379
PREFIX = "fastx-list"
SCHEMES = ("redis", "rediss", "redis+unix", "redis+sentinel", "rediss+sentinel")

Hosts: TypeAlias = tuple[tuple[str, int], ...]  # names or numbers, and ports


@dataclass(frozen=True)
class Address:
    """What a ``redis`` URL says."""

    hosts: Hosts = ()  # of Redis, or of its Sentinels if there is a master
    socket: str | None = None  # the path of a Unix socket, in place of hosts
    master: str | None = None  # the name of what the Sentinels watch
    database: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    # Files that hold a password; they are read at each connection, so that it can be changed
    password_file: Path | None = None
    sentinel_password_file: Path | None = None
    tls: bool = False
    # Files in PEM: an authority to trust, and what this side shows of itself
    ca: str | None = None
    cert: str | None = None
    key: str | None = None
    prefix: str = PREFIX  # what the names of all keys begin with

    def __str__(self) -> str:
        where = self.socket or ",".join(
            f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts
        )
        return (
            f"Redis at {where}, {f'master {self.master}, ' if self.master else ''}database"
            f" {self.database}"
        )

    def read_password(self) -> str | None:
        """Return the password; raises ``OSError`` or ``ValueError`` if its file cannot be read."""
        return _read_line(self.password_file) or self.password

    def read_sentinel_password(self) -> str | None:
        """Return the password of the Sentinels; raises the same."""
        return _read_line(self.sentinel_password_file)


def parse(url: str) -> Address:
    """Return what ``url`` says. Raises ``ValueError`` with a message that does not repeat the URL,
    since it may hold a password."""
    # What stands between the slashes may be several hosts, which are no netloc (RFC 3986) to
    # urlsplit if one of them is an IPv6 address.
    before, authority, after = re.findall(r"\A([^/?#]*//)?([^/?#]*)(.*)", url, re.DOTALL)[0]
    parts = urlsplit(before + after)
    if parts.scheme not in SCHEMES:
        raise ValueError("what is given begins with none of these")
    options = _options(parts.query)
    userinfo, _, netloc = authority.rpartition("@")
    username, _, password = (unquote(part) or None for part in userinfo.partition(":"))
    hosts, socket, master, names = _reach(parts.scheme, netloc, unquote(parts.path))
    if len(names) > 1:
        raise ValueError("after the host it takes one database number")
    database = names[0] if names else options.get("db", "0")
    if not database.isdecimal() or len(database) > 5:
        raise ValueError("the database takes a number")
    return Address(
        hosts,
        socket,
        master,
        int(database),
        username,
        password,
        _path(options.get("password_file")),
        _path(options.get("sentinel_password_file")),
        tls=parts.scheme.startswith("rediss"),
        ca=options.get("ca"),
        cert=options.get("cert"),
        key=options.get("key"),
        prefix=options.get("prefix", PREFIX),
    )


def _reach(scheme: str, netloc: str, path: str) -> tuple[Hosts, str | None, str | None, list[str]]:
    """Return the hosts, the socket, the master, and what else stands in the path."""
    if scheme == "redis+unix":
        if netloc or not path.startswith("/"):
            raise ValueError("redis+unix:///PATH takes an absolute path, after three slashes")
        return (), path, None, []
    names = [name for name in path.split("/") if name]
    hosts = netloc.split(",")
    if not scheme.endswith("+sentinel"):
        if len(hosts) > 1:
            raise ValueError(
                "redis://HOST takes one host; several of them are for redis+sentinel://"
            )
        return (_host(netloc, DEFAULT_PORT),), None, None, names
    if not names:
        raise ValueError(
            "redis+sentinel://HOST,HOST/NAME takes the name of the master that the Sentinels watch"
        )
    return tuple(_host(each, SENTINEL_PORT) for each in hosts), None, names[0], names[1:]


def _options(query: str) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    allowed = ("db", "prefix", "password_file", "sentinel_password_file", "ca", "cert", "key")
    for name, value in options.items():
        if name not in allowed or not value:
            raise ValueError(
                f"its options are {', '.join(f'{each}=' for each in allowed)}, each with a value"
            )
    for name in ("ca", "cert", "key", "password_file", "sentinel_password_file"):
        if name in options and not os.path.isfile(options[name]):
            raise ValueError(
                f"its option {name}= takes the path of a file; there is none at {options[name]!r}"
            )
    prefix = options.get("prefix", PREFIX)
    if not prefix.isascii() or not prefix.isprintable() or set("{} ") & set(prefix):
        raise ValueError(
            "its option prefix= takes ASCII letters, digits and punctuation other than braces"
        )
    return options


def _read_line(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        return read_file(file)[0].decode().rstrip("\r\n")
    except StateError as error:
        raise StateError(f"the password in {file}: {error}") from None


def _path(value: str | None) -> Path | None:
    return None if value is None else Path(value)


def _host(text: str, default: int) -> tuple[str, int]:
    """Return the host and the port that ``text`` names."""
    try:
        parts = urlsplit(f"//{text}")
        host = parts.hostname
    except ValueError:
        host = None
    if not host:
        raise ValueError(
            "after the slashes it takes HOST or HOST:PORT, with an IPv6 address in brackets"
        )
    try:
        port = default if parts.port is None else parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("a port takes a number from 1 to 65535")
    return host, port
