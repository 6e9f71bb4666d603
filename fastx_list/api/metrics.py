"""``/metrics``: what Prometheus scrapes, from this machine alone.

All of it is what every worker knows alike: what the store says, and what all workers count
together. So it does not matter which of them answers. No login stands in it.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from flask import Blueprint, Response, current_app, request

from fastx_list import state
from fastx_list.api.addresses import METRICS
from fastx_list.api.counters import SECONDS, counters
from fastx_list.api.proxies import asks_directly
from fastx_list.api.services import Services, services
from fastx_list.errors import NotFound
from fastx_list.replica.topics import Everything
from fastx_list.store import StoreError

if TYPE_CHECKING:
    from prometheus_client import Metric

blueprint = Blueprint("metrics", __name__)

SINKS = ("journal", "file", "webhook")
DELIVERED_FILE = "events-delivered"  # in the state directory
DELIVERED_COUNTS = "counts"  # what stands there beside the places of those that events go to
_COUNTED = "fastx-list-metrics"  # what was counted last, among the application's extensions


@blueprint.get(METRICS)
def metrics() -> Response:
    """Answer in Prometheus's text format, if it is asked from where the settings allow and not
    through a proxy; to all others there is nothing here."""
    service = services()
    if not asks_directly(request, service.settings.metrics_from):
        raise NotFound
    try:
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.exposition import CONTENT_TYPE_LATEST
    except ImportError:
        raise NotFound("metrics need: pip install 'fastx-list[metrics]'") from None
    service.refresh()
    of_this = _of_the_sidecar if service.follows else _of_the_store
    families = [*_of_the_copy(service), *of_this(service), *_of_the_requests()]

    class Once:
        def collect(self) -> Iterator[Metric]:
            yield from families

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Once())
    return Response(
        generate_latest(registry),
        headers={"Cache-Control": "no-store"},
        content_type=CONTENT_TYPE_LATEST,
    )


def _of_the_store(service: Services) -> Iterator[Metric]:
    """Yield what the list knows: sessions, clients and servers."""
    from prometheus_client.core import GaugeMetricFamily

    sessions, clients = _counted(service)
    by_kind = GaugeMetricFamily(
        "fastx_list_sessions",
        "Sessions that run, by server, kind and whether clients are connected.",
        labels=("server", "kind", "state"),
    )
    for labels, number in sorted(sessions.items()):
        by_kind.add_metric(labels, number)
    yield by_kind
    silent = frozenset(service.store.overdue)
    renewed, now = service.store.renewed, time.monotonic()
    per_server = {
        name: GaugeMetricFamily(f"fastx_list_{name}", text, labels=("server",))
        for name, text in (
            ("clients", "Clients that are connected."),
            ("agent_problems", "What keeps the agent from seeing all, as far as it knows."),
            ("agent_beat_age_seconds", "How long ago the agent renewed its lease."),
            ("agent_silent", "1 if the agent has outlived its lease and that cannot be ended."),
            ("agent_last_look_timestamp_seconds", "When the agent had looked, as it last told."),
            ("agent_look_seconds", "How long that look took."),
        )
    }
    for name, entry in sorted(service.replica.entries(Everything.SERVERS).items()):
        members = json.loads(entry.text)
        per_server["clients"].add_metric((name,), clients[name])
        per_server["agent_problems"].add_metric((name,), len(members.get("problems") or ()))
        if members.get("lastLook") is not None:
            looked = members["lastLook"] / 1000
            per_server["agent_last_look_timestamp_seconds"].add_metric((name,), looked)
        if members.get("lookSeconds") is not None:
            per_server["agent_look_seconds"].add_metric((name,), members["lookSeconds"])
        per_server["agent_silent"].add_metric((name,), name in silent)
        if name in renewed:
            per_server["agent_beat_age_seconds"].add_metric((name,), now - renewed[name])
    yield from per_server.values()
    yield from _of_the_events(service)


def counts_of(found: object) -> dict[str, list[int]]:
    """Return by the kinds of those that events go to how many they have taken, and how often they
    took none; what is neither is left out."""
    members = found.items() if isinstance(found, dict) else ()
    return {
        str(kind): [int(taken), int(failures)]
        for kind, (taken, failures) in members
        if kind in SINKS
    }


def _of_the_events(service: Services) -> Iterator[Metric]:
    """Yield how many the store has noted, and what is delivered by a process of its own, if there
    is one."""
    from prometheus_client.core import CounterMetricFamily

    with suppress(StoreError):  # which fastx_list_up_to_date says
        number = service.store.archive.noted()
        yield CounterMetricFamily("fastx_list_events", "Events that were noted.", value=number)
    file = service.settings.state_dir / DELIVERED_FILE
    taken = CounterMetricFamily(
        "fastx_list_events_delivered", "Events that were taken, by whom.", labels=("sink",)
    )
    failures = CounterMetricFamily(
        "fastx_list_event_failures", "How often no event was taken, by whom.", labels=("sink",)
    )
    with suppress(OSError, ValueError, AttributeError, TypeError):  # it is as it is
        counts = counts_of(json.loads(state.read_own(file)[0]).get(DELIVERED_COUNTS))
        for kind, (number, failed) in counts.items():
            taken.add_metric((kind,), number)
            failures.add_metric((kind,), failed)
    yield taken
    yield failures


def _counted(service: Services) -> tuple[Counter[tuple[str, str, str]], Counter[str]]:
    """Return how many sessions there are by server, kind and state, and how many clients by server.

    They are counted once for each change: everybody on this machine may ask, and of many sessions
    this takes long.
    """
    revision = service.replica.trail.revision(Everything.SESSIONS)
    known: Any = current_app.extensions.get(_COUNTED)
    if known is not None and known[0] == revision:
        return known[1], known[2]
    sessions: Counter[tuple[str, str, str]] = Counter()
    clients: Counter[str] = Counter()
    for entry in service.replica.entries(Everything.SESSIONS).values():
        members = json.loads(entry.text)  # not entry.members, which would be kept
        count = members["clients"]
        state = "unknown" if count is None else "connected" if count else "disconnected"
        sessions[members["serverId"], members.get("kind") or "", state] += 1
        clients[members["serverId"]] += count or 0
    if service.replica.problem is None:  # else more of the same revision may be to come
        current_app.extensions[_COUNTED] = revision, sessions, clients
    return sessions, clients


def _of_the_sidecar(service: Services) -> Iterator[Metric]:
    """Yield what its workers count together."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily(
        "fastx_list_websockets", "WebSockets that are open.", value=counters.total("webSockets")
    )
    yield CounterMetricFamily(
        "fastx_list_slow_clients_dropped",
        "WebSockets that were closed because their clients did not read.",
        value=counters.total("slowClientsDropped"),
    )
    yield CounterMetricFamily(
        "fastx_list_messages",
        "Messages that WebSockets were told; of those to a slow client some are one in the end.",
        value=counters.total("messages"),
    )


def _of_the_requests() -> Iterator[Metric]:
    """Yield what all workers count of requests. No label is anything that was sent to us."""
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

    yield CounterMetricFamily(
        "fastx_list_connections",
        "Connections that were taken.",
        value=counters.total("connections"),
    )
    yield GaugeMetricFamily(
        "fastx_list_open_connections",
        "Connections that are open, this request's included.",
        value=counters.total("openConnections") + counters.total("webSockets"),
    )
    answered = CounterMetricFamily(
        "fastx_list_requests",
        "Requests that were answered, by the rule of their address and by status.",
        labels=("route", "status"),
    )
    times = HistogramMetricFamily(
        "fastx_list_request_seconds",
        "How long requests took, until their answers began to be sent.",
        labels=("route",),
    )
    for route, by_status, by_time, seconds in counters.requests():
        for status, number in by_status.items():
            answered.add_metric((route, status), number)
        if any(by_time):
            up_to = zip([*map(str, SECONDS), "+Inf"], accumulate(by_time), strict=True)
            times.add_metric((route,), [*up_to], sum_value=seconds)
    yield answered
    yield times


def _of_the_copy(service: Services) -> Iterator[Metric]:
    """Yield how old the copy of the store is that is served."""
    from prometheus_client.core import GaugeMetricFamily

    yield GaugeMetricFamily(
        "fastx_list_up_to_date",
        "1 if what is served is the present state, as far as the store tells; else 0.",
        value=service.replica.problem is None,
    )
    yield GaugeMetricFamily(
        "fastx_list_store_age_seconds",
        "How long ago the store was last read up to its end.",
        value=time.monotonic() - service.replica.right_at,
    )
