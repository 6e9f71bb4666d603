"""Prometheus scrapes a list and a sidecar that run; an alert fires for its fault, and none
before."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fastx_list.store import Store
from tests.conftest import session
from tests.support import Service, end, wait_for
from tests.web.prometheus import Prometheus, start

pytestmark = pytest.mark.programs


@pytest.fixture
def prometheus(service: Service, store: Store, tmp_path: Path) -> Iterator[Prometheus]:
    """One whose alerts wait for nothing."""
    pytest.importorskip("prometheus_client")
    store.observe("here", {"a": session("a", kind="xrdp", clients=2)})
    service.start_list()
    service.start_live()
    yield start(service, tmp_path, {r"for: \w+": "for: 0s"})


def test_it_has_what_list_and_sidecar_tell_and_an_alert_fires_once_one_is_down(
    prometheus: Prometheus, service: Service
) -> None:
    both = {"fastx-list": 1.0, "fastx-list-live": 1.0}
    wait_for("both", lambda: prometheus.found("up") == both)
    wait_for("all", lambda: prometheus.found("fastx_list_up_to_date") == both)
    sessions = 'fastx_list_sessions{kind="xrdp",state="connected",server="here"}'
    assert prometheus.found(sessions) == {"fastx-list": 1.0}
    scrapes = 'fastx_list_requests_total{route="/metrics",status="200"}'
    wait_for("its own requests", lambda: prometheus.found(scrapes).keys() == both.keys())
    wait_for("the rules", prometheus.has_evaluated_all)
    assert prometheus.firing() == set()
    end(service.running["live"])
    wait_for("the alert", lambda: prometheus.firing() == {("FastxListDown", "fastx-list-live")})
