"""Whose sockets for X clients are new: real files, and real events of them."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.agent import arrivals as module
from fastx_list.agent.arrivals import MAX_NAMES, Arrivals
from fastx_list.agent.door import Unanswered

US = os.geteuid()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / ".X11-unix"
    path.mkdir()
    return path


@pytest.fixture
def arrivals(directory: Path) -> Iterator[Arrivals]:
    arrivals = Arrivals(directory)
    arrivals.follow()
    yield arrivals
    arrivals.close()


def bind(path: Path) -> str:
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(os.fspath(path))
    return os.fspath(path)


def test_a_socket_is_told_once_with_whose_it_is(arrivals: Arrivals, directory: Path) -> None:
    assert arrivals.new() == {}
    path = bind(directory / "X17")
    assert arrivals.new() == {path: US}
    assert arrivals.new() == {}
    bind(directory / "elsewhere")
    os.rename(directory / "elsewhere", directory / "X18")
    assert arrivals.new() == {os.fspath(directory / "X18"): US}


def test_what_is_no_x_servers_socket_is_not_told(arrivals: Arrivals, directory: Path) -> None:
    (directory / "X1").write_text("", encoding="ascii")
    (directory / "X2").symlink_to(directory / "X1")
    for name in ("X", "Y3", "X3_", "X123456"):
        bind(directory / name)
    bind(directory / "X4")
    (directory / "X4").unlink()
    assert arrivals.new() == {}


def test_a_link_in_the_place_of_the_directory_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "home")
    arrivals = Arrivals(tmp_path / "link")
    arrivals.follow()
    bind(tmp_path / "home" / "X1")
    assert arrivals.new() == {}
    arrivals.close()


def test_of_very_many_at_a_time_some_are_left_out(arrivals: Arrivals, directory: Path) -> None:
    paths = {bind(directory / f"X{number}") for number in range(MAX_NAMES + 50)}
    found = arrivals.new()
    assert len(found) == MAX_NAMES and found.keys() <= paths
    assert arrivals.new() == {}


def test_names_without_end_are_read_for_a_share_of_the_time(
    arrivals: Arrivals, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, worked, read = time.monotonic(), 0.0, 0

    def work() -> float:
        nonlocal worked
        worked += 0.005
        return worked

    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(module, "work", work)
    for number in range(60 * 20):
        now += 0.05
        bind(directory / f"X{number}")
        read += bool(arrivals.new())
    most = module.MOST_SECONDS + 60 * module.SHARE
    assert 60 * module.SHARE / 0.005 / 2 <= read <= most / 0.005 + 1


def test_where_whose_they_are_is_not_answered_nothing_is_told(
    arrivals: Arrivals, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*arguments: object) -> None:
        raise Unanswered("whose they are")

    bind(directory / "X1")
    with monkeypatch.context() as hanging:
        hanging.setattr(module, "ask", hang)
        assert arrivals.new() == {}
    path = bind(directory / "X2")
    assert arrivals.new() == {path: US}
