"""What is measured, in the store: it is written when it is another one, and outlives the agent."""

from __future__ import annotations

import random
from typing import Any

from fastx_list.agent.keep import Agent
from fastx_list.config import Settings
from fastx_list.store import Store
from tests.agent.scripted import Scripted, facts, only

MIB = 1024**2
MEASURED: dict[str, Any] = {"memory": 300 * MIB, "cpu": 20, "idle_since": 1_700_000_000_000}


def test_a_thousand_idle_sessions_are_written_once(settings: Settings, store: Store) -> None:
    source, chance = Scripted(), random.Random(7)
    agent = Agent(settings, store, {"source": source})
    place = []
    for _ in range(5):
        source.facts = [
            facts(
                f"x{number}",
                cpu=chance.choice([19, 20, 21]),
                memory=round(300 * MIB * chance.uniform(0.96, 1.04)),
                idle_since=1_700_000_000_000 + chance.randrange(1500),
            )
            for number in range(1000)
        ]
        agent.scan()
        place.append(store.edition("here"))
    assert len(set(place)) == 1


def test_what_differs_by_a_tenth_is_written(settings: Settings, store: Store) -> None:
    source = Scripted(facts(**MEASURED))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    later: dict[str, Any] = {"memory": 350 * MIB, "cpu": 23, "idle_since": 1_700_000_003_000}
    source.facts = [facts(**later)]
    agent.scan()
    session = only(store)
    assert {name: getattr(session, name) for name in later} == later
    source.facts = [facts(**{**later, "idle_since": None})]
    agent.scan()
    assert only(store).idle_since is None


def test_a_new_agent_leaves_them_until_it_knows_better(settings: Settings, store: Store) -> None:
    Agent(settings, store, {"source": Scripted(facts(**MEASURED))}).scan()
    source = Scripted(facts(is_measured=False, has_idle=False))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    session = only(store)
    assert {name: getattr(session, name) for name in MEASURED} == MEASURED
    source.facts = [facts(memory=500 * MIB)]  # which takes one time, and processor time two
    agent.scan()
    session = only(store)
    assert (session.memory, session.cpu, session.idle_since) == (500 * MIB, 20, None)


def test_a_launcher_is_taken_at_its_word(settings: Settings, store: Store) -> None:
    source = Scripted(facts(stated=True, memory=100 * MIB, cpu=20))
    agent = Agent(settings, store, {"source": source})
    agent.scan()
    source.facts = [facts(stated=True, memory=101 * MIB, cpu=None)]
    agent.scan()
    assert (only(store).memory, only(store).cpu) == (101 * MIB, None)
