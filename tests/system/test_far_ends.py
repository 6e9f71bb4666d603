"""Where clients come from, of two machines of their own: directly, and through relays on ours."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.support import Processes, Service, end, free_port, program, wait_for
from tests.system.elsewhere import Other, Ssh
from tests.system.servers import SECONDS, Account, is_listening, listed
from tests.system.sessions import start_vnc

# Goes on as a viewer does until the server asks for nothing more, RFC 6143, section 7.1
HELLO = """
from time import sleep
def hello(receive, send):
    assert receive() == b"RFB 003.008\\n"
    send(b"RFB 003.008\\n")
    receive()
    send(b"\\1\\1")
    sleep(600)
"""
DIRECT = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])))
hello(lambda: connection.recv(99), connection.send)"""
BY_WEBSOCKET = """
import sys
from websockets.sync.client import connect
with connect(f"ws://{sys.argv[1]}:{sys.argv[2]}", subprotocols=["binary"]) as connection:
    hello(connection.recv, connection.send)"""
BY_COMMAND = """
import os, subprocess, sys
relay = subprocess.Popen(sys.argv[1:], stdin=-1, stdout=-1)
hello(lambda: os.read(relay.stdout.fileno(), 99), lambda data: os.write(relay.stdin.fileno(), data))
"""
# As guacd 1.6 does (guacd/proc.c, connection.c): it forks for each connection, which each child has
# open as well from then on, and copies to and fro between that and what it shares with the child
GUACD = """
import os, socket, sys
from threading import Thread
def copy(one, other):
    try:
        while data := one.recv(4096):
            other.sendall(data)
    finally:
        other.shutdown(socket.SHUT_WR)
def relay(one, other):
    threads = [Thread(target=copy, args=each) for each in ((one, other), (other, one))]
    for thread in threads:
        thread.start()
    return threads
def call(name):
    with open("/proc/self/comm", "w") as comm:
        comm.write(name)
call("guacd")
server, kept = socket.create_server(("", int(sys.argv[1]))), []
while True:
    kept.append(server.accept()[0])
    ours, theirs = socket.socketpair()
    if not os.fork():
        call("vnc")
        ours.close()
        viewer = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
        [thread.join() for thread in relay(theirs, viewer)]
        os._exit(0)
    theirs.close()
    relay(kept[-1], ours)
"""


@pytest.fixture
def start(processes: Processes) -> Callable[..., subprocess.Popen[bytes]]:
    """Starts a script at another machine."""

    def start(other: Other, script: str, *arguments: object) -> subprocess.Popen[bytes]:
        command = [*other.enter, sys.executable, "-c", HELLO + script, *map(str, arguments)]
        return processes.start(command, f"client-{other.address}")

    return start


def test_clients_come_from_their_own_machines_also_through_relays(
    watched: Service,
    users: list[Account],
    others: list[Other],
    ssh: Ssh,
    processes: Processes,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    one, two = others
    user, web_port = users[0], free_port()
    vnc = start_vnc(processes, user, "-localhost=0")
    websockify = program("websockify", "websockify")
    processes.start([websockify, str(web_port), f"127.0.0.1:{vnc.port}"], "websockify")
    wait_for("websockify", lambda: is_listening(web_port), SECONDS)
    listed(watched, user, clients=0, clientAddresses=[])

    first = start(one, DIRECT, one.here, vnc.port)
    listed(watched, user, clients=1, clientAddresses=[one.address])
    second = start(two, BY_WEBSOCKET, two.here, web_port)
    listed(watched, user, clients=2, clientAddresses=[one.address, two.address])
    third = start(one, BY_WEBSOCKET, one.here, web_port)
    listed(watched, user, clients=3, clientAddresses=[one.address, two.address])
    for client in (first, second, third):
        end(client)
    listed(watched, user, clients=0, clientAddresses=[])

    through = [*ssh.command, "-p", ssh.port, "-W", f"127.0.0.1:{vnc.port}", f"root@{two.here}"]
    tunnel = start(two, BY_COMMAND, *through)
    listed(watched, user, clients=1, clientAddresses=[two.address])
    here = processes.start(
        [sys.executable, "-c", HELLO + DIRECT, "127.0.0.1", str(vnc.port)], "here"
    )
    listed(watched, user, clients=2, clientAddresses=["127.0.0.1", two.address])
    told = watched.run("ls", "--login", user.login).stdout
    assert re.search(rf"127\.0\.0\.1 {re.escape(two.address)}", told), told
    for client in (tunnel, here):
        end(client)


def test_who_comes_through_a_simulated_guacd_is_a_client_from_where_they_are(
    watched: Service,
    users: list[Account],
    others: list[Other],
    processes: Processes,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    one, two = others
    user, port = users[1], free_port()
    vnc = start_vnc(processes, user)
    guacd = ["/usr/bin/python3", "-c", GUACD, str(port), str(vnc.port)]
    # It runs as another user and speaks RFB over TCP, as any viewer
    processes.start(guacd, "guacd", user="daemon", group="daemon", extra_groups=[])
    wait_for("guacd", lambda: is_listening(port), SECONDS)
    first = start(one, DIRECT, one.here, port)
    listed(watched, user, clients=1, clientAddresses=[one.address])
    second = start(two, DIRECT, two.here, port)
    listed(watched, user, clients=2, clientAddresses=[one.address, two.address])
    end(first)
    listed(watched, user, clients=1, clientAddresses=[two.address])
    end(second)
    listed(watched, user, clients=0, clientAddresses=[])
