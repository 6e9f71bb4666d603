from __future__ import annotations

import base64
import hashlib
import re
import secrets
from random import Random
from urllib.parse import quote, unquote

import jwt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastx_list.config import load
from fastx_list.redaction import redact
from fastx_list.tokens import Tokens

SECRET = secrets.token_hex(32)
TOKEN = Tokens(load({"FASTX_LIST_SECRET_KEY": SECRET})).issue("alice", 3600)


def survives(token: str, text: str) -> bool:
    """Whether ``text`` holds a part of ``token`` that is worth having."""
    _, payload, signature = token.split(".")
    return payload in text or signature in text


# Where tokens stand


@pytest.mark.parametrize(
    "before, after",
    [
        ("GET /api/list/", " HTTP/1.1"),
        ("GET /api/list/", "?sortBy=started&filter=login%3D%3Dalice HTTP/1.1"),
        ('127.0.0.1 - - "POST /api/params/', ' HTTP/1.1" 200 17 "-" "curl/8.0"'),
        ("GET /api/admin/session/", " HTTP/1.1"),
        ("GET /api/events/", " HTTP/1.1"),
        ('"http://host:8000/api/list/', '"'),
        ("'/api/list/", "'"),
        ("<a href=/api/list/", ">"),
        ("https://host/fastx/api/list/", "#top"),
        ("GET /api/list?token=", " HTTP/1.1"),
        ("GET /api/list?sortBy=id&token=", "&limit=1 HTTP/1.1"),
        ("GET /api/list?TOKEN=", " HTTP/1.1"),
        ("GET /api/list?token%3D", "&limit=1"),
        ("GET /api/list?token%3d", "&limit=1"),
        ("http://host/#token=", "&live=1"),
        ("Authorization: Bearer ", ""),
        ("authorization: bearer ", "\r\nHost: localhost"),
        ("Authorization: Bearer  \t", " trailing"),
        ("{'Authorization': 'Bearer ", "', 'Host': 'localhost'}"),
        ("('Authorization', 'Bearer ", "')"),
        ("X-FASTX-TOKEN: ", "\r\nHost: localhost"),
        ("x-fastx-token: ", ""),
        ("X-FASTX-TOKEN:", ""),
        ("{'X-FASTX-TOKEN': '", "', 'Host': 'localhost'}"),
        ("('X-Fastx-Token', '", "')"),
        ('{"token": "', '", "id": "a"}'),
        ('{"token":"', '","id":"a"}'),
        ("token = ", ""),
        ("HTTP_X_FASTX_TOKEN='", "'"),
        ("access_token=", "&x=1"),
        ("", ""),
        ("no reason to say it: ", " but there it is"),
        ("(", ")"),
        ("[", "]"),
        ("=", ";"),
        ("a\n", "\nb"),
    ],
)
def test_a_token_is_taken_out_and_the_rest_stays(before: str, after: str) -> None:
    redacted = redact(before + TOKEN + after)
    assert not survives(TOKEN, redacted)
    assert redacted == f"{before}[token]{after}"


@pytest.mark.parametrize(
    "before, after",
    [
        ("GET /api/list/", " HTTP/1.1"),
        ("GET /api/list/", "?limit=1"),
        ("POST /api/params/", " HTTP/1.1"),
        ("GET /api/admin/session/", " HTTP/1.1"),
        ("GET /api/list?token=", "&limit=1"),
        ("GET /api/list?limit=1&token=", ""),
        ("Authorization: Bearer ", ""),
        ("Authorization: Bearer  \t", ""),
        ("X-FASTX-TOKEN: ", ""),
    ],
)
@pytest.mark.parametrize(
    "token",
    ["0123456789abcdef", "abc.def", "%65yJhbGc", "password!", "x", "é", "a,b;c", "a=b", "~"],
)
def test_whatever_stands_where_a_token_belongs_is_taken_out(
    before: str, after: str, token: str
) -> None:
    # What somebody sent in place of a token may be a token of another system, or a password.
    assert redact(before + token + after) == f"{before}[token]{after}"


@pytest.mark.parametrize(
    "template",
    [
        "/api/list/{}",
        "http://host/?token={}",
        '{{"token": "{}"}}',
        "Bearer {}",
        "X-FASTX-TOKEN: {}",
        "{}",
    ],
)
@pytest.mark.parametrize("times", [1, 2])
def test_a_token_in_a_percent_encoded_text_is_taken_out(template: str, times: int) -> None:
    # As in the query string of a login page that is to lead back here.
    text = template.format(TOKEN)
    for _ in range(times):
        text = quote(text, safe="")
    redacted = redact(f"GET /login?next={text}&x=1 HTTP/1.1")
    assert redacted.startswith("GET /login?next=") and "[token]" in redacted
    assert not survives(TOKEN, redacted)


@pytest.mark.parametrize(
    "before",
    ["/api/list/", "/api%2Flist%2F", "/api/list?token=", "/api/list?token%3D", "Bearer ", "next="],
)
@pytest.mark.parametrize("dot", ["%2E", "%2e"])
def test_a_token_with_percent_encoded_dots_is_taken_out(before: str, dot: str) -> None:
    assert not survives(TOKEN, redact(f"GET {before}{TOKEN.replace('.', dot)}&x=1 HTTP/1.1"))


@pytest.mark.parametrize(
    "before",
    [
        "/api/list/",
        "/api/params/",
        "/api/admin/session/",
        "/api/list?token=",
        "Bearer ",
        "/static/",
        "/",
    ],
)
def test_a_token_that_is_percent_encoded_throughout_is_taken_out(before: str) -> None:
    encoded = "".join(f"%{ord(letter):02x}" for letter in TOKEN)
    assert redact(f"GET {before}{encoded} HTTP/1.1") == f"GET {before}[token] HTTP/1.1"


@pytest.mark.parametrize("times", [2, 3, 5, 8, 20])
@pytest.mark.parametrize("before", ["/api/list/", "/ready/"])
def test_a_token_that_is_encoded_again_and_again_is_taken_out(before: str, times: int) -> None:
    encoded, random = TOKEN, Random(times)
    for _ in range(times):  # also what stands in an earlier encoding, such as the 6 of %65
        encoded = "".join(
            f"%{ord(letter):02x}" if random.random() < 0.2 else letter for letter in encoded
        )
    redacted = redact(f"GET {before}{encoded} HTTP/1.1")
    for _ in range(times):
        redacted = unquote(redacted)
    assert not survives(TOKEN, redacted)
    assert "HTTP/1.1" in redacted


@pytest.mark.parametrize(
    "before", ["/%61pi/list/", "/api/%6cist/", "/api/list?%74oken=", "/api/list?toke%6E="]
)
def test_where_a_token_belongs_may_be_percent_encoded(before: str) -> None:
    for token in (TOKEN, "0123456789abcdef"):
        assert token not in redact(f"GET {before}{token} HTTP/1.1")


def test_all_tokens_of_a_text_are_taken_out() -> None:
    text = (
        f"GET /api/list/{TOKEN}?token={TOKEN} HTTP/1.1 | Authorization: Bearer {TOKEN} | {TOKEN}"
        f" {TOKEN}"
    )
    assert (
        redact(text)
        == "GET /api/list/[token]?token=[token] HTTP/1.1 | Authorization: Bearer [token] | [token]"
        " [token]"
    )


def test_a_token_that_was_cut_short_is_taken_out() -> None:
    for length in (len(TOKEN) - 5, len(TOKEN) // 2, TOKEN.index(".") + 5):
        assert redact(f"in {TOKEN[:length]} it") == "in [token] it"


# With a payload as portals make them, so that no run of the test meets another token
FIXED = ".".join(
    base64.urlsafe_b64encode(part).rstrip(b"=").decode()
    for part in (
        b'{"alg":"HS256","typ":"JWT"}',
        b'{"sub":"alice","iss":"node7","aud":"api","iat":1700000000,"exp":1700003600,'
        b'"jti":"6f1c2a9e04b75d38"}',
        hashlib.sha256(b"nobody's key").digest(),
    )
)


@pytest.mark.parametrize(
    "odd", ["\n", "\r\n", "\\n", "\0", "\t", " ", "%0a", "%00", "%20", '"', "é", "="]
)
@pytest.mark.parametrize(
    "template",
    ["GET /api/list/{} HTTP/1.1", "Invalid HTTP header: '{}'", "GET /x/{}?y={} HTTP/1.1"],
)
def test_a_token_that_something_odd_stands_in_is_taken_out(odd: str, template: str) -> None:
    for place in range(1, len(FIXED)):
        cut = FIXED[:place] + odd + FIXED[place:]
        redacted = redact(template.replace("{}", cut))
        left = [FIXED[start : start + 16] for start in range(len(FIXED) - 15)]
        assert not [piece for piece in left if piece in redacted], redacted


def test_a_token_of_which_each_line_is_a_record_is_taken_out() -> None:
    for width in range(20, len(FIXED)):
        for start in range(0, len(FIXED), width):
            line = FIXED[start : start + width]
            assert len(line) < 16 or line not in redact(f"Invalid HTTP request line: {line!r}")


def test_redacting_twice_is_redacting_once() -> None:
    once = redact(f"GET /api/list/{TOKEN}?token={TOKEN} Authorization: Bearer {TOKEN}")
    assert redact(once) == once


# What is no token


@pytest.mark.parametrize(
    "text",
    [
        "",
        "GET /api/list HTTP/1.1",
        "GET /api/list/ HTTP/1.1",
        "GET /api/list?sortBy=started&sortReverse=true&limit=10&filter=login%3D%3Dalice HTTP/1.1",
        "GET /static/page.js HTTP/1.1",
        "the list is at /api/list/<token>",
        "a token of alice was revoked",
        "Authorization: Basic",
        "3 tokens=5",
        "Key and keyJ and monkeyJungle",
        (
            "session file /var/lib/fastx-list/spool/a.json: skipped: geometry: takes WIDTHxHEIGHT,"
            " such as 1280x720"
        ),
        "sqlite:////var/lib/fastx-list/sessions.db cannot be read; going on with the last copy",
        "größe 🙂\n\ttabs and lines\r\n",
        "2 sessions on this machine",
        # Names of people, who may have a login.
        "the session of eyjolfur has ended",
        "Eyjafjallajökull is a host",
        "gunicorn.http.errors.InvalidHTTPVersion: X-Forwarded-Proto, Sec-WebSocket-Extensions",
        "session 6f1c2a9e04b75d38a1f09c4e7b2d5a63 of node1.example.org:1234567890123456",
    ],
)
def test_a_text_without_a_token_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@settings(deadline=None)
@given(st.text(st.characters()))
def test_a_text_that_names_no_token_stays_as_it_is(text: str) -> None:
    folded = text.casefold()
    named = any(word in folded for word in ("token", "bearer", "eyj", "/api/"))
    if not named and not re.search("[A-Za-z0-9_.-]{16}", text):
        assert redact(text) == text


# Whatever stands around it

DELIMITERS = st.sampled_from(" \t\n\r\"'&")
CONTEXTS = st.text() | st.lists(
    st.sampled_from(
        (
            "/api/list/",
            "/api/params/",
            "/api/admin/session/",
            "token",
            "=",
            ":",
            "%3D",
            "Bearer",
            " ",
            '"',
            "'",
            "&",
            "?",
            "eyJ",
            ".",
            "a",
            "X-FASTX-TOKEN",
            "Authorization",
            "[token]",
            "%",
            "%2E",
            "<",
            ">",
            "#",
            "-",
            "_",
            "/",
            "\\",
        )
    ),
    max_size=8,
).map("".join)
CLAIMS = st.dictionaries(
    st.text(max_size=5).map("portal:{}".format),
    st.text(max_size=20) | st.integers() | st.booleans(),
    max_size=4,
)


@settings(deadline=None, max_examples=500)
@given(CONTEXTS, DELIMITERS, st.text(min_size=1, max_size=20), CLAIMS, DELIMITERS, CONTEXTS)
@example("/api/list/", " ", "alice", {}, " ", "")
@example("token=", '"', "alice", {}, '"', "")
@example("Bearer ", "&", "alice", {}, "&", "")
def test_a_token_between_delimiters_never_survives(
    before: str, left: str, login: str, claims: dict[str, object], right: str, after: str
) -> None:
    token = jwt.encode(
        {"sub": login, "aud": "api", "exp": 2**31, **claims}, SECRET, algorithm="HS256"
    )
    assert not survives(token, redact(before + left + token + right + after))


@settings(deadline=None)
@given(CONTEXTS, CONTEXTS)
def test_a_token_at_an_end_of_the_text_never_survives(before: str, after: str) -> None:
    assert not survives(TOKEN, redact(f"{TOKEN} {after}"))
    assert not survives(TOKEN, redact(f"{before} {TOKEN}"))
