"""Who connects to a session and says nothing, or hardly anything."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from fastx_list.agent.sockets import Sockets
from tests.hostile.conftest import Seen
from tests.support import Processes, Service, end, wait_for
from tests.system.sessions import User, Viewer, resize, start_vnc

VERSION = b"RFB 003.008\n"


def _listens(port: int) -> bool:
    return bool(Sockets().tcp_listeners().get(port))


@contextmanager
def probes(port: int, *sent: bytes) -> Iterator[None]:
    """Hold a connection to ``port`` for each of the texts ``sent``, once all have been accepted and
    have arrived."""
    wait_for("its port", lambda: _listens(port))
    with ExitStack() as stack:
        for text in sent:
            probe = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            assert probe.recv(12) == VERSION
            probe.sendall(text)

        def arrived() -> bool:
            sockets = Sockets()
            return all(
                len(sockets.tcp_clients(port, least) or ())
                == sum(len(text) >= least for text in sent)
                for least in (0, *map(len, sent))
            )

        wait_for("the probes", arrived)
        yield


def test_a_probe_is_no_client_and_moves_no_date(
    users: list[User], service: Service, processes: Processes
) -> None:
    vnc = start_vnc(processes, users[0])
    service.start_agent()

    def session() -> dict[str, Any] | None:
        found = service.stored(users[0].login)
        return found[0] if len(found) == 1 else None

    wait_for("the session", lambda: (found := session()) and found["geometry"] == "1000x700")
    with probes(vnc.port, b"", b"", VERSION, VERSION + b"\x01"):
        # What comes after them is seen, so they have been looked at
        resize(vnc, "800x600")
        found = wait_for(
            "a look", lambda: (found := session()) and found["geometry"] == "800x600" and found
        )
        assert (found["clients"], found["lastConnect"]) == (0, None)
        window = Viewer(processes).connect(f"127.0.0.1::{vnc.port}")
        found = wait_for("the client", lambda: (found := session()) and found["clients"] and found)
        assert found["clients"] == 1 and found["lastConnect"] is not None
        end(window)
        wait_for("its leaving", lambda: (found := session()) and found["clients"] == 0)


def test_a_client_counts_from_the_first_look_at_what_it_says(
    users: list[User], processes: Processes, seen: Seen
) -> None:
    vnc = start_vnc(processes, users[0])
    pid = vnc.process.pid
    wait_for("the session", lambda: pid in seen(vnc.display))
    with socket.create_connection(("127.0.0.1", vnc.port)) as client:
        assert client.recv(12) == VERSION
        client.sendall(VERSION)
        assert client.recv(2) == b"\x01\x01"
        assert seen(vnc.display)[pid].clients == 0
        client.sendall(b"\x01")  # no password
        assert client.recv(4) == bytes(4)
        assert seen(vnc.display)[pid].clients == 0
        client.sendall(b"\x01")  # beside others
        assert len(client.recv(24)) == 24
        assert seen(vnc.display)[pid].clients == 1
    wait_for("its leaving", lambda: seen(vnc.display)[pid].clients == 0)


def test_a_crowd_of_probes_hides_no_client(
    users: list[User], processes: Processes, seen: Seen
) -> None:
    vnc = start_vnc(processes, users[0], "-BlacklistThreshold", "1000")
    with probes(vnc.port, *[b""] * 100):
        assert seen(vnc.display)[vnc.process.pid].clients == 0
        Viewer(processes).connect(f"127.0.0.1::{vnc.port}")
        wait_for("the client", lambda: seen(vnc.display)[vnc.process.pid].clients == 1)
