"""Several machines that share one list through Redis. ``python -m tests.chaos.machines`` does the
same for as long as you like."""

from __future__ import annotations

from tests.chaos.machines.__main__ import drill
from tests.chaos.machines.drill import KINDS


def test_whatever_happens_to_machines_and_redis_every_list_and_subscriber_says_the_truth() -> None:
    spent = drill(seed=1, rounds=50)
    assert KINDS.keys() <= spent.keys()
