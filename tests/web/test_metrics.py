"""``/metrics`` of list and sidecar."""

from __future__ import annotations

import json
import math
import re
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.api import metrics
from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from tests.answers import error
from tests.conftest import session
from tests.live.clients import follow, take
from tests.support import Service, fetch, program, wait_for

MONITORING = Path(__file__).parents[2] / "docs/monitoring"


OF_REQUESTS = re.compile("fastx_list_(request|connections|open_connections)")


def values(text: str) -> dict[str, float]:
    """Return what metrics say of all but requests, of which there were some before."""
    return {name: value for name, value in all_values(text).items() if not OF_REQUESTS.match(name)}


def all_values(text: str) -> dict[str, float]:
    lines = (line.rpartition(" ") for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, _, value in lines}


@pytest.fixture(autouse=True)
def _client_is_here() -> None:
    pytest.importorskip("prometheus_client")


@pytest.fixture
def sessions(store: Store) -> None:
    lease = Lease("one", "1", "host", 3600)
    every = [
        session("a", clients=2, kind="xrdp"),
        session("b", clients=0, kind="xrdp", command='"secret"'),
        session("c", "bob", clients=None),
    ]
    store.observe("here", {each.id: each for each in every}, lease)
    here = Server(
        "here", "host", problems=("a", "b"), last_look=1_700_000_000_500, look_seconds=0.25
    )
    store.heartbeat(here, lease)


@pytest.mark.usefixtures("sessions")
def test_the_list_tells_of_sessions_and_agents_and_of_no_login(client: FlaskClient) -> None:
    answer = client.get("/metrics")
    assert answer.status_code == 200 and answer.content_type.startswith("text/plain")
    found = values(answer.text)
    assert found.pop('fastx_list_agent_beat_age_seconds{server="here"}') < 600
    assert 0 <= found.pop("fastx_list_store_age_seconds") < 600
    assert found == {
        "fastx_list_up_to_date": 1,
        'fastx_list_sessions{kind="xrdp",server="here",state="connected"}': 1,
        'fastx_list_sessions{kind="xrdp",server="here",state="disconnected"}': 1,
        'fastx_list_sessions{kind="",server="here",state="unknown"}': 1,
        'fastx_list_clients{server="here"}': 2,
        'fastx_list_agent_problems{server="here"}': 2,
        'fastx_list_agent_silent{server="here"}': 0,
        'fastx_list_agent_last_look_timestamp_seconds{server="here"}': 1_700_000_000.5,
        'fastx_list_agent_look_seconds{server="here"}': 0.25,
        "fastx_list_events_total": 4,
    }
    assert "alice" not in answer.text and "bob" not in answer.text and "secret" not in answer.text


@pytest.mark.usefixtures("sessions")
def test_sessions_are_counted_once_for_each_change(
    client: FlaskClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bytes] = []

    def loads(text: bytes) -> Any:
        asked.append(text)
        return json.loads(text)

    monkeypatch.setattr(metrics, "json", SimpleNamespace(loads=loads))
    first, last = (client.get("/metrics").text for _ in range(2))
    here = 'fastx_list_clients{server="here"}'
    assert sum(b'"clients"' in text for text in asked) == 3
    assert values(first)[here] == values(last)[here] == 2
    store.observe("here", {"a": session("a", clients=5)}, Lease("one", "1", "host", 3600))
    assert values(client.get("/metrics").text)[here] == 5


@pytest.mark.usefixtures("sessions")
def test_what_is_not_up_to_date_says_so(client: FlaskClient) -> None:
    client.get("/metrics")
    replica = client.application.extensions["fastx-list"].replica
    replica.problem, replica._next_attempt = "away", math.inf
    replica.right_at -= 600
    found = values(client.get("/metrics").text)
    assert found["fastx_list_up_to_date"] == 0 and found["fastx_list_store_age_seconds"] >= 600


@pytest.mark.parametrize(
    ("peer", "allowed", "header", "status"),
    [
        ("127.0.0.1", "", None, 200),
        ("::1", "", None, 200),
        ("::ffff:127.0.0.1", "", None, 200),
        ("", "", None, 200),
        ("192.0.2.1", "", None, 404),
        ("192.0.2.1", "192.0.2.0/24", None, 200),
        ("", "192.0.2.0/24", None, 404),
        ("127.0.0.1", "", "X-Forwarded-For", 404),
        ("", "", "X-Forwarded-For", 404),
        ("127.0.0.1", "", "Forwarded", 404),
    ],
)
def test_only_this_machine_may_ask_and_nobody_through_a_proxy(
    environ: dict[str, str], peer: str, allowed: str, header: str | None, status: int
) -> None:
    for trusted in ("", "127.0.0.1 unix"):
        settings = {"FASTX_LIST_METRICS_FROM": allowed, "FASTX_LIST_TRUSTED_PROXIES": trusted}
        app = create_app(environ | settings)
        answer = app.test_client().get(
            "/metrics",
            environ_base={"REMOTE_ADDR": peer},
            headers={header: "127.0.0.1"} if header else {},
        )
        assert answer.status_code == status
        if status == 404:
            error(answer, 404, "NotFound")
        app.extensions["fastx-list"].store.close()


def test_the_sidecar_tells_what_its_workers_count_together(service: Service, store: Store) -> None:
    store.observe("here", {each: session(each) for each in ("a", "b")})
    service.start_live()
    url = f"http://127.0.0.1:{service.live_port}"
    wait_for("its first reading of the store", lambda: fetch(f"{url}/ready").status == 200)
    found = values(fetch(f"{url}/metrics").body.decode())
    assert 0 <= found.pop("fastx_list_store_age_seconds") < 600
    assert found == {
        "fastx_list_up_to_date": 1,
        "fastx_list_websockets": 0,
        "fastx_list_slow_clients_dropped_total": 0,
        "fastx_list_messages_total": 0,
    }
    with follow(service, service.token("alice")) as connection:
        for _ in range(2):
            take(connection)
        store.observe("here", {"a": session("a", clients=3), "b": session("b")})
        take(connection)
        found = all_values(fetch(f"{url}/metrics").body.decode())
    assert found["fastx_list_messages_total"] == 3 and found["fastx_list_websockets"] == 1
    assert found["fastx_list_open_connections"] == 2  # with that of who asks
    assert found['fastx_list_requests_total{route="/api/list",status="101"}'] == 1
    assert found["fastx_list_connections_total"] >= 4


def test_each_request_is_counted_once_by_its_route_and_status_whoever_answers_it(
    service: Service,
) -> None:
    """Also those that a worker has answered which has ended since."""
    service.environ["WEB_CONCURRENCY"] = "2"
    service.start_list()
    token, admin = service.token("alice"), service.token("root", admin=True)

    def ask(times: int) -> None:
        for _ in range(times):
            answer = fetch(f"{service.url}/api/list/{token}")  # by the short cut, as a rule
            assert answer.status == 200
            etag = {"If-None-Match": answer.headers["ETag"]}
            assert fetch(f"{service.url}/api/list/{token}", headers=etag).status == 304
            assert fetch(f"{service.url}/api/list/{token}", "POST").status == 200
            assert fetch(f"{service.url}/api/list/{token}?limit=x").status == 400
            assert fetch(f"{service.url}/api/list/secret").status == 401
            assert fetch(f"{service.url}/api/secret").status == 404
            assert fetch(f"{service.url}/api/admin/server/{admin}").status == 200

    def counted() -> dict[str, float]:
        found = all_values(fetch(f"{service.url}/metrics").body.decode())
        name = "fastx_list_requests_total"
        return {
            each.removeprefix(name): value
            for each, value in found.items()
            if each.startswith(name) and "/health" not in each and "/metrics" not in each
        }

    def wanted(times: int) -> dict[str, float]:
        rule = "/api/list/<token>"
        return {
            f'{{route="{rule}",status="200"}}': 2 * times,
            f'{{route="{rule}",status="304"}}': times,
            f'{{route="{rule}",status="400"}}': times,
            f'{{route="{rule}",status="401"}}': times,
            '{route="other",status="404"}': times,
            '{route="/api/admin/server/<token>",status="200"}': times,
        }

    before = counted()  # what was asked while it started
    ask(10)
    master = psutil.Process(service.running["list"].pid)
    one, other = master.children()
    one.kill()
    wait_for("another worker", lambda: len({*master.children()} - {one, other}) == 1)
    ask(5)
    open_ones = "fastx_list_open_connections"  # that of who asks, and none of the worker's
    wait_for(
        "the others' end",
        lambda: all_values(fetch(f"{service.url}/metrics").body.decode())[open_ones] == 1,
    )
    found = counted()
    assert {name: found[name] - before.get(name, 0) for name in wanted(15)} == wanted(15)
    text = fetch(f"{service.url}/metrics").body.decode()
    assert token not in text and admin not in text and "secret" not in text and "alice" not in text
    times = all_values(text)
    most = 'fastx_list_request_seconds_bucket{le="+Inf",route="/api/list/<token>"}'
    assert times[most] == 5 * 15 == times[most.replace('_bucket{le="+Inf",', "_count{")]
    assert 0 < times['fastx_list_request_seconds_sum{route="/api/list/<token>"}'] < 600


def test_mistakes_of_our_own_are_told_before_the_first_so_that_one_is_seen_to_be_more(
    client: FlaskClient,
) -> None:
    found = all_values(client.get("/metrics").text)
    for route in ("/api/list/<token>", "/api/history", "other"):
        assert f'fastx_list_requests_total{{route="{route}",status="500"}}' in found


def test_what_is_delivered_is_told_by_the_kind_of_whom_it_goes_to(
    client: FlaskClient, environ: dict[str, str]
) -> None:
    client.get("/metrics")
    file = Path(environ["FASTX_LIST_STATE_DIR"]) / metrics.DELIVERED_FILE
    for text in ("no JSON", "[]", '{"counts": {"webhook": "x"}}', '{"counts": 5}'):
        file.write_text(text)
        assert not [name for name in values(client.get("/metrics").text) if "event_" in name]
    counts = {"webhook": [7, 2], "file": [9, 0], "https://x.example/secret": [1, 1]}
    file.write_text(json.dumps({"webhook at x.example": "1-a", "counts": counts}))
    text = client.get("/metrics").text
    found = {name: value for name, value in values(text).items() if "sink=" in name}
    assert found == {
        'fastx_list_events_delivered_total{sink="webhook"}': 7,
        'fastx_list_events_delivered_total{sink="file"}': 9,
        'fastx_list_event_failures_total{sink="webhook"}': 2,
        'fastx_list_event_failures_total{sink="file"}': 0,
    }
    assert "example" not in text


@pytest.mark.usefixtures("sessions")
@pytest.mark.programs
def test_prometheus_finds_nothing_wrong_with_the_metrics(client: FlaskClient) -> None:
    promtool = program("promtool", "prometheus")
    text = client.get("/metrics").text
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.programs
def test_each_alert_fires_for_its_fault_and_for_nothing_else() -> None:
    promtool = program("promtool", "prometheus")
    for command in (["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]):
        done = subprocess.run([promtool, *command], cwd=MONITORING, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    rules = (MONITORING / "alerts.yml").read_text()
    tests = (MONITORING / "alerts.test.yml").read_text()
    for alert in re.findall(r"alert: (\w+)", rules):
        assert tests.count(f"alertname: {alert}") >= 2  # with its fault, and without any


@pytest.mark.usefixtures("sessions")
def test_alerts_and_dashboard_ask_for_metrics_that_there_are(
    client: FlaskClient, environ: dict[str, str], service: Service
) -> None:
    service.start_live()
    file = Path(environ["FASTX_LIST_STATE_DIR"]) / metrics.DELIVERED_FILE
    file.write_text('{"counts": {"webhook": [1, 1]}}')
    client.get("/health")  # so that there was a request
    live = fetch(f"http://127.0.0.1:{service.live_port}/metrics").body.decode()
    there = {name.partition("{")[0] for name in all_values(client.get("/metrics").text + live)}
    dashboard: Any = json.loads((MONITORING / "dashboard.json").read_text())
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += re.findall(r"expr: (.*)", (MONITORING / "alerts.yml").read_text())
    names = {name for each in asked for name in re.findall(r"\bfastx_list_\w+", each)}
    assert names <= there
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(dashboard["panels"])
