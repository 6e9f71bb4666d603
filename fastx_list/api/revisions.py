"""Revisions as clients have them: which step last changed a list, and which list that is.

A step alone would be taken for one of any list. Who comes with a revision of another address, of
other filters, or of sessions with other members would be told what has changed since, and never of
the rest.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

from fastx_list.model.query import Filter
from fastx_list.replica.topics import Everything, Topic

_TAG_BYTES = 4
_MOST_TAGS = 256  # that are remembered


@lru_cache(_MOST_TAGS)
def list_tag(topic: Topic, filters: tuple[Filter, ...], hides_ours: bool) -> str:
    """Return what the revisions of this list end with, in every process: of what there is of
    ``topic`` and passes all ``filters``, with the published members alone if it ``hides_ours``."""
    # A set of texts has another order in each process
    asked = sorted((each.name, sorted(each.values)) for each in filters)
    whose = topic.name if isinstance(topic, Everything) else (topic,)
    text = repr((whose, asked, hides_ours)).encode()
    return hashlib.blake2b(text, digest_size=_TAG_BYTES).hexdigest()


def step_of(revision: str, tag: str) -> str | None:
    """Return the step that ``revision`` names; ``None`` if it is none of the list with this
    ``tag``."""
    return revision.removesuffix(tag) if revision.endswith(tag) else None
