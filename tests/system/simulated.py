"""Programs that cannot be had from packages, as they look from outside: their names, their options,
and the sockets at which they wait."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.support import Processes, wait_for
from tests.system.servers import Account, is_listening

# Waits at unix sockets and TCP ports, and keeps what comes, or hands it on to another process
_PROGRAM = """import json, os, selectors, signal, socket
name, paths, ports, hand_to, take_at, later = json.loads(os.environ["SIMULATED"])
with open("/proc/self/comm", "w") as comm:
    comm.write(name)
waiting, kept = selectors.DefaultSelector(), []
def wait_at(path):
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen()
    waiting.register(server, selectors.EVENT_READ, path in take_at)
signal.signal(signal.SIGUSR1, lambda *_: [wait_at(path) for path in later])
for path in [*paths, *take_at]:
    wait_at(path)
for port in ports:
    server = socket.create_server(("127.0.0.1", port))
    waiting.register(server, selectors.EVENT_READ, False)
while True:
    for key, _ in waiting.select():
        client = key.fileobj.accept()[0]
        if key.data:
            kept += socket.recv_fds(client, 1, 1)[1]
            client.close()
        elif hand_to:
            with socket.socket(socket.AF_UNIX) as other:
                other.connect(hand_to)
                socket.send_fds(other, [b"x"], [client.fileno()])
            client.close()
        else:
            kept.append(client)"""


def simulate(
    processes: Processes,
    user: Account,
    name: str,
    *options: str,
    paths: Sequence[Path] = (),
    ports: Sequence[int] = (),
    hand_to: Path | None = None,
    take_at: Path | None = None,
    later: Sequence[Path] = (),
    **environ: str,
) -> subprocess.Popen[bytes]:
    """Start something of this ``name``, with these ``options``, that waits at unix sockets at
    ``paths`` and at TCP ``ports``. It hands connections to who waits for them at ``hand_to``, or is
    handed them at ``take_at``. At ``later`` it waits from SIGUSR1 on."""
    told = json.dumps(
        [
            name,
            list(map(str, paths)),
            list(ports),
            str(hand_to or ""),
            [str(take_at)] if take_at else [],
            list(map(str, later)),
        ]
    )
    argv = ["/usr/bin/python3", "-c", _PROGRAM, *options]
    server = user.start(processes, argv, name, SIMULATED=told, **environ)
    for path in (*paths, *filter(None, [take_at])):
        wait_for("its socket", path.exists)
    for port in ports:
        wait_for("its port", partial(is_listening, port))
    return server


def x_socket(display: int) -> Path:
    """Return the path of the X socket of ``display``; everybody can make it."""
    directory = Path("/tmp/.X11-unix")
    if not directory.exists():
        directory.mkdir()
        directory.chmod(0o1777)
    return directory / f"X{display}"
