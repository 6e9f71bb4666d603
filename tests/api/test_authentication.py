from __future__ import annotations

import jwt
import pytest
from flask.testing import FlaskClient

from fastx_list.config import Settings
from fastx_list.store import Store
from fastx_list.tokens import read_secret
from tests.answers import Issue, error, ids

pytestmark = pytest.mark.usefixtures("four_sessions")


def test_the_token_may_stand_elsewhere_than_in_the_path(client: FlaskClient, token: Issue) -> None:
    good = token("bob")
    for path in ("/api/list", "/api/list/"):
        assert ids(client.get(path, headers={"Authorization": f"Bearer {good}"})) == ["d"]
        assert ids(client.get(path, headers={"X-FASTX-TOKEN": good})) == ["d"]
        assert ids(client.get(path, query_string={"token": good})) == ["d"]
        assert ids(client.post(path, data={"token": good})) == ["d"]
        # A GET has no body that anybody would read
        assert client.get(path, data={"token": good}).status_code == 401


def test_a_token_that_does_not_hold_is_refused(
    client: FlaskClient, token: Issue, settings: Settings, store: Store
) -> None:
    secret = read_secret(settings.secret_file)
    claims = {"sub": "alice", "aud": "api", "exp": 2**33}
    good = token("alice")
    revoked = token("alice")
    store.revoke({jwt.decode(revoked, options={"verify_signature": False})["jti"]: 2**33})
    refused = {
        "x": "well-formed",
        good[:-6] + "AAAAAA": "signature",
        token("alice", ttl=-1): "expired",
        revoked: "revoked",
        jwt.encode({**claims, "aud": "other"}, secret): "aud",
        jwt.encode(claims, secret, "HS512"): "algorithm",
        jwt.encode(claims, "other" * 10): "signature",
        jwt.encode({"aud": "api", "exp": 2**33}, secret): "sub",
        jwt.encode({"aud": "api", "sub": "alice"}, secret): "exp",
        jwt.encode(claims, "", "none"): "algorithm",
        "a" * 5000: "at most",
    }
    for bad, word in refused.items():
        for answer in (
            client.get(f"/api/list/{bad}"),
            client.get("/api/list", headers={"Authorization": f"Bearer {bad}"}),
        ):
            message = error(answer, 401, "AuthError")
            assert word in message and bad not in answer.text
            assert answer.headers["WWW-Authenticate"] == "Bearer"
            # A proxy that limits guesses need not count what was genuine once
            genuine = word in ("expired", "revoked", "aud", "sub", "exp")
            assert answer.headers.get("X-Token-Guessed") == ("no" if genuine else None)
    assert client.get("/api/list").headers["X-Token-Guessed"] == "no"
    assert "there is none" in error(client.get("/api/list"), 401, "AuthError")
    assert ids(client.get(f"/api/list/{good}")) == ["a", "b", "c"]
