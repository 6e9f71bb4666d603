from __future__ import annotations

from collections.abc import Callable

import pytest
from flask.testing import FlaskClient

PORTAL = "https://portal.example.org"


@pytest.fixture
def environ(environ: dict[str, str]) -> dict[str, str]:
    return {**environ, "FASTX_LIST_ALLOWED_ORIGINS": f"{PORTAL} http://[::1]:3000"}


@pytest.mark.parametrize("origin", [PORTAL, "http://[::1]:3000"])
def test_a_named_origin_may_read(
    client: FlaskClient, token: Callable[..., str], origin: str
) -> None:
    good = token("alice")
    for path, status in (
        (f"/api/list/{good}", 200),
        (f"/api/list/{good}?start=x", 400),
        ("/api/list/x", 401),
    ) * 2:
        answer = client.get(path, headers={"Origin": origin})
        assert (
            answer.status_code == status and answer.headers["Access-Control-Allow-Origin"] == origin
        )
        assert (
            "Origin" in answer.headers["Vary"]
            and "Access-Control-Allow-Credentials" not in answer.headers
        )
        assert answer.headers["Access-Control-Expose-Headers"] == (
            "ETag, Warning, X-Revision, X-Total-Count"
        )


def test_its_browser_may_ask_before(client: FlaskClient) -> None:
    asked = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    for path in ("/api/list/x", "/api/params/x", "/api/admin/session/x"):
        answer = client.options(path, headers={"Origin": PORTAL, **asked})
        assert answer.status_code == 200 and answer.headers["Access-Control-Allow-Origin"] == PORTAL
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "authorization" in answer.headers["Access-Control-Allow-Headers"].lower()


@pytest.mark.parametrize(
    "origin",
    [
        "https://portal.example.org.evil.example",
        "https://portalXexample.org",
        "http://portal.example.org",
        "null",
        "http://:",
    ],
)
def test_no_other_origin_may(client: FlaskClient, token: Callable[..., str], origin: str) -> None:
    good = token("alice")
    for _ in range(2):
        answer = client.get(f"/api/list/{good}", headers={"Origin": origin})
        assert answer.status_code == 200 and "Access-Control-Allow-Origin" not in answer.headers


def test_the_page_is_no_part_of_it(client: FlaskClient) -> None:
    assert "Access-Control-Allow-Origin" not in client.get("/", headers={"Origin": PORTAL}).headers
