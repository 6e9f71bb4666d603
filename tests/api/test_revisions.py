from __future__ import annotations

import os
import subprocess
import sys

from fastx_list.api.revisions import list_tag, step_of
from fastx_list.model.query import Filter
from fastx_list.replica.topics import Everything

FILTERS = (Filter("login", frozenset("abcdef")), Filter("clients", frozenset({"0", "1", "2"})))
TELL = """
from tests.api.test_revisions import FILTERS, list_tag
print(list_tag("alice", FILTERS, False))
"""


def test_it_is_the_same_in_every_process_and_however_filters_are_ordered() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", TELL],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
        for seed in (1, 2, 3)
    }
    assert told == {list_tag("alice", FILTERS[::-1], False)}


def test_each_list_has_its_own() -> None:
    tags = {
        list_tag(topic, filters, hides_ours)
        for topic in ("alice", "bob", "SESSIONS", *Everything)
        for filters in ((), FILTERS, FILTERS[:1])
        for hides_ours in (False, True)
    }
    assert len(tags) == 5 * 3 * 2


def test_a_revision_is_a_step_of_its_list_alone() -> None:
    alice, bob = (list_tag(login, (), False) for login in ("alice", "bob"))
    assert step_of(f"1a2b{alice}", alice) == "1a2b"
    assert step_of(f"1a2b{alice}", bob) is step_of("1a2b", alice) is None
