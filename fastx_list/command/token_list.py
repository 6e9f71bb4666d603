"""``fastx-list token list``: what is known of tokens. None is kept, so it cannot be all."""

from __future__ import annotations

import time
from contextlib import closing
from typing import Any

import click

from fastx_list import config
from fastx_list.command.formats import format_options, print_found
from fastx_list.command.sinks import AT_ONCE
from fastx_list.command.tables import local_time
from fastx_list.command.terminal import Column, cut_end
from fastx_list.model.event import What
from fastx_list.store import Store, open_store

_COLUMNS = {
    "id": Column("Token", lambda token: token["id"], 1),
    "login": Column("Login", lambda token: token["login"], 2, cut_end),
    "admin": Column("Admin", lambda token: {True: "yes", False: "no"}.get(token["admin"]), 4),
    "expires": Column("Expires", lambda token: local_time(token["expires"]), 3),
    "state": Column("State", lambda token: token["state"], 0),
}


@click.command("list")
@format_options
def list_tokens(output: str | None, columns: str | None) -> None:
    """List the tokens that "token issue" has made and those that were revoked, as long as they are
    good. A token's id is its claim jti.

    Tokens are not kept anywhere, so these are not all: what a portal has signed is not known before
    it is revoked, and what was issued is known for as long as events are kept.
    """
    settings = config.load()
    with closing(open_store(settings.store, create=False, keep=settings.keep)) as store:
        found = _known(store)
    print_found(found, output, columns, _COLUMNS, _COLUMNS)
    if output in (None, "table", "wide"):
        click.echo("what portals have signed is known only once it is revoked", err=True)


def _known(store: Store) -> list[dict[str, Any]]:
    now = time.time()
    revoked = store.snapshot().revoked
    tokens: dict[str, dict[str, Any]] = {
        name: {"id": name, "login": None, "admin": None, "expires": expires * 1000}
        for name, expires in revoked.items()
    }
    place = None
    while page := store.archive.events(place, AT_ONCE).events:
        for event in page:
            if event.what == What.TOKEN_ISSUED.value and "token" in event.more:
                tokens[event.more["token"]] = {
                    "id": event.more["token"],
                    "login": event.login,
                    "admin": event.more.get("admin"),
                    "expires": event.more["expires"] * 1000,
                }
        place = page[-1].id
    good = [each for each in tokens.values() if each["expires"] > now * 1000]
    for each in good:
        each["state"] = "revoked" if each["id"] in revoked else "good"
    return sorted(good, key=lambda each: (each["expires"], each["id"]))
