"""What the judge takes for right, and whether faults to be found can be planted."""

from __future__ import annotations

import socket
import time
from threading import Thread
from typing import Any

import pytest

from tests.chaos.judge import History, Judge
from tests.chaos.operations import ALL
from tests.chaos.planted import PLANTED, ROOT, Planted
from tests.chaos.subscribers import snapshot
from tests.chaos.truth import Session, Truth, differs

NONE = {"cpuPercentage": None, "videoRam": None, "sharing": None}
SAID = {"cpuPercentage": 12.5, "videoRam": 1024, "sharing": True}


def known(truth: Truth) -> Session:
    """Return a session that all know; what its server's ``session.json`` says came after it."""
    session = Session("one", "alice", "work 1")
    session.change(login="alice", command="work 1", clients=0)
    session.learn(found(**NONE))
    truth.add(session)
    truth.starts["one"] = [SAID]
    return session


def found(**members: Any) -> dict[str, Any]:
    times = {"lastConnect": None, "lastDisconnect": None}
    base = {"login": "alice", "command": "work 1", "clients": 0, "geometry": "1x600"}
    return {**base, **times, "params": {}, **members}


def test_what_has_begun_again_is_started_with_what_session_json_says_then() -> None:
    truth = Truth(2.0)
    session = known(truth)
    wrong = differs([session], [found(**SAID)], 0)
    assert wrong == "cpuPercentage of ('work 1', None) is 12.5, not None"
    truth.begin_again("two")
    assert differs([session], [found(**SAID)], 0) == wrong
    truth.begin_again("one")
    for members in (SAID, NONE):
        assert differs([session], [found(**members)], 0) is None
    session.learn(found(**SAID))
    assert differs([session], [found(**SAID)], 0) is None
    assert differs([session], [found(**NONE)], 0) is not None


def test_what_began_while_session_json_was_broken_may_get_what_it_says_later() -> None:
    truth = Truth(2.0)
    session = known(truth)
    truth.take_start("one", SAID)
    assert differs([session], [found(**SAID)], 0) is not None
    for node in ("two", "one"):
        assert differs([session], [found(**SAID)], 0) is not None
        truth.take_start(node, None)
        truth.take_start(node, SAID)
    for members in (NONE, SAID):
        assert differs([session], [found(**members)], 0) is None
        session.learn(found(**members))
    assert differs([session], [found(**NONE)], 0) is not None


@pytest.mark.parametrize("change", [{"cpuPercentage": 13.5}, {"sharing": None}])
def test_what_has_begun_again_is_started_with_nothing_else(change: dict[str, Any]) -> None:
    truth = Truth(2.0)
    session = known(truth)
    truth.begin_again("one")
    assert "which nobody has said" in str(differs([session], [found(**{**SAID, **change})], 0))


def test_a_viewer_that_comes_back_at_once_may_be_seen_after_all_have_agreed() -> None:
    session = Session("one", "root", None, display=7)
    session.change(clients=1)
    before = found(clients=1, lastConnect=1, lastDisconnect=None)
    session.learn(before)
    session.change(clients=0)
    session.change(clients=1)
    session.learn(before)
    after = found(clients=1, lastConnect=3, lastDisconnect=2)
    assert session.now_differs(after, 0) is None
    session.learn(after)
    assert session.now_differs(before, 0) is not None


def test_what_moves_by_itself_may_be_another_when_all_agree_again() -> None:
    truth = Truth(2.0)
    session = known(truth)
    assert differs([session], [found(**NONE, idleSince=7, cpu=3.5)], 0) is None
    wrong = differs([session], [found(**NONE, clientAddresses=["::1"])], 0)
    assert "it has no clients" in str(wrong)


def test_who_resumes_goes_on_with_what_it_had_also_when_it_was_refused_in_between() -> None:
    history = History("one", ALL, resumes=True)
    history.begin()
    Judge(Truth(2.0)).message(history, {"revision": "a step"})
    assert history.state == {}
    history.state["x"] = {}
    for _ in range(2):
        history.end()
    history.begin()
    assert history.state == {"x": {}} and history.is_coming_back
    history.mark(None)
    assert history.state == {} and not history.is_coming_back


def test_only_of_a_desktop_that_is_new_nobody_may_know_the_clients() -> None:
    truth = Truth(2.0)
    session = Session("one", "root", None, 7)
    session.change(login="root", display=7, clients=0)
    truth.add(session)
    members = {"id": "x", **found(login="root", display=7, command=None, clients=None)}
    for is_known in (False, True):
        judge = Judge(truth)
        judge.message(History("one", ALL, state={}), {"id": "x", "data": members})
        assert bool(judge.wrong) == is_known
        session.learn({**members, "clients": 0})


def test_who_has_asked_for_all_sessions_may_hear_of_the_end_of_one_that_was_there() -> None:
    truth = Truth(2.0)
    session = known(truth)
    judge, history = Judge(truth), History("one", ALL)
    members = {"id": "x", **found(**NONE)}
    judge.message(History("another", ALL, state={}), {"id": "x", "data": members})
    history.begin()
    session.ended = history.began
    judge.message(history, {"id": "x", "data": None})
    assert not judge.wrong
    judge.message(history, {"id": "x", "data": None})
    assert "it was not there" in judge.wrong[0]
    history.began = session.ended + truth.stale + 1
    history.ended_unheard.clear()
    judge.message(history, {"id": "x", "data": None})
    assert len(judge.wrong) == 2


@pytest.mark.parametrize("waited", [0.0, 4.0])
def test_what_an_agent_had_no_processor_for_need_not_be_known_yet(waited: float) -> None:
    truth = Truth(2.0)
    truth.waited_since = lambda name, since: waited
    session = Session("one", "alice", "work 1")
    session.change(login="alice", command="work 1", clients=0)
    truth.add(session)
    judge = Judge(truth)
    judge.answer("the list", ALL, session.written[0] + truth.stale + 3, [])
    assert bool(judge.wrong) == (not waited)


def test_a_sidecar_that_does_not_take_a_token_yet_is_one_that_says_nothing_yet() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def refuse() -> None:
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")

        thread = Thread(target=refuse)
        thread.start()
        said = snapshot(f"ws://127.0.0.1:{server.getsockname()[1]}/api/list?token=x")
        thread.join()
    assert "401" in str(said)


@pytest.mark.parametrize("planted", PLANTED, ids=[each.what for each in PLANTED])
def test_what_a_planted_fault_replaces_is_there_once(planted: Planted) -> None:
    text = (ROOT / "fastx_list" / planted.file).read_text(encoding="utf-8")
    assert text.count(planted.right) == 1


def test_a_connection_may_end_a_round_late_if_it_was_there_and_its_end_was_due() -> None:
    truth = Truth(2.0)
    before = time.monotonic()
    truth.excuses.closes.add(1001)
    truth.forget()
    assert truth.may_close(1001, before)
    assert not truth.may_close(1001, time.monotonic())
    assert not truth.may_close(1006, before)
    truth.forget()
    assert not truth.may_close(1001, before)
