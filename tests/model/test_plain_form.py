"""The JSON of a session as it is written as a rule, which is read without parsing it."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastx_list.model.session import PLAIN, check_session, encode, started_of
from tests.model.sessions import FULL, MINIMAL, json_objects, sessions

_PIECES = ("{", "}", "[", "]", '"', ",", ":", "\\", "\\ud800", "\n", " ", "null", "true", "NaN")
_pieces = st.sampled_from([*_PIECES, "0", "-", "1e999", "9" * 16, "9" * 5000, '"login":"bob",'])


@st.composite
def damaged(draw: st.DrawFn) -> str:
    """The JSON of a session, with something else in some places."""
    text = encode(draw(st.sampled_from([FULL, MINIMAL]) | sessions), draw(json_objects))
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(text)))
        text = text[:start] + draw(_pieces) + text[start + draw(st.integers(0, 8)) :]
    return text


def test_what_is_written_has_the_plain_form_as_a_rule() -> None:
    params = {"name": 'a "b"\n\\', "ä": 1, "b": -1.5, "c": True, "d": None, "": ""}
    for session in (FULL, MINIMAL, replace(FULL, command='/bin/sh -c "a\tb"')):
        for said in ({}, params):
            found = PLAIN.fullmatch(encode(session, said))
            assert found and found.groups() == (session.id, session.login, session.server_id)


@given(damaged())
@example(encode(FULL, {"a": 1}).replace("12.5", "1e999"))
@example(encode(FULL, {"a": 1}).replace("4711", "9" * 16))
@example(encode(FULL, {"a": 1}).replace('"login":"alice"', '"login":null'))
@example(encode(FULL, {"a": 1}).replace("1280x720", "0x0"))
def test_what_has_the_plain_form_is_sound(text: str) -> None:
    found = PLAIN.fullmatch(text)
    if found:
        members = json.loads(text)
        check_session(members)
        assert found.groups() == (members["id"], members["login"], members["serverId"])
        text.encode()


@given(damaged())
def test_the_beginning_tells_when_a_session_started(text: str) -> None:
    try:
        members = json.loads(text, object_pairs_hook=_once)
        started = started_of(text.encode())
    except ValueError:
        return
    assert started is None or started == members["started"]


@pytest.mark.parametrize(
    "text",
    [
        '{"id":"a","params":{"b":1,"started":5},"started":7}',
        '{"id":"a","started":null}',
        '{"id":"a","started":1e3}',
        '{"id":"a,\\"started\\":5"}',
        '{"id":"a","started":' + 5000 * "9" + "}",
        "{}",
    ],
)
def test_another_beginning_tells_nothing(text: str) -> None:
    assert started_of(text.encode()) is None


def _once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a name is there twice")
    return dict(pairs)
