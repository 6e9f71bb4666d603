"""``-o``, ``--columns``, ``show``, and the keys of ``watch``."""

from __future__ import annotations

import csv
import io
import json
import os
import pty
import select
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress

import pytest
from click.testing import CliRunner, Result

from fastx_list.command.cli import main
from tests.answers import Observe
from tests.conftest import session
from tests.support import Service, wait_for

yaml = pytest.importorskip("yaml")
Run = Callable[..., Result]


@pytest.fixture
def run(service: Service, observe: Observe) -> Run:
    params = {"name": "a: \u202e\U0001f600 #", "n": 5}
    observe(
        session("abc", started=1, display=7, params=params, clients=2, command="=1+1"),
        session("abd", started=2, geometry=None),
        session("b", "bob", started=3),
    )

    def run(*arguments: str) -> Result:
        return CliRunner(env=service.environ).invoke(main, [*arguments, "--all"])

    return run


def test_yaml_and_csv_say_what_json_says(run: Run) -> None:
    found = json.loads(run("ls", "-o", "json").stdout)
    assert found == json.loads(run("ls", "--json").stdout) and len(found) == 3
    assert yaml.safe_load(run("ls", "-o", "yaml").stdout) == found
    rows = list(csv.DictReader(io.StringIO(run("ls", "-o", "csv").stdout)))
    assert [row["id"] for row in rows] == ["abc", "abd", "b"] and rows[0]["command"] == "'=1+1"
    assert "disconnectTImeout" not in rows[0]
    nothing = ("ls", "--filter", "id==x", "-o")
    assert json.loads(run(*nothing, "json").stdout) == yaml.safe_load(run(*nothing, "yaml").stdout)
    assert (
        run(*nothing, "csv").stdout.startswith("id,serverPid,")
        and run(*nothing, "name").stdout == ""
    )


def test_names_of_any_length_stand_in_yaml(run: Run, observe: Observe) -> None:
    """A user's params are not to make YAML of all what no parser takes."""
    observe(session("long", params={"k" * 2000: [{"\u200b" * 200: {}}], "n": [[]]}))
    [found] = yaml.safe_load(run("ls", "-o", "yaml").stdout)
    assert found["params"] and [found] == json.loads(run("ls", "-o", "json").stdout)


def test_pages_columns_and_names_are_chosen(run: Run) -> None:
    page = run("ls", "-o", "name", "--start", "1", "--limit", "1")
    assert page.stdout == "abd\n"
    table = run("ls", "--columns", "id,params.n,state,clients", "--limit", "2")
    assert [line.split() for line in table.stdout.splitlines()] == [
        ["ID", "PARAMS.N", "STATE", "CLIENTS"],
        ["abc", "5", "connected", "(2", "clients)", "2"],
        ["abd", "–", "unknown", "–"],
    ]
    assert table.stderr == "2 of 3\n"
    chosen = run("ls", "--columns", "id,n", "-o", "json")
    assert json.loads(chosen.stdout)[0] == {"id": "abc", "n": 5}
    wide = run("ls", "-o", "wide").stdout.splitlines()
    assert {"SESSION", "ID", "CLIENTS", "MODE"} <= set(wide[0].split())
    assert run("ls", "-o", "xml").exit_code == 2


def test_all_of_one_session_is_shown(run: Run) -> None:
    shown = dict(line.split("  ", 1) for line in run("show", "abc").stdout.splitlines())
    assert shown["Id"].strip() == "abc" and shown["Display"].strip() == "7"
    assert "\u202e" not in shown["Params"] and "Started" in shown
    assert json.loads(run("show", "b", "-o", "json").stdout)[0]["login"] == "bob"
    assert "2 sessions begin so" in run("show", "ab").stderr
    assert "there is none" in run("show", "x").stderr and run("show", "x").exit_code == 1


def test_watch_counts_shows_the_newest_first_and_moves_with_the_keys(
    service: Service, observe: Observe
) -> None:
    observe(*[session(f"{n}", started=n, command=f"number-{n}", clients=n % 2) for n in range(9)])
    outer, inner = pty.openpty()
    watching = service.processes.add(
        subprocess.Popen(
            [sys.executable, "-m", "fastx_list", "ls", "-w", "--all"],
            stdin=inner,
            stdout=inner,
            stderr=inner,
            env=service.environ | {"TERM": "xterm", "COLUMNS": "60", "LINES": "6"},
        )
    )
    os.close(inner)
    said = ""

    def last() -> str:
        nonlocal said
        while select.select([outer], [], [], 0.05)[0]:
            said += os.read(outer, 65536).decode()
        return said.rpartition("9 sessions")[0].rpartition("SESSION ")[2] + said[-60:]

    wait_for("the newest", lambda: "number-8" in last() and "number-5" in last())
    assert "number-4" not in last() and "9 sessions, 4 connected; 1 to 4" in said
    os.write(outer, b"\x1b[F")
    wait_for("the end", lambda: "number-0" in last() and "6 to 9" in last())
    os.write(outer, b"\x1b[Hj")
    wait_for("the second line", lambda: "number-7" in last() and "2 to 5" in last())
    os.write(outer, b"q")

    def has_ended() -> bool:
        with suppress(OSError):  # how a terminal ends that nobody has open
            if select.select([outer], [], [], 0.05)[0]:
                os.read(outer, 65536)
        return watching.poll() is not None

    wait_for("its end", has_ended)
    assert watching.returncode == 0
    os.close(outer)
