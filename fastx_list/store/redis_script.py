"""The script ``redis.lua``, which does every write in one atomic step, and the keys that it works
on.

Keys, all beginning with ``{prefix}:1:``, where 1 is the version of this layout: ``head``,
``changes``, ``sessions`` (id: JSON), ``params`` (id: JSON), ``servers`` (id: JSON), ``revoked``
(jti by expiry), ``clock``, ``expires`` (server by end of its lease), ``remembered`` (server by when
its lease ended), those that ``redis_past.py`` says, and for each server ``lease:``, ``view:`` (its
edition), ``digests:`` (session id: digest and login), ``gone:`` and ``gone-params:``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable, Mapping
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from fastx_list.store import (
    KEEP_ENDS_SECONDS,
    KEEP_REVOKED_SECONDS,
    MAX_CHANGES,
    REMEMBER_SECONDS,
    StoreError,
)
from fastx_list.store.archive import (
    KEEP_SECONDS,
    LEAST_EVENTS_SECONDS,
    MAX_EVENTS_OF_LOGIN,
    MAX_KEPT,
    MAX_KEPT_OF_LOGIN,
)
from fastx_list.store.redis_link import WRONG_TYPE, Link

MAX_NAMED = 100  # servers whose keys are looked at for an error's message

# What Redis calls the kinds of the keys
_KINDS = {
    "head": b"string",
    "changes": b"stream",
    "revoked": b"zset",
    "expires": b"zset",
    "remembered": b"zset",
    "events": b"stream",
    **dict.fromkeys(("past-kept", "past-places"), b"zset"),
    **dict.fromkeys(("sessions", "params", "servers", "clock", "past", "past-texts"), b"hash"),
}
_KINDS_OF_SERVER = {
    "view:": b"string",
    **dict.fromkeys(("lease:", "digests:", "gone:", "gone-params:"), b"hash"),
}

_PAST = "-- redis_past.lua stands here\n"


def _read(name: str) -> str:
    return files("fastx_list.store").joinpath(name).read_text(encoding="utf-8")


_TEXT = _read("redis.lua").replace(_PAST, _read("redis_past.lua"))
_DIGEST = hashlib.sha1(_TEXT.encode()).hexdigest()  # what EVALSHA knows a script by


class Script:
    """The script on the keys of one store."""

    def __init__(self, prefix: str, keep: float = KEEP_SECONDS) -> None:
        """The past is kept for ``keep`` seconds."""
        self._keep = round(keep)
        # What all keys begin with; the braces keep them together in a cluster
        self._prefix = f"{{{prefix}}}:1:"
        self.head = self.key("head")  # the last revision, and the name of the step that made it
        self.changes = self.key("changes")  # the stream whose ids are the revisions

    def key(self, name: str) -> str:
        return self._prefix + name

    def run(self, link: Link, step: str, *arguments: str | bytes | int) -> Any:
        """Do a step of the script; return its answer. Raises :class:`StoreError`."""
        bounds = (
            *(MAX_CHANGES, KEEP_ENDS_SECONDS, REMEMBER_SECONDS, KEEP_REVOKED_SECONDS),
            *(self._keep, round(LEAST_EVENTS_SECONDS), MAX_KEPT),
            *(MAX_KEPT_OF_LOGIN, MAX_EVENTS_OF_LOGIN),
        )
        # In one, since Redis takes ten words at most of who has not said a password yet
        values = self.head, step, secrets.token_hex(8), " ".join(map(str, bounds)), *arguments
        try:
            try:
                return link.ask(("EVALSHA", _DIGEST, 1, *values))[0]
            except NoScriptError:
                return link.ask(("EVAL", _TEXT, 1, *values))[0]
        except StoreError as error:
            if WRONG_TYPE not in str(error):
                raise
            wrong = ", ".join(map(repr, self._wrong_keys(link, map(str, arguments[:1]))))
            raise StoreError(
                f"{error}; remove what was not written by this store: {wrong}"
            ) from error

    def _wrong_keys(self, link: Link, servers: Iterable[str]) -> list[str]:
        """Return the keys that are of another kind than the script's: those of all, else those of
        ``servers`` and of such as have a lease."""
        wrong = self._of_other_kinds(link, {self.key(name): kind for name, kind in _KINDS.items()})
        if wrong:
            return wrong
        [leased] = link.ask(("ZRANGE", self.key("expires"), 0, MAX_NAMED))
        names = {*servers, *(name.decode(errors="surrogateescape") for name in leased)}
        return self._of_other_kinds(
            link,
            {
                self.key(kind + name): found
                for name in names
                for kind, found in _KINDS_OF_SERVER.items()
            },
        )

    @staticmethod
    def _of_other_kinds(link: Link, kinds: Mapping[str, bytes]) -> list[str]:
        found = link.ask(*(("TYPE", key.encode(errors="surrogateescape")) for key in kinds))
        return [
            key
            for (key, kind), is_now in zip(kinds.items(), found, strict=True)
            if is_now not in (kind, b"none")
        ]
