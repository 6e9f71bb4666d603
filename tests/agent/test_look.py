from __future__ import annotations

import pytest

from fastx_list.agent.keep import Agent
from fastx_list.agent.merge import session_id
from fastx_list.config import Settings
from fastx_list.store import Store
from tests.agent.scripted import Scripted, facts, listed


def test_a_source_that_fails_costs_the_others_nothing(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    failing, good = Scripted(facts("x")), Scripted(facts("y"))
    agent = Agent(settings, store, {"failing": failing, "good": good})
    agent.scan()
    failing.broken = True
    good.facts = [facts("y"), facts("z")]
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "xyz"}
    agent.scan()
    assert caplog.text.count("the source failing failed") == 1
    failing.broken, failing.facts = False, []
    agent.scan()
    assert set(listed(store)) == {session_id("here", identity) for identity in "yz"}
