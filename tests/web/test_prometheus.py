"""Debian's Prometheus scrapes a list and a sidecar that run, with the settings and the rules of
``docs/monitoring``; an alert fires for its fault, and none before."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from fastx_list.store import Store
from tests.conftest import session
from tests.support import Service, end, fetch, free_port, program, wait_for

MONITORING = Path(__file__).parents[2] / "docs/monitoring"
EACH_SECOND = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"

pytestmark = pytest.mark.programs


@pytest.fixture
def prometheus(service: Service, store: Store, tmp_path: Path) -> Iterator[str]:
    """The address of a Prometheus that asks each second, and whose alerts wait for nothing."""
    pytest.importorskip("prometheus_client")
    command = program("prometheus", "prometheus")
    store.observe("here", {"a": session("a", kind="xrdp", clients=2)})
    service.start_list()
    service.start_live()
    settings = (MONITORING / "prometheus.yml").read_text()
    for usual, port in ((8000, service.list_port), (8001, service.live_port)):
        assert settings.count(f"127.0.0.1:{usual}") == 1
        settings = settings.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
    (tmp_path / "prometheus.yml").write_text(EACH_SECOND + settings)
    rules = (MONITORING / "alerts.yml").read_text()
    (tmp_path / "alerts.yml").write_text(re.sub(r"for: \w+", "for: 0s", rules))
    port = free_port()
    service.processes.start(
        [
            *(command, f"--config.file={tmp_path / 'prometheus.yml'}"),
            f"--storage.tsdb.path={tmp_path / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        "prometheus",
    )
    url = f"http://127.0.0.1:{port}/api/v1"
    wait_for("Prometheus", lambda: _is_ready(f"http://127.0.0.1:{port}/-/ready"))
    yield url


def _is_ready(url: str) -> bool:
    try:
        return fetch(url).status == 200
    except OSError:
        return False


def found(url: str, expression: str) -> dict[str, float]:
    """Return by job what Prometheus has of ``expression``."""
    answer: Any = fetch(f"{url}/query?query={quote(expression)}").json
    results = answer["data"]["result"]
    return {each["metric"].get("job", ""): float(each["value"][1]) for each in results}


def firing(url: str) -> set[tuple[str, str]]:
    answer: Any = fetch(f"{url}/alerts").json
    return {
        (each["labels"]["alertname"], each["labels"].get("job", ""))
        for each in answer["data"]["alerts"]
        if each["state"] == "firing"
    }


def test_it_has_what_list_and_sidecar_tell_and_an_alert_fires_once_one_is_down(
    prometheus: str, service: Service
) -> None:
    both = {"fastx-list": 1.0, "fastx-list-live": 1.0}
    wait_for("both", lambda: found(prometheus, "up") == both)
    wait_for("all", lambda: found(prometheus, "fastx_list_up_to_date") == both)
    sessions = 'fastx_list_sessions{kind="xrdp",state="connected",server="here"}'
    assert found(prometheus, sessions) == {"fastx-list": 1.0}
    scrapes = 'fastx_list_requests_total{route="/metrics",status="200"}'
    wait_for("its own requests", lambda: found(prometheus, scrapes).keys() == both.keys())
    rules: Any = fetch(f"{prometheus}/rules").json
    [group] = rules["data"]["groups"]
    assert len(group["rules"]) == (MONITORING / "alerts.yml").read_text().count("alert:")
    wait_for("the rules", lambda: _are_evaluated(prometheus))
    assert firing(prometheus) == set()
    end(service.running["live"])
    wait_for("the alert", lambda: firing(prometheus) == {("FastxListDown", "fastx-list-live")})


def _are_evaluated(url: str) -> bool:
    rules: Any = fetch(f"{url}/rules").json
    return all(
        rule["health"] == "ok" for group in rules["data"]["groups"] for rule in group["rules"]
    )
