"""``fastx-list login`` and ``logout``: the service that ls and others ask, and the token for it, in
a file that nobody else may read."""

from __future__ import annotations

import ipaddress
import os
import re
import stat
import sys
import time
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import click
import jwt

from fastx_list.api.addresses import SESSIONS
from fastx_list.client import Client, Refused
from fastx_list.model.json import from_json, to_json
from fastx_list.state import StateError, is_there, read_file, read_own, remove, replace, write_new
from fastx_list.text import printable
from fastx_list.values import path


class SignedIn(NamedTuple):
    """Whom to ask, and with which token."""

    url: str
    token: str


@click.command()
@click.argument("url")
def login(url: str) -> None:
    """Keep a token for the service at URL, for ls, watch, servers, events and history.

    The token is asked for, or read from standard input, where other users' ps(1) does not see it.
    """
    if not is_private_way(url):
        raise click.UsageError(f"a token goes over https, and not to {url}")
    if sys.stdin.isatty():
        token = plain_token(click.prompt("Token", hide_input=True))
    else:
        token = read_token("-")
    try:
        Client(url, token).ask(SESSIONS.address, [("limit", "0")])
    except ValueError as error:
        raise click.UsageError(f"URL {error}") from None
    except Refused as error:
        raise click.ClickException(f"{url} refuses: {printable(error)}") from None
    except (OSError, HTTPException) as error:
        why = printable(getattr(error, "strerror", None) or error)
        raise click.ClickException(f"no answer from {url}: {why}; is the address right?") from None
    file = _file()
    try:
        keep = replace if is_there(file.parent) else write_new
        keep(file, to_json({"url": url, "token": token}))
    except OSError as error:
        raise click.ClickException(f"{file} cannot be written: {error.strerror or error}") from None
    claims = jwt.decode(token, options={"verify_signature": False})
    until = time.strftime("%Y-%m-%d %H:%M", time.localtime(claims["exp"]))
    click.echo(f"{printable(claims['sub'])} may ask {url} until {until}")


@click.command()
def logout() -> None:
    """Forget the token that login has kept."""
    signed_in = read_signed_in()
    try:
        remove(_file())
    except OSError as error:
        problem = f"{_file()} cannot be removed: {error.strerror or error}"
        raise click.ClickException(problem) from None
    click.echo(
        "nothing was kept" if signed_in is None else f"the token for {signed_in.url} is gone"
    )


def read_signed_in() -> SignedIn | None:
    """Return what login has kept; ``None`` if there is nothing."""
    file = _file()
    try:
        data, status = read_own(file)
        kept = from_json(data)
        signed_in = SignedIn(kept["url"], kept["token"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = getattr(error, "strerror", None) or error
        raise click.ClickException(
            f"{file} cannot be used: {why}; fastx-list login makes another"
        ) from None
    _check_closed(file, status)
    return signed_in


def read_token(file: str) -> str:
    """Return the token in ``file``, which nobody else may read; ``-`` is standard input."""
    if file == "-":
        return plain_token(sys.stdin.readline())
    try:
        data, status = read_file(Path(file).absolute())
    except (OSError, StateError) as error:
        why = getattr(error, "strerror", None) or error
        raise click.ClickException(f"the token {file} cannot be read: {why}") from None
    _check_closed(Path(file), status)
    return plain_token(data.decode("utf-8", "replace"))


def is_private_way(url: str) -> bool:
    """Whether a token that is sent to ``url`` crosses no network as plain text."""
    try:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "ws") or parts.hostname == "localhost":
            return True
        return ipaddress.ip_address(parts.hostname or "").is_loopback
    except ValueError:
        return False


def plain_token(text: str) -> str:
    """Return a token without what people copy with it."""
    token = text.strip()
    token = token[7:].strip() if token[:7].lower() == "bearer " else token
    if not re.fullmatch("[!-~]*", token):  # what would be said of it later repeats it
        raise click.ClickException("the token is none: it has blanks, or more than one line")
    return token


def _check_closed(file: Path, status: os.stat_result) -> None:
    if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise click.ClickException(f"{file} is open to others; close it with: chmod 600 {file}")


def _file() -> Path:
    # XDG Base Directory Specification 0.8: a relative XDG_CONFIG_HOME is to be ignored
    home = os.environ.get("XDG_CONFIG_HOME", "")
    return path(home if os.path.isabs(home) else "~/.config") / "fastx-list" / "login.json"
