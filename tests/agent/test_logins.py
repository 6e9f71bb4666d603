from __future__ import annotations

import pwd
import time
from types import SimpleNamespace

import pytest

from fastx_list.agent import logins as module
from fastx_list.agent.door import Unanswered
from fastx_list.agent.logins import FRESH_SECONDS, RETRY_SECONDS, Logins


class Services:
    """Name services, and a clock, that do what a test says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.name, self.asked = 1000.0, "alice", 0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)
        monkeypatch.setattr(pwd, "getpwuid", self._getpwuid)
        monkeypatch.setattr(module, "ask", lambda owner, what, call: call())

    def _getpwuid(self, uid: int) -> SimpleNamespace:
        self.asked += 1
        if self.name == "hang":
            raise Unanswered("its login")
        if not self.name:
            raise KeyError(uid)
        return SimpleNamespace(pw_name=self.name)


@pytest.fixture
def services(monkeypatch: pytest.MonkeyPatch) -> Services:
    return Services(monkeypatch)


def test_an_answer_holds_for_a_minute(services: Services) -> None:
    logins = Logins()
    assert logins.of(5) == "alice"
    services.name = "bob"
    services.now += FRESH_SECONDS - 1
    assert logins.of(5) == "alice" and services.asked == 1
    services.now += 1
    assert logins.of(5) == "bob" and services.asked == 2


def test_what_is_new_asks_anew(services: Services) -> None:
    logins = Logins()
    assert logins.of(5) == "alice"
    services.name = "bob"
    assert logins.of_new(5) == "bob" and logins.of(5) == "bob"


@pytest.mark.parametrize("trouble", ["", "hang"])
def test_no_failure_is_an_answer(services: Services, trouble: str) -> None:
    logins = Logins()
    services.name = trouble
    assert logins.of(5) is None and logins.of_new(5) is None
    services.name = "alice"
    assert logins.of(5) is None and services.asked == 2  # it is not asked at every look
    services.now += RETRY_SECONDS
    assert logins.of(5) == "alice"


def test_while_services_hang_their_last_answer_holds_for_a_minute_and_no_longer(
    services: Services,
) -> None:
    logins = Logins()
    assert logins.of(5) == "alice"
    services.name = "hang"
    services.now += FRESH_SECONDS - 1
    assert logins.of_new(5) == "alice"
    services.now += RETRY_SECONDS
    assert logins.of_new(5) is None and logins.of(5) is None


def test_an_id_that_no_login_has_any_more_is_nobodys(services: Services) -> None:
    logins = Logins()
    assert logins.of(5) == "alice"
    services.name = ""
    assert logins.of_new(5) is None


def test_few_answers_are_kept(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_KEPT", 2)
    logins = Logins()
    for uid in (1, 2, 3, 3, 2):
        assert logins.of(uid) == "alice"
    assert services.asked == 3
