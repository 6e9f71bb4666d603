from __future__ import annotations

import json
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings

from fastx_list.model.json import to_json
from fastx_list.model.session import (
    COLUMNS,
    MEMBERS,
    Said,
    Session,
    SessionSchema,
    Start,
    complete,
    decode,
    encode,
    published_part,
    session_of,
)
from tests.model.sessions import FULL, MINIMAL, json_objects, sessions

# As on the published page.
PUBLISHED = [
    "id",
    "serverPid",
    "geometry",
    "windowMode",
    "started",
    "lastConnect",
    "lastDisconnect",
    "command",
    "appPid",
    "clients",
    "params",
    "hostname",
    "login",
    "display",
    "serverId",
    "cpuPercentage",
    "videoRam",
    "sharing",
    "disconnectTImeout",
]

# The published form


def test_a_session_has_the_published_members_in_the_published_order_and_then_ours() -> None:
    members = list(SessionSchema().dump(FULL))
    assert [name for name in members if name != "disconnectTimeout"] == [
        *PUBLISHED,
        "clientAddresses",
        "idleSince",
        "cpu",
        "memory",
        "kind",
    ]
    assert members.count("disconnectTimeout") == 1
    assert frozenset(members) == frozenset(MEMBERS)


def test_a_session_of_which_little_is_known_has_the_same_members() -> None:
    assert list(json.loads(encode(MINIMAL, {}))) == list(json.loads(encode(FULL, FULL.params)))


def test_each_member_says_what_it_should() -> None:
    assert json.loads(encode(FULL, FULL.params)) == {
        "id": "a",
        "serverPid": 4711,
        "geometry": "1280x720",
        "windowMode": "desktop",
        "started": 1_700_000_000_123,
        "lastConnect": 1_700_000_001_000,
        "lastDisconnect": 1_700_000_002_000,
        "command": "startxfce4 --größe",
        "appPid": 4712,
        "clients": 2,
        "params": {"name": "Thesis"},
        "hostname": "host.example.org",
        "login": "alice",
        "display": 12,
        "serverId": "server",
        "cpuPercentage": 12.5,
        "videoRam": 65536,
        "sharing": True,
        "disconnectTimeout": 30,
        "disconnectTImeout": 30,
        "clientAddresses": ["192.0.2.7", "2001:db8::1", "local"],
        "idleSince": 1_700_000_003_000,
        "cpu": 150,
        "memory": 314_572_800,
        "kind": "xrdp",
    }


def test_what_is_not_known_is_null_and_params_are_an_object() -> None:
    members = json.loads(encode(MINIMAL, {}))
    known = {"id": "a", "login": "alice", "serverId": "server", "hostname": "host", "params": {}}
    assert members == {**dict.fromkeys(MEMBERS), **known}


@pytest.mark.parametrize("minutes", [None, 0, 30])
def test_both_spellings_of_the_disconnect_timeout_say_the_same(minutes: int | None) -> None:
    members = json.loads(encode(replace(FULL, disconnect_timeout=minutes), {}))
    assert members["disconnectTimeout"] == members["disconnectTImeout"] == minutes


def test_zero_and_false_and_empty_are_not_taken_for_unknown() -> None:
    members = json.loads(
        encode(replace(FULL, clients=0, display=0, cpu_percentage=0, sharing=False, command=""), {})
    )
    assert (members["clients"], members["display"], members["cpuPercentage"]) == (0, 0, 0)
    assert members["sharing"] is False
    assert members["command"] == ""


def test_the_text_is_compact_and_unescaped() -> None:
    text = encode(FULL, {"größe": "🙂"})
    assert text.startswith('{"id":"a","serverPid":4711,"geometry":"1280x720",')
    assert '"params":{"größe":"🙂"}' in text


def test_the_params_given_stand_in_for_the_sessions_own() -> None:
    assert json.loads(encode(FULL, {"a": 1}))["params"] == {"a": 1}
    assert FULL.params == {"name": "Thesis"}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_what_json_does_not_have_is_refused(value: float) -> None:
    with pytest.raises(ValueError):
        to_json({"a": [value]})


@settings(deadline=None)
@given(sessions, json_objects)
def test_decoding_returns_the_session_that_was_encoded(
    session: Session, params: dict[str, Any]
) -> None:
    assert decode(encode(session, params)) == replace(session, params=params)


@settings(deadline=None)
@given(sessions)
def test_encoding_what_was_decoded_returns_the_same_text(session: Session) -> None:
    text = encode(session, session.params)
    decoded = decode(text)
    assert encode(decoded, decoded.params) == text


# Without what is ours


@settings(deadline=None)
@given(sessions, json_objects)
def test_without_ours_a_session_is_what_it_would_be_if_there_were_none(
    session: Session, params: dict[str, Any]
) -> None:
    text = encode(session, params)
    members = json.loads(text)
    ours = members.keys() - {*PUBLISHED, "disconnectTimeout"}
    assert ours == {"clientAddresses", "idleSince", "cpu", "memory", "kind"}
    rest = {name: value for name, value in members.items() if name not in ours}
    assert published_part(text) == to_json(rest)


@pytest.mark.parametrize(
    "params", [{"kind": "xrdp"}, {"a": ',"kind":"xrdp"}'}, {"a": {"b": 1, "kind": "xrdp"}}]
)
def test_what_looks_like_ours_in_params_stays(params: dict[str, Any]) -> None:
    for release in (FULL, replace(FULL, kind=None), replace(FULL, kind=',"kind":null}')):
        text = encode(release, params)
        assert json.loads(published_part(text))["params"] == params
        older = published_part(text)
        assert published_part(older) == older


# The digest


@settings(deadline=None)
@given(sessions, json_objects)
def test_the_digest_does_not_depend_on_params(session: Session, params: dict[str, Any]) -> None:
    assert replace(session, params=params).digest == session.digest


@pytest.mark.parametrize(
    "name", [member.name for member in fields(Session) if member.name != "params"]
)
def test_the_digest_depends_on_everything_else(name: str) -> None:
    now: Any = getattr(FULL, name)
    others: list[Any] = [
        (
            not now
            if isinstance(now, bool)
            else now + 1
            if isinstance(now, (int, float))
            else now[:-1]
            if isinstance(now, tuple)
            else now + "x"
        )
    ]
    if getattr(MINIMAL, name) is None:
        others.append(None)
    digests = {FULL.digest, *(replace(FULL, **{name: other}).digest for other in others)}
    assert len(digests) == 1 + len(others)


def test_what_is_not_said_of_its_start_is_completed_and_nothing_else() -> None:
    said = Said(login="alice", video_ram=1, sharing=False, cpu_percentage=0.0)
    start = Start(cpu_percentage=50.0, video_ram=2, sharing=True, disconnect_timeout=30)
    assert complete(said, start) == replace(said, disconnect_timeout=30)
    assert complete(said, Start()) is said
    assert complete(Said(login="alice"), start) == Said(login="alice", **vars(start))


def test_a_session_is_what_was_said_of_it_and_where_it_is() -> None:
    said = {each.name: getattr(FULL, each.name) for each in fields(Said)}
    session = session_of(
        Said(**said), id="a", server_id="server", hostname="host.example.org", kind="xrdp"
    )
    assert session == replace(FULL, last_connect=None, last_disconnect=None)


@pytest.mark.parametrize("owner", [Start, Said, Session])
def test_members_are_named_where_they_are_said(owner: type) -> None:
    with pytest.raises(TypeError):
        owner("alice")
    with pytest.raises(AttributeError):
        FULL.login = "bob"  # type: ignore[misc]


def test_tables_show_what_a_session_is_and_how_it_stands_before_its_other_members() -> None:
    assert list(COLUMNS.items())[:3] == [
        ("name", "Session"),
        ("login", "Login"),
        ("state", "State"),
    ]
