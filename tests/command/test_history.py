from __future__ import annotations

import csv
import io
import json
import re

import pytest

from fastx_list.store import Store
from tests.answers import Observe
from tests.command.conftest import Command
from tests.conftest import session


@pytest.fixture(autouse=True)
def _sessions(observe: Observe) -> None:
    """``a`` of alice has ended; ``b`` runs, and ``c`` of bob."""
    every = [
        session("a", started=1, command="xterm\x1b[2J", clients=1, kind="xrdp", display=7),
        session("b", started=2, command="blender"),
        session("c", "bob", started=3),
    ]
    observe(*every)
    observe(*every[1:])


def test_history_tells_of_what_runs_and_what_has_ended(command: Command) -> None:
    lines = command("history", "--login", "alice").stdout.splitlines()
    header = ["SESSION", "DISPLAY", "KIND", "BEGAN", "ENDED", "CONNECTED", "ADDRESSES"]
    assert lines[0].split() == header
    running, ended = (re.split(r"\s{2,}", line.strip()) for line in lines[1:])
    assert running[0] == "blender" and running[4] == "–"
    assert ended[:3] == ["xterm\ufffd[2J", "here.example:7", "xrdp"]
    assert re.fullmatch(r"2[0-9]{3}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}", ended[4])
    lines = command("history", "--all", "--limit", "2").stdout.splitlines()
    assert lines[0].split()[1] == "LOGIN" and len(lines) == 3
    assert command("history", "--all", "--limit", "2").stderr == "2 of 3; --limit shows more\n"
    nobody = command("history", "--login", "eve")
    assert nobody.stdout == "" and nobody.stderr == "there was no such session\n"


def test_history_is_asked_as_the_api_is(command: Command) -> None:
    found = json.loads(command("history", "--all", "--json", "--sort-by", "began").stdout)
    assert [each["id"] for each in found] == ["a", "b", "c"]
    found = json.loads(command("history", "--all", "--json", "--filter", "ended==").stdout)
    assert {each["id"] for each in found} == {"b", "c"}
    asked = ("--since", "1h", "--until", "2999-01-01")
    found = json.loads(command("history", "--all", "--json", *asked).stdout)
    assert [each["id"] for each in found] == ["a"]
    rows = list(csv.DictReader(io.StringIO(command("history", "--all", "--csv").stdout)))
    assert {row["id"] for row in rows} == {"a", "b", "c"}
    for wrong in (("--since", "soon"), ("--limit", "-1"), ("-o", "xml")):
        refused = command("history", *wrong)
        assert refused.returncode == 2 and "Error: " in refused.stderr


def test_a_login_can_be_erased(command: Command, store: Store) -> None:
    assert command("erase", "alice").stdout == "1 session of alice forgotten\n"
    found = json.loads(command("history", "--all", "--json").stdout)
    assert {each["id"] for each in found} == {"b", "c"}
    assert "alice" not in {event.login for event in store.archive.events(None, 100).events}


def test_where_no_history_is_kept_there_is_none(command: Command) -> None:
    refused = command("history", FASTX_LIST_HISTORY="0")
    assert refused.returncode == 1
    assert refused.stderr == "Error: no history is kept here (FASTX_LIST_HISTORY=0)\n"
