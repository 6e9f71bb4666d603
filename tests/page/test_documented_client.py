"""The client for browsers in docs/api.md, run as it is printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from fastx_list.model.session import Session
from tests.live.cable import cable, client_in, live_through_outages
from tests.page.conftest import Tab, User

SHOW = """(sessions) => {
  window.shown = Object.fromEntries([...sessions].map(([id, data]) => [id, data.clients]));
}"""


def test_it_has_the_list_after_any_outage(tab: Tab, own: User) -> None:
    tab.page.goto(f"{own.service.url}/health")  # a page whose scripts the sidecar lets in

    def shown() -> Mapping[str, int] | None:
        found: Mapping[str, int] | None = tab.page.evaluate("window.shown")
        return found

    def observe(*sessions: Session) -> None:
        of_own = [replace(each, login=own.login) for each in sessions]
        own.store.observe("here", {each.id: each for each in of_own})

    with cable(own.service.live_port) as wire:
        url = f"ws://127.0.0.1:{wire.port}/api/list?token={own.token()}"
        tab.page.evaluate(f"(() => {{ {client_in('js')} follow({url!r}, {SHOW}); }})()")
        live_through_outages(own.service, observe, wire, shown)
        tab.page.close()
