"""What the whole product does when its store is restored under it, or a clock is wrong."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import jwt
import pytest

from fastx_list.store import AT_ONCE, open_store
from tests.support import Service, end, fetch, program, wait_for

COUNT = 5 * AT_ONCE
DAY = 86_400


def _back_up(database: Path, to: Path) -> None:
    source, target = sqlite3.connect(database), sqlite3.connect(to)
    source.backup(target)
    source.close()
    target.close()


def _start(service: Service) -> str:
    spool = service.state / "spool"
    spool.mkdir(parents=True)
    (spool / "a.json").write_text('{"login": "alice", "started": 1}')
    service.environ |= {"FASTX_LIST_SOURCES": "spool", "FASTX_LIST_SERVER_EXPIRY": "5"}
    service.start_agent()
    service.start_list()
    token = service.token("alice")
    wait_for("the session", lambda: service.sessions(token))
    return token


def _jti(token: str) -> str:
    claims: dict[str, str] = jwt.decode(token, options={"verify_signature": False})
    return claims["jti"]


def _status(service: Service, token: str) -> int:
    return fetch(f"{service.url}/api/list/{token}").status


@pytest.mark.parametrize("live", [True, False])
def test_a_store_that_was_restored_gets_its_revocations_while_lists_go_on(
    service: Service, tmp_path: Path, live: bool
) -> None:
    token = _start(service)
    if live:
        service.start_live()
    database, revoked = service.state / "sessions.db", service.token("alice")
    _back_up(database, tmp_path / "copy")
    store = open_store(f"sqlite:///{database}")
    expires = int(time.time()) + 3600
    tokens = {f"token {number}": expires for number in range(COUNT - 1)}
    store.revoke({**tokens, _jti(revoked): expires})
    # All workers have to know it
    wait_for("its end", lambda: {_status(service, revoked) for _ in range(20)} == {401})
    _back_up(tmp_path / "copy", database)

    def are_all_written() -> bool:
        # At no moment is a token good again that was revoked
        assert (_status(service, revoked), _status(service, token)) == (401, 200)
        return len(store.snapshot().revoked) == COUNT

    wait_for("all revocations in the store", are_all_written)
    store.close()


@pytest.mark.parametrize("offset", ["+1d", "+400d"])
def test_an_agent_that_is_started_with_a_clock_ahead_deletes_no_revocation(
    service: Service, offset: str
) -> None:
    _start(service)
    revoked = service.token("alice")
    service.run("token", "revoke", revoked)
    end(service.running["agent"])
    program("faketime", "faketime")
    [library] = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    before = dict(service.environ)
    service.environ |= {
        "LD_PRELOAD": str(library),
        "FAKETIME": offset,
        "DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    service.start_agent()
    store = open_store(f"sqlite:///{service.state / 'sessions.db'}")
    number = store.snapshot().revision.number
    wait_for("its heartbeats", lambda: store.snapshot().revision.number > number + 2)
    end(service.running["agent"])
    service.environ.clear()
    service.environ |= before
    assert _jti(revoked) in store.snapshot().revoked
    end(service.running["list"])
    service.start_list()  # which knows only what the store holds
    assert _status(service, revoked) == 401
    store.close()
