from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.answers import content
from tests.support import Service, standing


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running list and sidecar."""
    with standing(tmp_path_factory.mktemp("docs")) as service:
        service.start_list()
        service.start_live()
        yield service


@pytest.fixture
def lose_archive(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Lets the list find no database any more that says what has been."""

    def lose() -> None:
        file = client.application.extensions["fastx-list"].store.archive._file
        monkeypatch.setattr(file, "path", file.path.with_name("gone") / "gone.db")
        monkeypatch.setattr(file, "create", False)

    return lose


@pytest.fixture
def documents(client: FlaskClient) -> dict[str, Any]:
    return {name: content(client.get(f"/api/{name}.json")) for name in ("openapi", "asyncapi")}
