"""Gives the package the clock, the random names and the database module of a history."""

from __future__ import annotations

import logging
import secrets
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from fastx_list import state
from fastx_list.agent import clock as agent_clock
from fastx_list.agent import keep, keeper, load, look
from fastx_list.agent.machine import Machine
from fastx_list.config import Settings
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Start
from fastx_list.store import ServerRecord, sqlite, sqlite_file, sqlite_harm, sqlite_leases
from fastx_list.store.records import Records
from tests.simulation import disk
from tests.simulation.clock import clock

# What the package keeps, and for how many seconds, so that a short history sees the end of it
KNOBS = {
    "KEEP_ENDS_SECONDS": 40,
    "REMEMBER_SECONDS": 4000,
    "MAX_CHANGES": 60,
    "AT_ONCE": 3,
    "CATCH_UP_SECONDS": 0.0,
    "BUSY_SECONDS": 0.0,  # nobody else runs while one waits
    "ROOM_SHARE": 0.0,
}


names: dict[str, str] = {}  # of the agents and of their state directories, by server
_START = Start()
unexpected: list[str] = []  # what the package logged as a mistake of its own


class Mistakes(logging.Handler):
    """Keeps what no code of the package has thought of."""

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and not isinstance(record.exc_info[1], Blind):
            unexpected.append(logging.Formatter().format(record))


class Blind(Exception):
    """A source does not see anything now."""


class StillMachine(Machine):
    """A machine whose processes and sockets nobody lists: what runs is what the script says."""

    own_network: Any = SimpleNamespace(signs=None)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.meter: Any = SimpleNamespace(go_on=lambda machine: None)

    def report_sockets(self) -> None:
        pass

    def look(self) -> None:
        self.claimed, self.unanswered, self.problems = set(), set(), {}
        self.booted = agent_clock.clock.read()
        self.last_look = clock.time()


class NoFile:
    """The file ``session.json``, which is not there."""

    def __init__(self, path: Path) -> None:
        pass

    def read(self, machine: Machine) -> Start:
        return _START


_unlocked = nullcontext()
_UPTIME = 987654321
MOST_SERVERS = 10_000  # that are kept in mind
_around_uptime: dict[object, list[str]] = {}  # the JSON of servers without that number


def _encode_server(server: Server) -> str:
    """Do what :func:`encode_server` does, of servers that differ in their uptime alone once."""
    key = tuple(value for name, value in vars(server).items() if name != "uptime")
    around = _around_uptime.get(key)
    if around is None:
        around = encode_server(replace(server, uptime=_UPTIME)).split(str(_UPTIME))
        if len(_around_uptime) < MOST_SERVERS:
            _around_uptime[key] = around
    return str(server.uptime).join(around)


@lru_cache(1000)
def _server_records(name: object, text: object) -> list[ServerRecord]:
    return list(Records("the simulation").server(name, text))


class SharedRecords(Records):
    """Decodes a server once for all readers."""

    def server(self, name: object, text: object) -> Iterator[ServerRecord]:
        return iter(_server_records(name, text))


class _Overlaid:
    """A module with some of its names replaced."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self.__dict__.update({**vars(module), **names})


def _name(settings: Settings) -> str:
    return names[settings.server_id]


@contextmanager
def simulated() -> Iterator[None]:
    """Give the package this clock, these names and this database module, and give it its own back
    in the end."""
    times: dict[str, Callable[..., Any]] = {
        name: getattr(clock, name) for name in ("monotonic", "time", "sleep", "clock_gettime")
    }
    replaced = {
        "time": (time, _Overlaid(time, perf_counter=clock.monotonic, **times)),
        "secrets": (
            secrets,
            _Overlaid(secrets, token_hex=clock.name, token_bytes=clock.random_bytes),
        ),
        "sqlite3": (sqlite3, _Overlaid(sqlite3, connect=disk.connect)),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.partition(".")[0] == "fastx_list":
                for attribute, (real, ours) in replaced.items():
                    if getattr(module, attribute, None) is real:
                        patch.setattr(module, attribute, ours)
                for knob, value in KNOBS.items():
                    if hasattr(module, knob):
                        patch.setattr(module, knob, value)
        # Collecting garbage at each write takes longer than all else
        patch.setattr(keeper, "gc", SimpleNamespace(collect=lambda: 0, freeze=lambda: None))
        patch.setattr(load, "_measured", lambda measure: None)
        patch.setattr(keep, "SessionJson", NoFile)
        patch.setattr(keeper, "fingerprint", lambda settings, holder: "settings")
        patch.setattr(look, "Machine", StillMachine)
        patch.setattr(look, "explain_unclaimed", lambda machine: None)
        # In whose hands the file is, and who mends it, is for other tests
        patch.setattr(sqlite_file, "_check", lambda file: None)
        patch.setattr(state, "owner_of", lambda directory: None)
        patch.setattr(sqlite_harm, "locked", lambda directory, how: _unlocked)
        patch.setattr(sqlite_harm, "identity", disk.identity)
        # What is decoded and encoded again and again
        patch.setattr(sqlite, "Records", SharedRecords)
        patch.setattr(sqlite, "encode_server", _encode_server)
        patch.setattr(sqlite_leases, "boot", lambda: f"boot {clock.boot}")
        patch.setattr(keeper, "identity", SimpleNamespace(read=_name, place=_name))
        logger, handler = logging.getLogger("fastx_list"), Mistakes()
        patch.setattr(logger, "level", logging.ERROR)
        patch.setattr(logger, "propagate", False)
        logger.manager._clear_cache()  # type: ignore[attr-defined]
        logger.addHandler(handler)
        try:
            yield
        finally:
            logger.removeHandler(handler)
            logger.manager._clear_cache()  # type: ignore[attr-defined]
