from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from fastx_list import create_app
from tests.answers import Issue


@pytest.fixture(params=["short cut", "Flask"])
def asked(
    environ: dict[str, str], token: Issue, request: pytest.FixtureRequest
) -> Iterator[FlaskClient]:
    """A client that has its token in the path and is answered in one of the two ways."""
    app = create_app(environ)
    if request.param == "Flask":
        del app.wsgi_app  # the method of the class comes back
        assert app.wsgi_app.__func__ is Flask.wsgi_app  # type: ignore[attr-defined]
    client = app.test_client()
    client.get(f"/api/list/{token('alice')}")
    yield client
    app.extensions["fastx-list"].store.close()


@pytest.fixture
def url(token: Issue) -> str:
    return f"/api/list/{token('alice')}"
