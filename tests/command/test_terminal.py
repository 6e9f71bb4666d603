from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from fastx_list.command.tables import past_columns, server_columns, session_columns
from fastx_list.command.terminal import Column, Members, escaped, lines_of, shown
from fastx_list.store import Store
from tests.command.conftest import Command
from tests.conftest import session
from tests.support import Service

LINES = st.text(max_size=40) | st.sampled_from(["\x9b31m", "\u202etxt.exe", "日本語" * 9, "–…"])
NUMBERS = st.integers(0, 10**9)
TIMES = st.none() | st.integers(0, 2**42)
SESSIONS = st.fixed_dictionaries(
    {
        "params": st.fixed_dictionaries({}, optional={"name": LINES}),
        "command": st.none() | LINES,
        "login": LINES,
        "hostname": LINES,
        "display": st.none() | st.integers(0, 65535),
        "clients": st.none() | NUMBERS,
        "lastConnect": TIMES,
        "lastDisconnect": TIMES,
        "started": TIMES,
        "geometry": st.none() | st.just("12800x72000"),
        "kind": st.none() | LINES,
        "began": st.integers(0, 2**42),
        "ended": TIMES,
        "connectedSeconds": NUMBERS,
        "addresses": st.lists(st.ip_addresses().map(str), max_size=5),
    }
)
SERVERS = st.fixed_dictionaries(
    {
        "id": st.text("abc.-0", min_size=1, max_size=128),
        "hostname": LINES,
        "serverPool": st.none() | LINES,
        "cpu": st.none() | st.floats(0, 100),
        "freemem": st.none() | NUMBERS,
        "totalmem": st.none() | NUMBERS,
        "sessions": NUMBERS,
        "loggedInUsers": NUMBERS,
        "loadavg": st.none() | st.just([0.5, 100.25, 17]),
        "uptime": st.none() | NUMBERS,
    }
)
ENCODINGS = st.sampled_from(["utf-8", "latin-1", "ascii", "shift_jis", "koi8-r"])


def _assert_no_wrong_figure(
    usual: Mapping[str, Column], rows: list[Members], width: int, encoding: str
) -> None:
    columns = list(usual.values())
    lines = lines_of(columns, rows, width, encoding)
    assert len(lines) == len(rows) + 1
    mark = shown("…", encoding)
    for line in lines:
        line.encode(encoding)
        assert line.isprintable()
    alone = [lines_of([column], rows, None, encoding) for column in columns]
    headings = re.split(r" {2,}", lines[0])
    kept = [column for column in columns if column.heading.upper() in headings]
    if len(kept) > 1:
        assert all(cell_len(line) <= width for line in lines)
    # Those that have gone mattered less
    gone = [column.rank for column in columns if column not in kept]
    assert max((column.rank for column in kept), default=0) <= min(gone, default=99)
    for number, line in enumerate(lines):
        for column, cells in zip(columns, alone, strict=True):
            if column in kept and column.cut is None:
                assert cells[number] in line
            elif column in kept and cells[number] not in line:
                assert mark in line


@settings(max_examples=30, deadline=None)
@given(st.lists(SESSIONS, max_size=4), st.integers(40, 250), ENCODINGS, st.booleans())
def test_no_figure_of_a_session_is_cut_at_any_width(
    rows: list[Members], width: int, encoding: str, with_login: bool
) -> None:
    _assert_no_wrong_figure(session_columns(with_login), rows, width, encoding)
    _assert_no_wrong_figure(past_columns(with_login), rows, width, encoding)
    table = lines_of([*session_columns(with_login).values()], rows, width, encoding)
    for row, line in zip(rows, table[1:], strict=True):
        if row["display"] is not None:
            assert f":{row['display']} " in f"{line} "


@settings(max_examples=30, deadline=None)
@given(st.lists(SERVERS, max_size=4), st.integers(40, 250), ENCODINGS)
def test_no_figure_of_a_server_is_cut_at_any_width(
    rows: list[Members], width: int, encoding: str
) -> None:
    _assert_no_wrong_figure(server_columns(), rows, width, encoding)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=20) | LINES | st.just("\U000e0041"), max_size=3
    ),
    ENCODINGS,
)
def test_json_stays_the_same_and_has_nothing_that_steers_a_terminal(
    value: dict[str, str], encoding: str
) -> None:
    text = escaped(json.dumps(value, ensure_ascii=False), encoding)
    assert text.isprintable() and text.encode(encoding)
    assert json.loads(text) == value


def test_addresses_are_left_out_whole_and_names_end_where_they_are_cut() -> None:
    row = {
        "params": {"name": "a name that is far too long"},
        "command": None,
        "login": "alice",
        "hostname": "node7.cluster.example.org",
        "display": 1234,
        "kind": "xrdp",
        "began": 0,
        "ended": None,
        "connectedSeconds": 5,
        "addresses": ["192.0.2.10", "192.0.2.117"] * 3,
    }
    [_, line] = lines_of([*past_columns(True).values()], [row], 40)
    assert line == "a name tha…  alice  node7.c…:1234  –"
    [_, line] = lines_of([*past_columns(False).values()], [row], 110)
    assert re.search(r"  192\.0\.2\.10( 192\.0\.2\.117)? …$", line)


@pytest.fixture
def in_terminal(service: Service) -> Callable[..., str]:
    """Runs ``fastx-list`` in a terminal, and returns what that is sent."""

    def run(*arguments: str, **environ: str) -> str:
        outer, inner = pty.openpty()
        command = [sys.executable, "-m", "fastx_list", *arguments]
        env = {**service.environ, "TERM": "xterm", "COLUMNS": "80", **environ}
        process = service.processes.add(
            subprocess.Popen(command, stdin=inner, stdout=inner, stderr=inner, env=env)
        )
        os.close(inner)
        said = b""
        while process.poll() is None or select.select([outer], [], [], 0)[0]:
            if select.select([outer], [], [], 0.05)[0]:
                try:
                    said += os.read(outer, 65536)
                except OSError:  # how a terminal ends that nobody has open
                    break
        os.close(outer)
        assert process.wait() == 0, said
        return said.decode("utf-8" if "utf" in env.get("PYTHONIOENCODING", "utf") else "latin-1")

    return run


def test_a_terminal_is_never_sent_what_would_steer_it(
    in_terminal: Callable[..., str], store: Store
) -> None:
    bad = "\x1b[2J\x9b31m\u202etxt\u200b"
    each = session("a", params={"name": bad}, command=bad, display=1234)
    store.observe("here", {"a": each})
    for arguments in (
        *(("ls", "--all"), ("ls", "--all", "--json")),
        *(("events", "--all"), ("history", "--all", "--csv")),
    ):
        said = in_terminal(*arguments).replace("\x1b[1m", "").replace("\x1b[0m", "")
        assert all(line.isprintable() for line in re.split(r"\r+\n", said)), (arguments, said)
        assert "1234" in said or "events" in arguments


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_a_terminal_whose_encoding_lacks_our_own_characters_is_sent_others(
    command: Command, in_terminal: Callable[..., str], store: Store, encoding: str
) -> None:
    store.observe("here", {"a": session("a", command="x" * 90 + "\x1b", geometry=None)})
    said = in_terminal("ls", "--all", PYTHONIOENCODING=encoding)
    assert "xx..." in said and "-" in said and "Traceback" not in said
    piped = command("ls", "--all", PYTHONIOENCODING=encoding)
    assert piped.returncode == 0 and "x?" in piped.stdout
