"""What a scan costs: 200 sessions among 2,000 processes, beside ``ps -eo pid,args`` on the same
machine in the same run.

The processes are real but tiny; one more process answers for all the X servers, which have their
sockets open, so that the agent holds a connection to each.
"""

from __future__ import annotations

import argparse
import os
import resource
import select
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from fastx_list.agent.keep import Agent
from fastx_list.agent.x11 import socket_path
from fastx_list.config import load
from fastx_list.store import open_store

FIRST_DISPLAY = 10_000
MAX_RATIO = 1.0  # of one ps, in CPU time
MAX_SHARE = 0.02  # of a core, at the default interval of one second


@contextmanager
def shells(
    directory: Path, name: str, displays: Mapping[str, socket.socket | None]
) -> Iterator[None]:
    """Run a shell by this ``name`` for each of ``displays``, which listens at its socket."""
    (directory / name).write_bytes(Path("/bin/sh").resolve().read_bytes())
    (directory / name).chmod(0o755)
    started = []
    try:
        for display, listener in displays.items():
            started.append(
                subprocess.Popen(
                    [directory / name, "-c", "read line", display, "-geometry", "800x600"],
                    stdin=subprocess.PIPE,
                    env={"LANG": "C"},
                    pass_fds=[] if listener is None else [listener.fileno()],
                    # The kernel takes who listens for the server
                    preexec_fn=None if listener is None else listener.listen,
                )
            )
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.communicate()


def answer_as_x_servers(directory: Path, sessions: int) -> None:
    """Run ``sessions`` shells by the name of an X server, and answer the connection's setup on the
    sockets of their displays until the standard input closes."""
    reply = struct.pack("<BxHHH", 1, 11, 0, 20) + struct.pack(
        "<IIIIHHBB10x", 1, 2, 3, 4, 0, 65535, 1, 0
    )
    reply += struct.pack("<IIIIIHH", 77, 1, 2, 3, 4, 800, 600) + b"\0" * 16
    poller = select.poll()
    listeners, clients = {}, {}
    paths = [socket_path(FIRST_DISPLAY + number) for number in range(sessions)]
    for path in paths:
        Path(path).unlink(missing_ok=True)  # of a run that was killed
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listeners[listener.fileno()] = listener
    servers = list(listeners.values())
    displays = {f":{FIRST_DISPLAY + number}": each for number, each in enumerate(servers)}
    try:
        with shells(directory, "Xtigervnc", displays):
            for listener in servers:
                poller.register(listener, select.POLLIN)
            poller.register(sys.stdin, select.POLLIN | select.POLLHUP)
            print("ready", flush=True)
            while True:
                for descriptor, _ in poller.poll():
                    if descriptor == sys.stdin.fileno():
                        return
                    if descriptor in listeners:
                        client, _ = listeners[descriptor].accept()
                        clients[client.fileno()] = client
                        poller.register(client, select.POLLIN)
                    elif clients[descriptor].recv(4096):
                        clients[descriptor].sendall(reply)
                        reply_to = clients[descriptor]
                        poller.unregister(reply_to)
    finally:
        for path in paths:
            os.unlink(path)


@contextmanager
def x_servers(directory: Path, sessions: int) -> Iterator[None]:
    Path("/tmp/.X11-unix").mkdir(mode=0o1777, exist_ok=True)
    command = [sys.executable, "-m", "tests.bench.scan", "--answer-as-x-servers", str(sessions)]
    command += ["--directory", str(directory)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        try:
            yield
        finally:
            process.communicate()


def cpu_of_ps() -> float:
    """Return the CPU time of one ``ps -eo pid,args``, in seconds."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["ps", "-eo", "pid,args"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sessions", type=int, default=200)
    parser.add_argument("--processes", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--profile", action="store_true", help="print where the time of the scans goes"
    )
    parser.add_argument("--answer-as-x-servers", type=int, metavar="N", help=argparse.SUPPRESS)
    parser.add_argument("--directory", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.answer_as_x_servers:
        answer_as_x_servers(arguments.directory, arguments.answer_as_x_servers)
        return 0
    others = arguments.processes - arguments.sessions
    with (
        tempfile.TemporaryDirectory() as name,
        x_servers(Path(name), arguments.sessions),
        shells(Path(name), "worker", dict.fromkeys(map(str, range(others)))),
    ):
        settings = load({"FASTX_LIST_STATE_DIR": f"{name}/state"})
        agent = Agent(settings, open_store(settings.store))
        found = agent.scan()
        assert found >= arguments.sessions, f"{found} sessions found"
        # The sessions' first ten seconds, in which the agent looks for their programs, are not what
        # is measured
        time.sleep(11)
        scans, listings = [], []
        if arguments.profile:
            import cProfile

            profile = cProfile.Profile()
            for _ in range(arguments.rounds):
                profile.runcall(agent.scan)
            profile.print_stats("tottime")
        for _ in range(arguments.rounds):
            began = time.process_time()
            agent.scan()
            scans.append(time.process_time() - began)
            listings.append(cpu_of_ps())
    scan, listing = statistics.median(scans), statistics.median(listings)
    print(
        f"{arguments.sessions} sessions among {arguments.processes} processes, {arguments.rounds}"
        " rounds, medians of CPU time"
    )
    print(
        f"one scan                {scan * 1000:7.2f} ms, {statistics.mean(scans):.2%} of a core at"
        " one scan a second"
    )
    print(f"one ps -eo pid,args     {listing * 1000:7.2f} ms")
    print(f"ratio                   {scan / listing:7.2f}    (target: at most {MAX_RATIO})")
    return 0 if scan / listing <= MAX_RATIO and statistics.mean(scans) <= MAX_SHARE else 1


if __name__ == "__main__":
    sys.exit(main())
