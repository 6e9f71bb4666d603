from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from fastx_list.api.proxies import behind_proxies
from fastx_list.config import load
from tests.support import Service, fetch

FORWARDED = {
    "HTTP_X_FORWARDED_FOR": "192.0.2.1, 198.51.100.7",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_PREFIX": "/fastx",
    "HTTP_X_FORWARDED_HOST": "portal.example.org",
}


def seen(trusted: str, peer: str) -> dict[str, Any]:
    """Return the environ that the application gets from ``peer``, which forwards for somebody."""
    got: dict[str, Any] = {}

    def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        got.update(environ)
        return []

    settings = load({"FASTX_LIST_TRUSTED_PROXIES": trusted})
    wrapped: Any = behind_proxies(application, settings.trusted_proxies)
    environ = {
        "REMOTE_ADDR": peer,
        "wsgi.url_scheme": "http",
        "HTTP_HOST": "inside",
        "SCRIPT_NAME": "",
        **FORWARDED,
    }
    wrapped(environ, lambda *_: None)
    return got


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("10.0.0.0/8 unix", "10.1.2.3"),
        ("unix", ""),
        ("::1,2001:db8::/32", "2001:db8::9"),
        ("127.0.0.0/8", "::ffff:127.0.0.1"),
    ],
)
def test_a_trusted_proxy_is_believed(trusted: str, peer: str) -> None:
    environ = seen(trusted, peer)
    # What the proxy saw itself, not what it was told
    assert environ["REMOTE_ADDR"] == "198.51.100.7"
    assert environ["wsgi.url_scheme"] == "https" and environ["SCRIPT_NAME"] == "/fastx"
    assert environ["HTTP_HOST"] == "portal.example.org"


@pytest.mark.parametrize(
    ("trusted", "peer"),
    [
        ("", "127.0.0.1"),
        ("", ""),
        ("127.0.0.1", ""),
        ("unix", "127.0.0.1"),
        ("10.0.0.0/8", "11.0.0.1"),
        ("::1", "0.0.0.1"),
    ],
)
def test_nobody_else_is(trusted: str, peer: str) -> None:
    environ = seen(trusted, peer)
    assert environ["REMOTE_ADDR"] == peer and environ["HTTP_HOST"] == "inside"
    assert environ["wsgi.url_scheme"] == "http" and environ["SCRIPT_NAME"] == ""


def test_gunicorn_believes_nobody_by_itself(service: Service) -> None:
    service.start_list()
    forged = {"X-Forwarded-Proto": "https", "Script-Name": "/evil", "X-Forwarded-For": "192.0.2.1"}
    answer = fetch(f"{service.url}/", headers=forged)
    assert answer.status == 200
    assert "127.0.0.1 - - " in service.processes.log(
        "list"
    ) and "192.0.2.1" not in service.processes.log("list")
