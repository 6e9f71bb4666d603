"""How gunicorn runs the two roles: with which settings, where it refuses to start, and what it
answers before any application is asked."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from fastx_list import create_live_app
from tests.support import MEASURED, Service, free_port

ROOT = Path(__file__).parents[1]
LIST, SIDECAR = "fastx_list:create_app()", "fastx_list:create_live_app()"
START_LIVE = f"gunicorn -c python:fastx_list.live.server '{SIDECAR}'"


def gunicorn(
    service: Service, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a gunicorn that is to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{free_port()}", *arguments],
        env=service.environ | MEASURED,
        cwd=cwd,
        text=True,
        capture_output=True,
        timeout=60,
    )


def role(service: Service, *arguments: str) -> tuple[str, str]:
    """Return the name and the class of worker that gunicorn runs with in a checkout."""
    done = gunicorn(service, "--print-config", *arguments, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    settings = {name.strip(): value.strip() for name, value in found.items()}
    return settings["proc_name"], settings["worker_class"]


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["wsgi:app"], ("fastx-list", "fastx_list.web.worker.Worker")),
        (["wsgi:live"], ("fastx-list-live", "fastx_list.live.worker.Worker")),
        (["--workers", "3", "wsgi:live"], ("fastx-list-live", "fastx_list.live.worker.Worker")),
        (["wsgi:live", "--workers=3"], ("fastx-list-live", "fastx_list.live.worker.Worker")),
        ([LIST], ("fastx-list", "fastx_list.web.worker.Worker")),
        (["fastx_list:create_live_app( )"], ("fastx-list-live", "fastx_list.live.worker.Worker")),
    ],
)
def test_in_a_checkout_the_application_says_the_role(
    service: Service, arguments: list[str], wanted: tuple[str, str]
) -> None:
    assert role(service, *arguments) == wanted


@pytest.mark.parametrize("arguments", [[], ["wsgi"], ["wsgi:application"], ["other:app"]])
def test_in_a_checkout_an_unknown_application_is_refused_in_one_line(
    service: Service, arguments: list[str]
) -> None:
    done = gunicorn(service, *arguments, cwd=ROOT)
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "takes wsgi:app" in done.stderr and "wsgi:live" in done.stderr


def test_settings_of_the_first_release_say_what_to_write_now(service: Service) -> None:
    done = gunicorn(service, "-c", "python:fastx_list.server", SIDECAR)
    [line] = done.stderr.strip().splitlines()
    assert done.returncode == 1
    assert "python:fastx_list.web.server" in line and "python:fastx_list.live.server" in line


TOLD_BY_SETTINGS = [
    (["FASTX_LIST_SCAN_INTERVAL=often"], [], "FASTX_LIST_SCAN_INTERVAL takes"),
    (["FASTX_LIST_STORE=mysql://here"], [], "FASTX_LIST_STORE takes"),
    (["FASTX_LIST_STATE_DIR=/dev/null/state"], [], "/dev/null/state/secret cannot be used"),
    (["FASTX_LIST_TOKEN_PUBLIC_KEY=/dev/null"], [], "FASTX_LIST_TOKEN_PUBLIC_KEY takes"),
    (["WEB_CONCURRENCY=0"], [], "WEB_CONCURRENCY takes"),
    ([], ["--certfile", os.devnull], "speak no TLS"),
]


@pytest.mark.parametrize(
    ("role", "application", "environ", "arguments", "said"),
    [
        *(("web", LIST, *each) for each in TOLD_BY_SETTINGS),
        *(("live", SIDECAR, *each) for each in (TOLD_BY_SETTINGS[0], TOLD_BY_SETTINGS[-1])),
        ("web", "fastx_list:create()", [], [], "'create' in 'fastx_list'"),
        ("live", "fastxlist:create_live_app()", [], [], "'fastxlist'"),
        ("live", LIST, [], [], "these settings are the sidecar's"),
        ("web", SIDECAR, [], [], START_LIVE),
        ("live", SIDECAR, [], ["--worker-class", "sync"], START_LIVE),
    ],
)
def test_what_keeps_all_workers_from_starting_is_said_once(
    service: Service,
    role: str,
    application: str,
    environ: list[str],
    arguments: list[str],
    said: str,
) -> None:
    service.environ |= {"WEB_CONCURRENCY": "2"}
    service.environ |= dict(each.split("=") for each in environ)
    quiet = ("--log-level", "error", "-c", f"python:fastx_list.{role}.server")
    done = gunicorn(service, *quiet, *arguments, application)
    assert done.returncode == (os.EX_CONFIG if " takes" in said else 4) and said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_mistake_of_ours_at_the_start_is_shown_once(service: Service, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def application():\n    return 1 / 0\n")
    service.environ |= {"WEB_CONCURRENCY": "2"}
    done = gunicorn(
        service, "-c", "python:fastx_list.web.server", "broken:application()", cwd=tmp_path
    )
    assert done.returncode == 4 and "return 1 / 0" in done.stderr
    assert done.stderr.count("Traceback") == 1


@pytest.mark.parametrize("arguments", [["--worker-class", "gthread"], ["-c", os.devnull]])
def test_a_sidecar_without_its_settings_does_not_start(
    service: Service, arguments: list[str], tmp_path: Path
) -> None:
    # Of two workers that end, gunicorn sometimes shows the second one's end as an error of its own.
    one = ("--workers", "1", "--no-control-socket")
    done = gunicorn(service, *one, *arguments, SIDECAR, cwd=tmp_path)
    assert done.returncode == 4 and "Traceback" not in done.stderr
    assert START_LIVE in done.stderr and "gevent worker" in done.stderr


@pytest.mark.parametrize(("role", "application"), [("web", LIST), ("live", SIDECAR)])
def test_settings_can_be_checked_without_serving(
    service: Service, role: str, application: str
) -> None:
    done = gunicorn(
        service, "--check-config", "-c", f"python:fastx_list.{role}.server", application
    )
    assert done.returncode == 0 and done.stderr == ""


def test_another_server_than_gunicorn_answers_handshakes_with_how_to_start(
    environ: dict[str, str],
) -> None:
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket"}
    with create_live_app(environ).test_client() as client:
        answer = client.get("/api/list", headers=upgrade)
        assert answer.status_code == 503 and answer.json is not None
        assert START_LIVE in answer.json["error"]["message"]


@pytest.mark.parametrize("role", ["web", "live"])
def test_what_gevent_patches_is_not_imported_with_the_settings(role: str) -> None:
    code = (
        f"import sys, fastx_list.{role}.server;"
        "print(sorted(name for name in sys.modules if name.startswith(('fastx_list', 'flask'))))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], text=True, capture_output=True, check=True, cwd=ROOT
    )
    assert done.stdout.strip() == str(
        sorted(
            f"fastx_list{name}"
            for name in (
                "",
                ".api",
                ".api.counters",
                ".api.serving",
                ".errors",
                ".redaction",
                ".settings_file",
                ".state",
                f".{role}",
                f".{role}.server",
                *([".live.tally"] if role == "live" else []),  # which all workers share
            )
        )
    )


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", b"400"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nBad Header\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nExpect: foo\r\n\r\n", b"417"),
    ],
)
def test_what_the_server_itself_refuses_has_the_one_form_of_an_error(
    service: Service, request_head: bytes, status: bytes
) -> None:
    service.start_list()
    service.start_live()
    for port in (service.list_port, service.live_port):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
            connection.sendall(request_head)
            answer = b""
            while chunk := connection.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 " + status) and b"Content-Type: application/json" in head
        assert json.loads(body)["error"]["name"] == "ValidationError"
