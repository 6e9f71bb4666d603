"""The script ``redis.lua``, which does every write in one atomic step, and the keys that it works
on.

Keys, all beginning with ``{prefix}:1:``, where 1 is the version of this layout: ``head``,
``changes``, ``sessions`` (id: JSON), ``params`` (id: JSON), ``servers`` (id: JSON), ``revoked``
(jti by expiry), ``clock``, ``expires`` (server by end of its lease), and for each server
``lease:``, ``view:`` (its edition), ``digests:`` (session id: digest and login), ``gone:`` and
``gone-params:``.
"""

from __future__ import annotations

import hashlib
import secrets
from importlib.resources import files
from typing import Any

from redis.exceptions import NoScriptError

from fastx_list.store import HISTORY_SECONDS
from fastx_list.store.redis_link import Link

MAX_CHANGES = 20_000  # that are kept for readers

_TEXT = files("fastx_list.store").joinpath("redis.lua").read_text(encoding="utf-8")
_DIGEST = hashlib.sha1(_TEXT.encode()).hexdigest()  # what EVALSHA knows a script by


class Script:
    """The script on the keys of one store."""

    def __init__(self, prefix: str) -> None:
        # What all keys begin with; the braces keep them together in a cluster
        self._prefix = f"{{{prefix}}}:1:"
        self.head = self.key("head")  # the last revision, and the name of the step that made it
        self.changes = self.key("changes")  # the stream whose ids are the revisions

    def key(self, name: str) -> str:
        return self._prefix + name

    def run(self, link: Link, step: str, *arguments: str | bytes | int) -> Any:
        """Do a step of the script; return its answer. Raises :class:`StoreError`."""
        values = self.head, step, secrets.token_hex(8), MAX_CHANGES, HISTORY_SECONDS, *arguments
        try:
            return link.ask(("EVALSHA", _DIGEST, 1, *values))[0]
        except NoScriptError:
            return link.ask(("EVAL", _TEXT, 1, *values))[0]
