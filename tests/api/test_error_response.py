from __future__ import annotations

import logging
from io import BytesIO

import pytest
from flask.testing import FlaskClient

from tests.answers import Issue, error


@pytest.mark.parametrize(
    "path", ["/api", "/api/lists", "/api/list/a/b", "/nothing", "/api/admin/x"]
)
def test_an_unknown_address_is_not_found(client: FlaskClient, path: str) -> None:
    error(client.get(path), 404, "NotFound")


def test_a_wrong_method_is_told_the_right_ones(client: FlaskClient, token: Issue) -> None:
    answer = client.delete(f"/api/list/{token('alice')}")
    error(answer, 405, "MethodNotAllowed")
    assert {"GET", "POST"} <= set(answer.headers["Allow"].split(", "))


@pytest.mark.parametrize("path", ["/api/list", "/api/list/x", "/api/params/x", "/health", "/"])
def test_options_say_which_methods_are_taken_and_nothing_else(
    client: FlaskClient, path: str
) -> None:
    answer = client.options(path)
    assert answer.status_code == 200 and answer.data == b""
    assert "Content-Type" not in answer.headers and answer.headers["Content-Length"] == "0"
    taken = set(answer.headers["Allow"].split(", "))
    assert "OPTIONS" in taken and taken & {"GET", "POST"}


def test_an_overlong_body_is_refused(client: FlaskClient, token: Issue) -> None:
    url = f"/api/list/{token('alice')}"
    long = "x" * 70_000
    for answer in (client.post(url, json={"_": long}), client.post(url, data={"_": long})):
        assert "64 KiB" in error(answer, 413, "PayloadTooLarge")


def test_an_overlong_body_in_chunks_is_refused(client: FlaskClient, token: Issue) -> None:
    answer = client.post(
        f"/api/list/{token('alice')}",
        input_stream=BytesIO(b'{"_": "' + b"x" * 70_000),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert "64 KiB" in error(answer, 413, "PayloadTooLarge")


def test_a_body_that_its_server_cannot_read_is_the_clients_mistake(
    client: FlaskClient, token: Issue
) -> None:
    class Broken(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("the client has gone")

    answer = client.post(
        f"/api/list/{token('alice')}",
        input_stream=Broken(),
        content_type="application/json",
        environ_overrides={"CONTENT_LENGTH": "10"},
    )
    assert error(answer, 400, "ValidationError") == "body: it is malformed, or ends too soon"


def test_a_mistake_of_ours_shows_no_stack_and_logs_no_token(
    client: FlaskClient,
    token: Issue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    good = token("alice")

    def fail(*args: object) -> None:
        raise RuntimeError(f"broken by /api/list/{good}")

    monkeypatch.setattr("fastx_list.replica.replica.Replica.page", fail)
    with caplog.at_level(logging.DEBUG):
        answer = client.get(f"/api/list/{good}")
    assert error(answer, 500, "InternalError") == "the server made a mistake; its log says more"
    assert (
        "RuntimeError" in caplog.text
        and good not in caplog.text
        and good.split(".")[2] not in caplog.text
    )
