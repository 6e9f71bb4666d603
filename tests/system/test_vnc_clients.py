"""Who is connected to a VNC server: viewers that it has called, and what inetd(8) hands to it."""

from __future__ import annotations

import os
import socket
import subprocess

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.servers import SECONDS, Account, Desk, is_listening, listed, spare_display
from tests.system.sessions import start_vnc


def test_a_viewer_that_the_server_calls_is_a_client(
    watched: Service, processes: Processes, desk: Desk, users: list[Account]
) -> None:
    user, port = users[0], free_port()
    vnc = start_vnc(processes, user)
    listed(watched, user, clients=0)
    viewer = processes.start(
        [program("xtigervncviewer", "tigervnc-viewer"), "-listen", str(port)],
        "viewer",
        {**os.environ, "DISPLAY": f":{desk.display}", "HOME": "/nonexistent"},
    )
    wait_for("the viewer", lambda: is_listening(port))
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        # What others of the user's programs are connected to is no client
        other = user.start(
            processes,
            ["bash", "-c", f"exec 3<>/dev/tcp/127.0.0.1/{elsewhere.getsockname()[1]}; sleep 600"],
            "other",
        )
        connection, _ = elsewhere.accept()
        connection.send(bytes(20))
        call = [program("tigervncconfig", "tigervnc-standalone-server"), "-connect"]
        user.run([*call, f"127.0.0.1:{port}"], **vnc.environ)
        session = listed(watched, user, clients=1)
        assert session["lastConnect"] is not None
        end(viewer)
        assert listed(watched, user, clients=0)["lastDisconnect"] is not None
        connection.close()
    end(other)


def _start_by_inetd(
    processes: Processes, user: Account, display: int, handed: socket.socket
) -> subprocess.Popen[bytes]:
    """Start a VNC server as inetd(8) does."""
    options = [f":{display}", "-SecurityTypes", "None", "-inetd"]
    uid, gid = user.ids
    return processes.add(
        subprocess.Popen(
            [program("Xtigervnc", "tigervnc-standalone-server"), *options],
            env=user.environ(),
            stdin=handed.fileno(),
            stdout=handed.fileno(),
            stderr=subprocess.DEVNULL,
            user=uid,
            group=gid,
            extra_groups=[],
        )
    )


def _say_hello(client: socket.socket) -> None:
    """Go on as a viewer does until the server asks for nothing more, RFC 6143, section 7.1."""
    client.settimeout(SECONDS)
    assert client.recv(12) == b"RFB 003.008\n"
    client.send(b"RFB 003.008\n")
    assert client.recv(2) == b"\1\1"  # one security type: none
    client.send(b"\1\1")


def test_the_one_client_of_a_server_that_inetd_has_started_is_its_client(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user = users[1]
    with socket.create_server(("127.0.0.1", 0)) as inetd:
        with socket.create_connection(inetd.getsockname()) as client:
            accepted, _ = inetd.accept()
            with accepted:
                _start_by_inetd(processes, user, spare_display(), accepted)
            listed(watched, user, clients=0)  # a probe would be as silent
            _say_hello(client)
            listed(watched, user, clients=1)


def test_a_server_that_inetd_gave_a_listening_socket_has_as_many_clients_as_are_connected(
    watched: Service, processes: Processes, users: list[Account]
) -> None:
    user = users[2]
    with socket.create_server(("127.0.0.1", 0)) as inetd:
        address = inetd.getsockname()
        _start_by_inetd(processes, user, spare_display(), inetd)
    listed(watched, user, clients=0)
    with socket.create_connection(address) as one, socket.create_connection(address) as two:
        _say_hello(one)
        listed(watched, user, clients=1)
        _say_hello(two)
        listed(watched, user, clients=2)
    listed(watched, user, clients=0)
