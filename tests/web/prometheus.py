"""Debian's Prometheus, with the settings and the rules of ``docs/monitoring``, at a list and a
sidecar that run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from tests.support import Service, fetch, free_port, program, wait_for

MONITORING = Path(__file__).parents[2] / "docs/monitoring"
EACH_SECOND = "global: {scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}\n"
Alert = tuple[str, str]  # the name of its rule, and the job


class Prometheus(NamedTuple):
    """One that asks each second, by its API's address."""

    url: str

    def found(self, expression: str) -> dict[str, float]:
        """Return by job what it has of ``expression``."""
        answer: Any = fetch(f"{self.url}/query?query={quote(expression)}").json
        results = answer["data"]["result"]
        return {each["metric"].get("job", ""): float(each["value"][1]) for each in results}

    def firing(self) -> set[Alert]:
        """Return the alerts that fire."""
        answer: Any = fetch(f"{self.url}/alerts").json
        return {
            (each["labels"]["alertname"], each["labels"].get("job", ""))
            for each in answer["data"]["alerts"]
            if each["state"] == "firing"
        }

    def has_evaluated_all(self) -> bool:
        """Whether it has tried each rule, and none was refused."""
        answer: Any = fetch(f"{self.url}/rules").json
        [group] = answer["data"]["groups"]
        assert len(group["rules"]) == (MONITORING / "alerts.yml").read_text().count("alert:")
        return all(rule["health"] == "ok" for rule in group["rules"])


def start(service: Service, directory: Path, spans: Mapping[str, str]) -> Prometheus:
    """Start one for ``service``, which keeps what it has in ``directory``. In the rules these
    patterns are other spans of time than for people."""
    command = program("prometheus", "prometheus")
    settings = (MONITORING / "prometheus.yml").read_text()
    for usual, port in ((8000, service.list_port), (8001, service.live_port)):
        assert settings.count(f"127.0.0.1:{usual}") == 1
        settings = settings.replace(f"127.0.0.1:{usual}", f"127.0.0.1:{port}")
    (directory / "prometheus.yml").write_text(EACH_SECOND + settings)
    rules = (MONITORING / "alerts.yml").read_text()
    for pattern, span in spans.items():
        assert re.search(pattern, rules)
        rules = re.sub(pattern, span, rules)
    (directory / "alerts.yml").write_text(rules)
    port = free_port()
    service.processes.start(
        [
            *(command, f"--config.file={directory / 'prometheus.yml'}"),
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ],
        "prometheus",
    )
    wait_for("Prometheus", lambda: _is_ready(f"http://127.0.0.1:{port}/-/ready"))
    return Prometheus(f"http://127.0.0.1:{port}/api/v1")


def _is_ready(url: str) -> bool:
    try:
        return fetch(url).status == 200
    except OSError:
        return False
