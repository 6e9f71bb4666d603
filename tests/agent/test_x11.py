"""The X11 protocol without a server, and a few servers that do not behave. Real servers are in
tests/system."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastx_list.agent import x11
from fastx_list.agent.x11 import (
    Cookie,
    Denied,
    DisplayWatch,
    Flood,
    ScreenSize,
    X11Error,
    find_cookie,
    parse_authority,
    read_authority,
)
from tests.support import needs_root, wait_for

NAME = b"MIT-MAGIC-COOKIE-1"


def entry(family: int, address: bytes, display: bytes, name: bytes, data: bytes) -> bytes:
    return struct.pack(">H", family) + b"".join(
        struct.pack(">H", len(part)) + part for part in (address, display, name, data)
    )


def setup_reply(
    width: int, height: int, root: int = 77, vendor: bytes = b"a vendor", formats: int = 2
) -> bytes:
    """Return a server's answer to the connection's setup: X11 protocol, section 8."""
    padded = vendor + b"\0" * (-len(vendor) % 4)
    body = (
        struct.pack("<IIIIHHBB10x", 1, 2, 3, 4, len(vendor), 65535, 1, formats)
        + padded
        + b"\0" * 8 * formats
    )
    body += struct.pack("<IIIIIHH", root, 1, 2, 3, 4, width, height) + b"\0" * 16
    return struct.pack("<BxHHH", 1, 11, 0, len(body) // 4) + body


def configure_notify(window: int, width: int, height: int) -> bytes:
    return (
        struct.pack("<BxHIIIhhHHHBx", 22, 1, window, window, 0, 0, 0, width, height, 0, 0)
        + b"\0" * 4
    )


def geometry_reply(window: int, width: int, height: int) -> bytes:
    return struct.pack("<BBHIIhhHH12x", 1, 24, 2, 0, window, 0, 0, width, height)


def test_the_size_comes_with_the_setup_and_then_with_events() -> None:
    screen = ScreenSize()
    asked = screen.receive(setup_reply(1280, 720))
    assert screen.size == (1280, 720)
    # ChangeWindowAttributes: event mask StructureNotify. GetGeometry
    events, size = struct.pack("<BxHIII", 2, 4, 77, 2048, 1 << 17), struct.pack("<BxHI", 14, 2, 77)
    assert asked == events + size
    screen.receive(configure_notify(77, 800, 600))
    assert screen.size == (800, 600)
    screen.receive(configure_notify(5, 1, 1))  # another window
    assert screen.size == (800, 600)


def test_a_size_that_changed_before_events_were_asked_for_is_noticed() -> None:
    screen = ScreenSize()
    screen.receive(setup_reply(1280, 720))
    screen.receive(geometry_reply(5, 1, 1))  # another window's
    assert screen.size == (1280, 720)
    screen.receive(geometry_reply(77, 800, 600))
    assert screen.size == (800, 600)


@given(st.lists(st.integers(1, 40)), st.binary(max_size=19), st.integers(0, 5))
def test_it_matters_nothing_how_the_bytes_are_cut(
    cuts: list[int], vendor: bytes, formats: int
) -> None:
    error = struct.pack("<BBH28x", 0, 3, 1)
    reply = struct.pack("<BxHI24x", 1, 1, 3) + b"\0" * 12
    data = (
        setup_reply(640, 480, vendor=vendor, formats=formats)
        + error
        + reply
        + configure_notify(77, 1024, 768)
    )
    screen, asked, position = ScreenSize(), b"", 0
    for cut in [*cuts, len(data)]:
        asked += screen.receive(data[position : position + cut])
        position += cut
    assert screen.size == (1024, 768) and len(asked) == 24


@given(st.binary(max_size=300))
def test_no_answer_can_do_more_than_be_refused(data: bytes) -> None:
    screen = ScreenSize()
    try:
        screen.receive(data)
    except X11Error as error:
        assert str(error).isprintable()


def test_a_server_that_refuses_is_quoted() -> None:
    reason = b"Authorization required, but no authorization protocol specified\n"
    reply = (
        struct.pack("<BBHHH", 0, len(reason), 11, 0, (len(reason) + 3) // 4)
        + reason
        + b"\0" * (-len(reason) % 4)
    )
    with pytest.raises(Denied, match="it refuses us: Authorization required"):
        ScreenSize().receive(reply)


@given(st.lists(st.integers(1, 3000), max_size=20), st.sampled_from([1, 35]))
def test_what_was_not_asked_for_is_passed_over_without_being_kept(
    cuts: list[int], kind: int
) -> None:
    extra = b"\x16" * 4000
    unasked = struct.pack("<BxHI24x", kind, 1, len(extra) // 4) + extra
    data = unasked + configure_notify(77, 1024, 768)
    screen, position = ScreenSize(), 0
    screen.receive(setup_reply(640, 480, vendor=b"v" * 60_000))
    for cut in [*cuts, len(data)]:
        screen.receive(data[position : position + cut])
        position += cut
        assert len(screen._rest) < 32
    assert screen.size == (1024, 768)


def test_the_cookie_of_this_host_and_display_is_taken() -> None:
    data = (
        entry(256, b"elsewhere", b"1", NAME, b"1" * 16)
        + entry(256, b"here", b"2", NAME, b"2" * 16)
        + entry(256, b"here", b"1", b"XDM-AUTHORIZATION-1", b"3" * 16)
        + entry(256, b"here", b"1", NAME, b"4" * 16)
    )
    assert find_cookie(parse_authority(data), "here", 1) == b"4" * 16
    assert find_cookie(parse_authority(data), "here", 3) is None
    assert find_cookie(parse_authority(data), "renamed", 2) == b"2" * 16
    assert find_cookie([Cookie(65535, b"", b"", NAME, b"5" * 16)], "any", 9) == b"5" * 16


@given(st.binary(max_size=200))
def test_an_authority_file_of_any_content_is_read_or_refused(data: bytes) -> None:
    try:
        parse_authority(data)
    except ValueError as error:
        assert str(error) == "it is cut off"


def test_an_authority_file_has_to_be_its_servers_users(tmp_path: Path) -> None:
    path = tmp_path / "authority"
    path.write_bytes(entry(256, b"here", b"1", NAME, b"4" * 16))
    me = os.geteuid()
    assert read_authority(str(path), me) == [Cookie(256, b"here", b"1", NAME, b"4" * 16)]
    with pytest.raises(X11Error, match="belongs to another user"):
        read_authority(str(path), me + 1)
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ".", "/dev/null"):
        with pytest.raises(X11Error, match="is no regular file"):
            read_authority(str(tmp_path / name), me)
    for name in ("missing", "nul\0", "x" * 5000):
        with pytest.raises(X11Error, match="cannot be read"):
            read_authority(str(tmp_path / name), me)
    path.write_bytes(b"x")
    with pytest.raises(X11Error, match="is not well-formed"):
        read_authority(str(path), me)
    path.write_bytes(b"x" * (x11.MAX_AUTHORITY_BYTES + 1))
    with pytest.raises(X11Error, match="is over"):
        read_authority(str(path), me)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket where the agent looks for an X server."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "X7"))
        listener.listen()
        listener.settimeout(20)
        yield listener


def watch(*addresses: str, **more: Any) -> DisplayWatch:
    """Ask the server that this process is."""
    ours = {"is_server": os.getpid().__eq__, "owner": os.geteuid(), "authority": None}
    return DisplayWatch(7, addresses, **{**ours, "hostname": "here", **more})


def test_a_server_that_never_answers_is_not_waited_for(listener: socket.socket) -> None:
    asked = watch(listener.getsockname())
    asked.poll()
    assert asked.size is None
    server, _ = listener.accept()
    with server:
        assert server.recv(100) == x11.setup_request(None)
        server.sendall(setup_reply(300, 200))
        asked.poll()
        assert asked.size == (300, 200)
        assert len(server.recv(100)) == 24
    with pytest.raises(X11Error, match="closed the connection"):
        asked.poll()
    asked.close()


def test_a_server_that_sends_without_end_is_left(listener: socket.socket) -> None:
    asked = watch(listener.getsockname())
    server, _ = listener.accept()
    with server:
        server.sendall(setup_reply(300, 200))
        asked.poll()
        server.sendall(configure_notify(77, 800, 600) * 1000)
        asked.poll()
        assert asked.size == (800, 600)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                server.send(configure_notify(77, 1, 1) * 1000)
        with pytest.raises(Flood, match="more than an X server would"):
            asked.poll()
        assert asked.size == (800, 600)
    asked.close()


@pytest.mark.parametrize("other", [{"owner": os.geteuid() + 1}, {"is_server": lambda pid: False}])
def test_a_cookie_goes_to_no_other_server(
    listener: socket.socket, tmp_path: Path, other: dict[str, Any]
) -> None:
    needs_root()
    authority = tmp_path / "authority"
    authority.write_bytes(entry(256, b"here", b"7", NAME, b"c" * 16))
    os.chown(authority, other.get("owner", os.geteuid()), -1)
    with pytest.raises(X11Error, match="its socket belongs to another process"):
        watch(listener.getsockname(), authority=str(authority), **other)
    server, _ = listener.accept()
    with server:
        assert server.recv(100) == b""


def test_a_server_is_found_behind_the_socket_of_another(
    listener: socket.socket, tmp_path: Path
) -> None:
    address = str(tmp_path / "other")
    program = "import socket, sys; s = socket.socket(1); s.bind(sys.argv[1]); s.listen(); input()"
    with subprocess.Popen([sys.executable, "-c", program, address], stdin=subprocess.PIPE) as other:
        try:
            wait_for("the other's socket", lambda: _listens(address))
            watch(address, listener.getsockname()).close()
        finally:
            other.kill()


def _listens(address: str) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(address) == 0


def test_a_server_that_is_not_there_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(X11Error, match="its socket does not answer"):
        watch(str(tmp_path / "X8"))
