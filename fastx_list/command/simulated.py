"""Simulated machines for a first look as an administrator: several logins, kinds, clients and
loads, and a past. They are written to the store as agents write. Ids of machines and sessions say
that they are simulated."""

from __future__ import annotations

import logging
import os
import random
import threading
import time
from contextlib import closing
from dataclasses import replace

from fastx_list.config import Settings
from fastx_list.model.server import Server
from fastx_list.model.session import Session
from fastx_list.store import Lease, Store, StoreError, open_store

LOGINS = ("alice", "bob", "carol", "dave")
MACHINES = ("node7", "node8", "node9")
PER_MACHINE = 4
ENDED = 2  # of each machine, which only history tells of
STEP_SECONDS = 2.0
LEASE_SECONDS = 20.0
GONE_SECONDS = 1.0  # until a machine has left that is told of for the last time
_KINDS = (
    ("xrdp", "GNOME desktop", "desktop", "gnome-session"),
    ("tigervnc", "XFCE desktop", "desktop", "startxfce4"),
    ("xpra", "ParaView", "rootless", "paraview"),
    ("x2go", "MATLAB", "rootless", "matlab -desktop"),
)
_GIB = 2**30

log = logging.getLogger(__name__)


class Machines:
    """Writes what the agents of a few simulated machines would, until it is stopped."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._random = random.Random()  # decides what happens next
        self._sessions: dict[str, dict[str, Session]] = {}  # of each machine, by id
        self._stop = threading.Event()  # set when the thread is to end
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin; whatever keeps it from writing is logged."""
        self._thread.start()

    def stop(self) -> None:
        """End all of it."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        try:
            with closing(open_store(self._settings.store, keep=self._settings.keep)) as store:
                for number, machine in enumerate(MACHINES):
                    self._begin(store, machine, number)
                while not self._stop.wait(STEP_SECONDS):
                    for machine in MACHINES:
                        self._step(machine)
                        self._write(store, machine, LEASE_SECONDS)
                for machine in MACHINES:
                    self._sessions[machine].clear()
                    self._write(store, machine, GONE_SECONDS)
        except StoreError as error:
            log.error("the simulated machines cannot be written: %s", error)

    def _begin(self, store: Store, machine: str, number: int) -> None:
        count = PER_MACHINE + ENDED
        every = [self._new(machine, number * count + index) for index in range(count)]
        self._sessions[machine] = {each.id: each for each in every}
        self._write(store, machine, LEASE_SECONDS)
        for each in every[:ENDED]:
            del self._sessions[machine][each.id]

    def _new(self, machine: str, number: int) -> Session:
        kind, name, mode, command = _KINDS[number % len(_KINDS)]
        now = round(time.time() * 1000)
        started = now - 3_600_000 * (number + 1) ** 2
        clients = number % 3
        return Session(
            id=f"simulated-{os.getpid()}-{machine}-{number}",
            server_id=f"simulated-{machine}",
            hostname=machine,
            login=LOGINS[number % len(LOGINS)],
            display=10 + number,
            geometry="1920x1080" if mode == "desktop" else None,
            window_mode=mode,
            command=command,
            started=started,
            clients=clients,
            client_addresses=_addresses(clients),
            last_connect=now - 60_000 * number,
            last_disconnect=None if clients else now - 30_000 * number,
            kind=kind,
            cpu=number * 7 % 90,
            memory=(number + 1) * _GIB // 3,
            params={"name": name},
        )

    def _step(self, machine: str) -> None:
        sessions, now = self._sessions[machine], round(time.time() * 1000)
        each = self._random.choice(list(sessions.values()))
        clients = self._random.randrange(3)
        came, left = clients > (each.clients or 0), clients < (each.clients or 0)
        sessions[each.id] = replace(
            each,
            clients=clients,
            client_addresses=_addresses(clients),
            last_connect=now if came else each.last_connect,
            last_disconnect=now if left else each.last_disconnect,
            cpu=self._random.randrange(95),
        )

    def _write(self, store: Store, machine: str, seconds: float) -> None:
        name, sessions = f"simulated-{machine}", self._sessions[machine]
        lease = Lease(f"{name}-{os.getpid()}", str(os.getpid()), machine, seconds)
        store.observe(name, sessions, lease)
        load = sum(each.cpu or 0 for each in sessions.values())
        store.heartbeat(
            Server(
                name,
                machine,
                pool="simulated",
                cpu=min(100.0, load / PER_MACHINE),
                free_memory=64 * _GIB - sum(each.memory or 0 for each in sessions.values()),
                total_memory=64 * _GIB,
                logged_in_users=len({each.login for each in sessions.values()}),
                sessions=len(sessions),
                uptime=86_400 * 37,
                load=(load / 100, load / 120, load / 150),
            ),
            lease,
        )


def _addresses(clients: int) -> tuple[str, ...]:
    return tuple(f"192.0.2.{10 + number}" for number in range(clients))  # RFC 5737
