"""What is no token at all."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.errors import AuthError
from fastx_list.tokens import MAX_TOKEN_LENGTH
from tests.tokens.common import ALPHABET, base64url, claims, make_tokens, refusal, sign


@pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "None",
        "\0",
        "\ud800",
        "é.é.é",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJIUzI1NiJ9..",
        "Bearer x",
        "[token]",
    ],
    ids=ascii,
)
def test_garbage_is_refused(token: str) -> None:
    refusal(make_tokens(), token)


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)


members = st.sampled_from(("alg", "typ", "b64", "crit", "kid", "x"))


objects = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(members, inner, max_size=3),
    max_leaves=4,
)


segments = (
    st.text(ALPHABET + "=+/ ", max_size=20)
    | objects.map(lambda value: base64url(json.dumps(value).encode()))
    | st.binary(max_size=20).map(base64url)
)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=100) | st.lists(segments, max_size=4).map(".".join))
def test_no_garbage_is_taken_and_none_makes_a_mess(token: str) -> None:
    refusal(make_tokens(), token)


@settings(deadline=None, max_examples=300)
@given(objects)
def test_no_signed_header_that_is_not_ours_makes_a_mess(header: Any) -> None:
    tokens, token = make_tokens(), sign(claims(), header={} if header is None else header)
    if not isinstance(header, dict) or header.get("alg") != "HS256":
        refusal(tokens, token)


@settings(deadline=None, max_examples=300)
@given(
    objects
    | st.dictionaries(
        st.sampled_from(("sub", "aud", "exp", "jti", "nbf", "iat", "iss", "admin")), objects
    )
)
def test_no_signed_claims_make_a_mess(payload: Any) -> None:
    if isinstance(payload, dict):
        payload = {**claims(), **payload}
    try:
        found = make_tokens().verify(sign(payload), ())
    except AuthError:
        return
    assert isinstance(payload, dict)
    assert found.login == payload["sub"] and found.login
    assert time.time() < found.expires < 2**53


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"alice"',
        b"5",
        b"{",
        b"\xff\xfe",
        b"{}\0",
        b"[" * 2900,
        b'{"a":' * 500,
        b'{"sub":"alice"}garbage',
    ],
    ids=lambda payload: ascii(payload)[:20],
)
def test_a_genuine_signature_under_no_claims_is_refused(payload: bytes) -> None:
    refusal(make_tokens(), sign(payload))


def test_a_token_of_4096_characters_is_taken_and_a_longer_one_is_not() -> None:
    def padded(size: int) -> str:
        return sign(claims(exp=2**33, iat=0, note="x" * size))

    size = next(size for size in range(2900, 3100) if len(padded(size)) > MAX_TOKEN_LENGTH)
    assert MAX_TOKEN_LENGTH == 4096
    assert len(padded(size - 1)) >= 4095
    assert make_tokens().verify(padded(size - 1), ()).login == "alice"
    assert (
        refusal(make_tokens(), padded(size))
        == "token: takes a JSON Web Token of at most 4096 characters"
    )


def test_a_very_long_text_is_refused_at_once() -> None:
    assert "at most 4096 characters" in refusal(make_tokens(), "x" * 10_000_000)
