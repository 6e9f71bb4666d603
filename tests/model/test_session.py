from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from fastx_list.model.json import to_json
from fastx_list.model.params import ParamsError, check_params, merge_params
from fastx_list.model.registration import SpoolSchema, StartSchema
from fastx_list.model.session import MEMBERS, Session, SessionSchema, decode, encode

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

FULL = Session(
    id="a",
    login="alice",
    server_id="server",
    hostname="host.example.org",
    server_pid=4711,
    geometry="1280x720",
    window_mode="desktop",
    started=1_700_000_000_123,
    last_connect=1_700_000_001_000,
    last_disconnect=1_700_000_002_000,
    command="startxfce4 --größe",
    app_pid=4712,
    clients=2,
    params={"name": "Thesis"},
    display=12,
    cpu_percentage=12.5,
    video_ram=65536,
    sharing=True,
    disconnect_timeout=30,
)
MINIMAL = Session("a", "alice", "server", "host")

texts = st.text(max_size=8)
wholes = st.none() | st.integers(0, 2**63)
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
json_objects = st.dictionaries(
    texts,
    st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=5,
    ),
    max_size=4,
)
sessions = st.builds(
    Session,
    id=texts,
    login=texts,
    server_id=texts,
    hostname=texts,
    server_pid=wholes,
    geometry=st.none() | texts,
    window_mode=st.sampled_from([None, "desktop", "rootless"]),
    started=wholes,
    last_connect=wholes,
    last_disconnect=wholes,
    command=st.none() | texts,
    app_pid=wholes,
    clients=wholes,
    params=json_objects,
    display=wholes,
    cpu_percentage=st.none() | st.floats(0, allow_nan=False, allow_infinity=False),
    video_ram=wholes,
    sharing=st.none() | st.booleans(),
    disconnect_timeout=wholes,
)


def nested(depth: int) -> dict[str, Any]:
    """Return params that are arrays in arrays."""
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return {"x": value}


def from_a_deeper_stack(frames: int, call: Callable[[], Any]) -> Any:
    return call() if frames == 0 else from_a_deeper_stack(frames - 1, call)


# The published form


def test_a_session_has_exactly_the_published_members_in_the_published_order() -> None:
    members = list(SessionSchema().dump(FULL))
    assert [name for name in members if name != "disconnectTimeout"] == PUBLISHED
    assert members.count("disconnectTimeout") == 1
    assert frozenset(members) == MEMBERS


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
            else now + "x"
        )
    ]
    if getattr(MINIMAL, name) is None:
        others.append(None)
    digests = {FULL.digest, *(replace(FULL, **{name: other}).digest for other in others)}
    assert len(digests) == 1 + len(others)


# Params


def test_params_are_merged_key_by_key() -> None:
    assert merge_params({"a": 1, "b": 2}, {"b": 3, "c": 4}) == {"a": 1, "b": 3, "c": 4}


def test_a_null_removes_a_param() -> None:
    assert merge_params({"a": 1, "b": 2}, {"a": None, "never": None}) == {"b": 2}


def test_an_object_replaces_an_object_and_keeps_its_nulls() -> None:
    # RFC 7396 would merge deeper; the call does so at the top level only.
    assert merge_params({"a": {"x": 1}}, {"a": {"y": None}}) == {"a": {"y": None}}


def test_merging_changes_neither_of_the_two() -> None:
    params, patch = {"a": 1}, {"a": None, "b": 2}
    merge_params(params, patch)
    assert (params, patch) == ({"a": 1}, {"a": None, "b": 2})


@pytest.mark.parametrize("value", [False, 0, 0.0, "", [], {}], ids=repr)
def test_only_null_removes_a_param(value: object) -> None:
    assert merge_params({"a": 1}, {"a": value}) == {"a": value}


def test_a_session_holds_64_params_and_no_more() -> None:
    full = {f"key{number}": number for number in range(64)}
    check_params(full)
    assert merge_params(full, {"key0": "changed"})["key0"] == "changed"
    with pytest.raises(
        ParamsError, match="params: takes at most 64 keys in all, and this would make 65"
    ):
        merge_params(full, {"one more": 1})


def test_a_full_session_takes_a_param_in_exchange_for_another() -> None:
    full = {f"key{number}": number for number in range(64)}
    merged = merge_params(full, {"key0": None, "new": 1})
    assert len(merged) == 64
    assert merged["new"] == 1


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_params_hold_8_kib_of_json_and_no_more(letter: str) -> None:
    room = 8192 - len(b'{"a":""}')
    value = letter * (room // len(letter.encode())) + "-" * (room % len(letter.encode()))
    check_params({"a": value})
    assert merge_params({}, {"a": value}) == {"a": value}
    with pytest.raises(
        ParamsError,
        match="params: takes at most 8192 bytes of JSON in all, and this would make 8193",
    ):
        merge_params({}, {"a": value + "x"})


def test_it_counts_the_bytes_of_all_params_together() -> None:
    with pytest.raises(ParamsError, match="8192"):
        merge_params({"a": "x" * 5000}, {"b": "x" * 5000})


def test_params_that_are_over_the_limit_can_be_made_smaller() -> None:
    assert merge_params({"a": "x" * 9000, "b": 1}, {"a": None}) == {"b": 1}


@pytest.mark.parametrize(
    "params",
    [
        {"a": float("nan")},
        {"a": float("inf")},
        {"a": [1, {"b": float("-inf")}]},
        {"a": "\ud800"},
        {"\udfff": 1},
        {"a": ["\udc80"]},
        {"a": {"\ud83d": 1}},
    ],
    ids=repr,
)
def test_params_that_json_cannot_say_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ParamsError, match="params: takes Unicode text and finite numbers only"):
        check_params(params)


def test_a_pair_of_surrogates_is_a_character() -> None:
    check_params(json.loads(r'{"a": "\ud83d\ude42"}'))


def test_params_nested_thousands_deep_are_refused() -> None:
    with pytest.raises(ParamsError, match="params: "):
        check_params(nested(2000))


def test_what_params_are_taken_can_be_read_from_any_depth_of_the_stack() -> None:
    # The store and the replica read the text again, in other frames than the request that wrote it.
    accepted = 0
    for depth in range(1, 1000):
        params = nested(depth)
        try:
            check_params(params)
        except ParamsError:
            break
        accepted = depth
    text = encode(MINIMAL, nested(accepted))
    assert from_a_deeper_stack(200, lambda: decode(text)) == replace(
        MINIMAL, params=nested(accepted)
    )


@settings(deadline=None)
@given(json_objects, json_objects)
def test_merging_is_what_the_text_says(params: dict[str, Any], patch: dict[str, Any]) -> None:
    merged = merge_params(params, patch)
    assert None not in merged.values()
    for key in params.keys() | patch.keys():
        assert merged.get(key) == (patch[key] if key in patch else params[key])


# Session files

FILE = {
    "login": "alice",
    "serverPid": 4711,
    "geometry": "1280x720",
    "windowMode": "rootless",
    "started": 1_700_000_000_000,
    "command": "blender",
    "appPid": 4712,
    "clients": 1,
    "params": {"name": "Model"},
    "display": 90,
    "cpuPercentage": 50,
    "videoRam": 65536,
    "sharing": False,
    "disconnectTimeout": 30,
}


def load_file(**members: Any) -> dict[str, Any]:
    loaded: dict[str, Any] = SpoolSchema().load({"login": "alice", **members})
    return loaded


def test_a_session_file_says_all_that_a_launcher_knows() -> None:
    session = Session(id="a", server_id="server", hostname="host", **load_file(**FILE))
    members = json.loads(encode(session, session.params))
    assert {name: members[name] for name in FILE} == FILE


def test_a_session_file_needs_a_login_and_nothing_more() -> None:
    assert SpoolSchema().load({"login": "alice"}) == {"login": "alice"}
    with pytest.raises(ValidationError) as caught:
        SpoolSchema().load({name: value for name, value in FILE.items() if name != "login"})
    assert list(caught.value.messages_dict) == ["login"]


@pytest.mark.parametrize("name", sorted(FILE.keys() - {"login", "params"}))
def test_a_session_file_may_say_that_a_fact_is_not_known(name: str) -> None:
    assert set(load_file(**{name: None}).values()) == {"alice", None}


@pytest.mark.parametrize(
    "name, value",
    [
        ("login", "x"),
        ("login", "x" * 256),
        ("login", "Jörg"),
        ("serverPid", 1),
        ("serverPid", 2**22),
        ("geometry", "1x1"),
        ("geometry", "99999x99999"),
        ("windowMode", "desktop"),
        ("windowMode", "rootless"),
        ("started", 0),
        ("started", 2**53),
        ("command", ""),
        ("command", "x" * 4096),
        ("appPid", 1),
        ("clients", 0),
        ("params", {}),
        ("params", {"a": [1, None]}),
        ("display", 0),
        ("display", 65535),
        ("cpuPercentage", 0),
        ("cpuPercentage", 800.5),
        ("videoRam", 0),
        ("sharing", True),
        ("disconnectTimeout", 0),
    ],
)
def test_a_session_file_is_taken_with(name: str, value: object) -> None:
    assert value in load_file(**{name: value}).values()


REFUSED: list[tuple[str, object]] = [
    *(("login", value) for value in (None, "", "x" * 257, 1000, ["alice"])),
    *(("serverPid", value) for value in (0, -1, 2**31 + 1, "4711", 1.5, True, [1])),
    *(
        ("geometry", value)
        for value in (
            "",
            "1280",
            "1280x",
            "x720",
            "0x0",
            "01x1",
            "100000x1",
            "1280X720",
            "1280x720x24",
            "1280x720+0+0",
            " 1280x720",
            "1280x720\n",
            "-1x1",
            "１２８０x７２０",
            1280,
            [1280, 720],
        )
    ),
    *(("windowMode", value) for value in ("", "Desktop", "seamless", 1)),
    *(("started", value) for value in (-1, 2**53 + 1, "2024-01-01", "1700000000000", 1.5, True)),
    *(("command", value) for value in ("x" * 4097, ["xterm"], 1)),
    *(("appPid", value) for value in (0, -1, "1", 1.5, True)),
    *(("clients", value) for value in (-1, "1", 1.5, True)),
    *(("params", value) for value in (["a"], "a", 1)),
    *(("display", value) for value in (-1, 65536, ":1", "1", True)),
    *(("cpuPercentage", value) for value in (-0.1, "much", float("nan"), float("inf"), [50])),
    *(("videoRam", value) for value in (-1, "64M", "65536", 1.5, True, 2**53 + 1)),
    *(("sharing", value) for value in ("maybe", 2, ["true"])),
    *(("disconnectTimeout", value) for value in (-1, "30", 2**53 + 1, 1.5)),
]


@pytest.mark.parametrize("name, value", REFUSED, ids=lambda value: repr(value)[:24])
def test_a_session_file_is_refused_with(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        load_file(**{name: value})
    assert list(caught.value.messages_dict) == [name]


@pytest.mark.parametrize(
    "name",
    [
        "id",
        "hostname",
        "serverId",
        "lastConnect",
        "lastDisconnect",
        "disconnectTImeout",
        "Login",
        "server_pid",
        "note",
    ],
)
def test_a_session_file_is_refused_with_a_member_that_is_not_the_launchers_to_say(
    name: str,
) -> None:
    with pytest.raises(ValidationError) as caught:
        load_file(**{name: "x"})
    assert list(caught.value.messages_dict) == [name]


# What sessions start with, as session.json says it


def test_the_session_settings_are_those_four_members() -> None:
    members = {"cpuPercentage": 50, "videoRam": 65536, "sharing": True, "disconnectTimeout": 30}
    assert StartSchema().load(members) == {
        "cpu_percentage": 50.0,
        "video_ram": 65536,
        "sharing": True,
        "disconnect_timeout": 30,
    }
    assert StartSchema().load({}) == {}
    with pytest.raises(ValidationError) as caught:
        StartSchema().load({**members, "login": "alice"})
    assert list(caught.value.messages_dict) == ["login"]


@pytest.mark.parametrize(
    "name, value, takes",
    [
        ("cpuPercentage", "much", "a number, 0 or more"),
        ("cpuPercentage", -1, "a number, 0 or more"),
        ("videoRam", "64M", "a whole number of kB"),
        ("videoRam", -1, "a whole number of kB"),
        ("videoRam", 1.5, "a whole number of kB"),
        ("sharing", "maybe", "true or false"),
        ("disconnectTimeout", "30", "a whole number of minutes"),
        ("disconnectTimeout", -1, "a whole number of minutes"),
    ],
)
def test_a_refused_session_setting_says_what_it_takes(name: str, value: object, takes: str) -> None:
    with pytest.raises(ValidationError) as caught:
        StartSchema().load({name: value})
    assert caught.value.messages_dict == {name: [f"takes {takes}"]}
