"""One login with very many sessions that asks what takes long: others have their turn meanwhile."""

from __future__ import annotations

import select

from fastx_list.config import load
from fastx_list.store import open_store
from tests.conftest import session
from tests.hostile.crowd import ask, dial, get, read_all
from tests.support import Service


def test_others_are_answered_while_a_costly_question_is_worked_out(service: Service) -> None:
    service.environ |= {"FASTX_LIST_SERVER_ID": "here", "WEB_CONCURRENCY": "1"}
    store = open_store(load(service.environ).store)
    mine = (session(f"m{number}", "mallory", command=f"c{number}") for number in range(10_000))
    store.observe("here", {each.id: each for each in (session("a"), *mine)})
    store.close()
    service.start_list()
    hers = f"/api/list/{service.token('alice')}"
    asked = f"/api/list/{service.token('mallory')}?sortBy=command&limit=1"
    filters = "".join(f"&filter=x{number}%3D%3D" for number in range(32))
    assert b'"a"' in ask(service.list_port, get(hers))
    with dial(service.list_port) as costly:
        costly.sendall(get(asked + filters))
        answered = 0
        while not select.select([costly], [], [], 0)[0]:
            assert b'"a"' in ask(service.list_port, get(hers))
            answered += 1
        assert b'"m0"' in read_all(costly)
    assert answered >= 5
