"""Where events are delivered to: the journal, a file, and a webhook."""

from __future__ import annotations

import base64
import fcntl
import hmac
import http.client
import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import click

from fastx_list import state
from fastx_list.api.metrics import DELIVERED_COUNTS, DELIVERED_FILE, counts_of
from fastx_list.config import PREFIX, ConfigError, Settings, SettingsError
from fastx_list.model.event import Event, encode_event
from fastx_list.store import StoreError
from fastx_list.store.archive import Archive

AT_ONCE = 100  # events
POLL_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 300.0  # seconds after a failure
ANSWER_SECONDS = 10.0  # that a webhook has for each event
MAX_LINE = 64 * 1024  # bytes at the end of a file that are looked at

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Takes events. What it has taken it never gets again, unless it says that it has not."""

    name: str  # for people, and for the file with the places

    def last(self) -> str | None:
        """Return the id of the last event that is there, if that can be seen."""

    def send(self, events: Sequence[Event]) -> int:
        """Take ``events``, and return how many of them were taken. Raises ``OSError``."""


class Journal:
    """Standard output, which systemd takes to the journal."""

    name = "journal"

    def last(self) -> str | None:
        return None

    def send(self, events: Sequence[Event]) -> int:
        for event in events:
            click.echo(encode_event(event))
        return len(events)


class File:
    """A file, to which lines are added. It may be renamed at any time, as logrotate(8) does."""

    def __init__(self, path: Path) -> None:
        self.name = f"file {path}"
        self._path = path

    def last(self) -> str | None:
        """See :meth:`Sink.last`; what a power failure has left of a line is cut off."""
        with (
            suppress(FileNotFoundError),
            open(state.open_own(self._path, os.O_RDWR), "r+b") as file,
        ):
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - MAX_LINE))
            tail = file.read()
            whole = tail[: tail.rfind(b"\n") + 1]
            file.truncate(size - len(tail) + len(whole))
            with suppress(ValueError, IndexError, TypeError, KeyError):
                return str(json.loads(whole.splitlines()[-1])["id"])
        return None

    def send(self, events: Sequence[Event]) -> int:
        lines = "".join(f"{encode_event(event)}\n" for event in events).encode()
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND
        with open(state.open_own(self._path, flags, 0o640), "ab") as file:
            start = file.tell()
            try:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            except OSError:  # a full disk takes half of it
                with suppress(OSError):
                    file.truncate(start)
                raise
        return len(events)


class Webhook:
    """An address that each event is posted to, signed as the Standard Webhooks specification has it
    (https://www.standardwebhooks.com)."""

    def __init__(self, url: str, secret: str) -> None:
        parts = urlsplit(url)
        self.name = f"webhook at {parts.hostname}"  # the rest may be secret
        self._is_tls, self._host, self._port = parts.scheme == "https", parts.hostname, parts.port
        self._path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._key = secret.encode()

    def last(self) -> str | None:
        return None

    def send(self, events: Sequence[Event]) -> int:
        kind = http.client.HTTPSConnection if self._is_tls else http.client.HTTPConnection
        connection = kind(str(self._host), self._port, timeout=ANSWER_SECONDS)
        taken = 0
        until = time.monotonic() + ANSWER_SECONDS  # then it is others' turn
        try:
            for event in events:
                body = encode_event(event).encode()
                if connection.sock is None:
                    connection.connect()
                with _cut_when_late(connection.sock):
                    connection.request("POST", self._path, body, self._headers(event, body))
                    answer = connection.getresponse()
                    answer.read(MAX_LINE)
                if not 200 <= answer.status < 300:
                    if taken:
                        break
                    raise OSError(f"it answered with {answer.status}")
                taken += 1
                if time.monotonic() > until:
                    break
                if answer.will_close or not answer.isclosed():
                    connection.close()
        except http.client.HTTPException as error:
            if not taken:
                raise OSError(f"it answered with no HTTP: {type(error).__name__}") from None
        except OSError:
            if not taken:
                raise
        finally:
            connection.close()
        return taken

    def _headers(self, event: Event, body: bytes) -> dict[str, str]:
        now = str(int(time.time()))
        signed = b".".join((event.id.encode(), now.encode(), body))
        signature = base64.b64encode(hmac.digest(self._key, signed, "sha256")).decode()
        return {
            "Content-Type": "application/json",
            "User-Agent": "fastx-list",
            "webhook-id": event.id,
            "webhook-timestamp": now,
            "webhook-signature": f"v1,{signature}",
        }


@contextmanager
def _cut_when_late(connection: socket.socket) -> Iterator[None]:
    """End ``connection`` when the block takes longer than an answer may: its own timeout begins
    anew with each byte."""

    def cut() -> None:
        with suppress(OSError):
            # That of TLS is no longer usable by who waits in it
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    timer = threading.Timer(ANSWER_SECONDS, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def sinks_of(settings: Settings) -> list[Sink]:
    """Return where ``settings`` say that events go. Raises :class:`SettingsError`."""
    sinks: list[Sink] = []
    if settings.events == "journal":
        sinks.append(Journal())
    elif settings.events is not None:
        sinks.append(File(Path(settings.events)))
    if settings.webhook is not None:
        if settings.webhook_secret is None:
            raise SettingsError(f"{PREFIX}WEBHOOK needs {PREFIX}WEBHOOK_SECRET, to sign with")
        sinks.append(Webhook(settings.webhook, settings.webhook_secret))
    return sinks


class Deliverer:
    """Sends events on. Up to where each sink has them is in a file of the state directory."""

    def __init__(self, settings: Settings, archive: Archive, sinks: Sequence[Sink]) -> None:
        self._file = settings.state_dir / DELIVERED_FILE
        self._archive = archive
        self._sinks = sinks
        # Held by the one that delivers
        self._lock = -1
        # By the names of the sinks: the last event that they have; "": none
        self._places: dict[str, str] = {}
        # By the kinds of the sinks: how many events were taken, and how often none was
        self._counts: dict[str, list[int]] = {}
        # When each is tried again, by the monotonic clock, and the pause after the next failure
        self._next: dict[str, float] = {}
        self._pauses: dict[str, float] = {}

    def __enter__(self) -> Deliverer:
        state.make_directory(self._file.parent)
        with state.working_as(state.owner_of(self._file.parent)):
            lock = f"{self._file}.lock"
            flags = os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(lock, flags, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise ConfigError(f"events are delivered already: {lock} is locked") from None
        with suppress(OSError, ValueError, AttributeError, TypeError):
            found = json.loads(state.read_own(self._file)[0])
            self._counts = counts_of(found.pop(DELIVERED_COUNTS, None))
            self._places = {str(name): str(place) for name, place in found.items()}
        for sink in self._sinks:
            with suppress(OSError):
                if (last := sink.last()) is not None:
                    self._places[sink.name] = last
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._lock)

    def turn(self) -> float:
        """Deliver what there is to; return in how many seconds to do so again."""
        is_done = True
        for sink in self._sinks:
            if time.monotonic() < self._next.get(sink.name, 0.0):
                continue
            try:
                is_done = self._deliver(sink) and is_done
            except (OSError, StoreError) as error:
                self._wait(sink, error)
            else:
                if self._pauses.pop(sink.name, None) is not None:
                    log.warning("the %s takes events again", sink.name)
        return POLL_SECONDS if is_done else 0.0

    def _wait(self, sink: Sink, error: Exception) -> None:
        pause = self._pauses.get(sink.name)
        if pause is None:
            log.error("the %s takes no events: %s; will try again", sink.name, error)
        pause = FIRST_PAUSE if pause is None else min(2 * pause, LONGEST_PAUSE)
        self._pauses[sink.name] = pause
        self._next[sink.name] = time.monotonic() + pause
        with suppress(OSError):
            self._count(sink, failures=1)

    def _deliver(self, sink: Sink) -> bool:
        """Send some of what ``sink`` has not yet; return whether that was all."""
        place = self._places.get(sink.name)
        if place is None:  # it begins with what happens from now on
            self._keep(sink, self._archive.last_event() or "")
            return True
        found = self._archive.events(place or None, AT_ONCE)
        if found.has_gap:
            log.error("not all events are kept that the %s has not had", sink.name)
        if not found.events:
            if found.has_gap:
                self._keep(sink, self._archive.last_event() or "")
            return True
        taken = sink.send(found.events)
        self._places[sink.name] = found.events[taken - 1].id
        self._count(sink, taken)
        return False

    def _count(self, sink: Sink, taken: int = 0, failures: int = 0) -> None:
        counts = self._counts.setdefault(sink.name.partition(" ")[0], [0, 0])
        counts[0] += taken
        counts[1] += failures
        self._write()

    def _keep(self, sink: Sink, place: str) -> None:
        self._places[sink.name] = place
        self._write()

    def _write(self) -> None:
        state.replace(self._file, json.dumps({**self._places, DELIVERED_COUNTS: self._counts}))
