"""A real nginx with the files of docs/deploy before the list and the sidecar."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fastx_list.config import load
from fastx_list.model.session import Session
from fastx_list.store import open_store
from tests.system.nginx_site import Site, traces


@pytest.fixture(scope="module")
def site(place: Path) -> Iterator[Site]:
    site = Site(place)
    try:
        site.start_all()
        yield site
    finally:
        site.stop()
    # Once more, since the last lines come after the last answer
    assert traces(site.logged(), site.tokens) == []
    assert "Traceback" not in (said := site.logged()), said[said.index("Traceback") :][:5000]


@pytest.fixture
def issued() -> list[str]:
    """The tokens of a test, none of which may be in any log at its end."""
    return []


@pytest.fixture
def token(site: Site, issued: list[str]) -> Callable[..., str]:
    def token(login: str = "alice", **more: Any) -> str:
        issued.append(site.service.token(login, **more))
        site.tokens.append(issued[-1])
        return issued[-1]

    return token


@pytest.fixture(autouse=True)
def _no_token_is_logged(site: Site, issued: list[str]) -> Iterator[None]:
    yield
    assert traces(site.logged(), issued) == []
    assert (site.logs / "fastx-list.error.log").read_text() == ""


@pytest.fixture
def observe(site: Site) -> Iterator[Callable[..., None]]:
    """Makes these the sessions of another server than the agent's."""
    store = open_store(load(site.service.environ).store)

    def observe(*sessions: Session) -> None:
        store.observe("here", {session.id: session for session in sessions})

    yield observe
    observe()
    store.close()
