from __future__ import annotations

import json
from typing import Any

import pytest
from marshmallow import ValidationError

from fastx_list.model.registration import SpoolSchema, StartSchema, load_said, load_start
from fastx_list.model.session import Said, Session, Start, encode

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


@pytest.mark.parametrize("text", ["1700000000000.0", "1.7e12", "1700000000000"])
def test_a_whole_number_is_one_however_it_is_written(text: str) -> None:
    started = load_file(started=json.loads(text))["started"]
    assert started == 1_700_000_000_000 and isinstance(started, int)
    assert load_start({"videoRam": 8.0}).video_ram == 8


@pytest.mark.parametrize("value", [1.5, -1.0, 1e300, float("inf"), float("nan"), True, "7"])
def test_what_is_no_whole_number_is_none(value: Any) -> None:
    with pytest.raises(ValidationError):
        load_file(display=value)


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
    ["id", "hostname", "serverId", "lastConnect", "lastDisconnect", "Login", "server_pid", "note"],
)
def test_a_session_file_is_refused_with_a_member_that_is_not_the_launchers_to_say(
    name: str,
) -> None:
    with pytest.raises(ValidationError) as caught:
        load_file(**{name: "x"})
    assert list(caught.value.messages_dict) == [name]


BOTH = [{"disconnectTImeout": 30}, {"disconnectTimeout": 30.0, "disconnectTImeout": 30}]


@pytest.mark.parametrize("members", BOTH, ids=["one", "both"])
def test_the_published_spelling_is_taken_as_well(members: dict[str, Any]) -> None:
    assert load_said({"login": "alice", **members}) == Said(login="alice", disconnect_timeout=30)
    assert load_start(members) == Start(disconnect_timeout=30)


@pytest.mark.parametrize(("one", "other"), [(30, 31), (0, None), (None, 0)])
def test_two_spellings_of_a_member_say_the_same(one: object, other: object) -> None:
    members = {"disconnectTimeout": one, "disconnectTImeout": other}
    for load, more in ((load_said, {"login": "alice"}), (load_start, {})):
        with pytest.raises(ValidationError) as caught:
            load({**members, **more})
        assert caught.value.messages_dict == {
            "disconnectTImeout": [
                f"says {json.dumps(other)} where disconnectTimeout, the same member, says"
                f" {json.dumps(one)}"
            ]
        }


def test_what_is_wrong_in_the_published_spelling_is_named_by_it() -> None:
    with pytest.raises(ValidationError) as caught:
        load_start({"disconnectTImeout": "soon"})
    assert caught.value.messages_dict == {"disconnectTImeout": ["takes a whole number of minutes"]}


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


def test_what_a_launcher_says_is_loaded_by_attribute() -> None:
    said = load_said({"login": "alice", "windowMode": "rootless", "videoRam": 5, "display": None})
    assert said == Said(login="alice", window_mode="rootless", video_ram=5)
    assert load_start({"cpuPercentage": 50, "sharing": False}) == Start(
        cpu_percentage=50, sharing=False
    )
    for load, wrong in ((load_said, {}), (load_start, {"login": "alice"})):
        with pytest.raises(ValidationError):
            load(wrong)
