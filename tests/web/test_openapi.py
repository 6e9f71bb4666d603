"""The document of the HTTP API: whole and true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import openapi_spec_validator
import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator

from fastx_list import create_app, create_live_app
from fastx_list.api.addresses import IN_PATH
from fastx_list.errors import ERRORS, ApiError
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import Lease, open_store
from tests.answers import content
from tests.conftest import session
from tests.support import Processes, Service, missing
from tests.web import openapi_hooks

PAGES = {"/", "/code", "/docs", "/static/<path:filename>", "/metrics"}
IDS = [f"session-{number}" for number in range(50)]


@pytest.mark.parametrize("envelope", ["false", "true"])
def test_the_openapi_document_is_valid(environ: dict[str, str], envelope: str) -> None:
    app = create_app({**environ, "FASTX_LIST_RESULT_ENVELOPE": envelope})
    answer = app.test_client().get("/api/openapi.json")
    assert answer.mimetype == "application/json" and answer.headers["Cache-Control"] == "no-cache"
    openapi_spec_validator.validate(content(answer))
    success = content(answer)["paths"]["/api/list"]["get"]["responses"]["200"]["content"][
        "application/json"
    ]["schema"]
    assert ("result" in success.get("properties", {})) == (envelope == "true")
    app.extensions["fastx-list"].store.close()


def test_every_address_with_its_methods_is_documented_and_no_other(
    client: FlaskClient, documents: dict[str, Any], environ: dict[str, str]
) -> None:
    routes = {
        (rule.rule.replace("<", "{").replace(">", "}"), method.lower())
        for rule in client.application.url_map.iter_rules()
        if rule.rule not in PAGES
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routes == {
        (path, method)
        for path, methods in documents["openapi"]["paths"].items()
        for method in methods
    }
    app = create_live_app(environ)
    sockets = {
        rule.rule.removesuffix(IN_PATH) for rule in app.url_map.iter_rules() if rule.websocket
    }
    assert sockets == {channel["address"] for channel in documents["asyncapi"]["channels"].values()}
    app.extensions["fastx-list"].store.close()


@pytest.mark.parametrize(
    ("kind", "least"),
    [
        (
            "Session",
            encode(Session(id="a", login="alice", server_id="server", hostname="host"), {}),
        ),
        ("Server", encode_server(Server("server", "host"))),
    ],
)
def test_what_is_listed_has_exactly_the_documented_members(
    documents: dict[str, Any], kind: str, least: str
) -> None:
    members = json.loads(least)
    for document in documents.values():
        schema = document["components"]["schemas"][kind]
        assert list(schema["properties"]) == list(members) and sorted(schema["required"]) == sorted(
            members
        )
        assert schema["additionalProperties"] is True  # others will be added
        nullable = {
            name for name, member in schema["properties"].items() if "null" in member["type"]
        }
        assert nullable == {name for name, value in members.items() if value is None}
        Draft202012Validator(schema).validate(schema["examples"][0])


def test_every_member_and_parameter_says_what_it_is(documents: dict[str, Any]) -> None:
    components = documents["openapi"]["components"]
    for name in ("Session", "Server", "Query", "QueryForm", "Params"):
        for member in components["schemas"][name]["properties"].values():
            assert len(member["description"]) > 5
    for kind in ("parameters", "headers", "responses", "securitySchemes"):
        assert all(each["description"] for each in components[kind].values())


def test_every_object_is_open(documents: dict[str, Any]) -> None:
    """Members are added without a new version, and a program made from the document goes on."""
    found = 0
    todo: list[Any] = [*documents.values()]
    while todo:
        each = todo.pop()
        if isinstance(each, dict):
            if "properties" in each and each.get("type") == "object":
                # What is in a WebSocket's query is a table of parameters
                found += each.get("additionalProperties") is True
                assert each.get("additionalProperties", True) is True, each
            todo += each.values()
        elif isinstance(each, list):
            todo += each
    assert found >= 10


def test_every_error_has_the_documented_name_and_status(documents: dict[str, Any]) -> None:
    names = documents["openapi"]["components"]["schemas"]["Error"]["properties"]["error"][
        "properties"
    ]["name"]["examples"]
    assert {error.status for error in ApiError.__subclasses__()} <= ERRORS.keys()
    assert sorted({kind.name for kind in ERRORS.values()}) == names


@pytest.mark.parametrize(
    ("envelope", "thoroughly"),
    [
        ("false", ("--phases", "examples,coverage,fuzzing,stateful")),
        ("true", ("--phases", "examples,coverage", "--mode", "positive")),
    ],
)
def test_the_list_answers_as_the_document_says(
    tmp_path: Path, processes: Processes, envelope: str, thoroughly: tuple[str, ...]
) -> None:
    """Asked thousands of right and wrong questions by schemathesis, with all its checks."""
    program = Path(sys.executable).with_name("schemathesis")
    if not program.exists():
        missing("schemathesis is not installed; it needs Python 3.11")
    service = Service(
        tmp_path / "state",
        processes,
        {"FASTX_LIST_SERVER_ID": "here", "FASTX_LIST_RESULT_ENVELOPE": envelope},
    )
    service.start_list()
    store = open_store(f"sqlite:///{service.state / 'sessions.db'}")
    full = session(
        "full",
        server_pid=1,
        geometry="1280x720",
        window_mode="rootless",
        started=1,
        last_connect=2,
        last_disconnect=3,
        command="xterm",
        app_pid=2,
        clients=1,
        display=10,
        cpu_percentage=12.5,
        video_ram=1,
        sharing=True,
        disconnect_timeout=1,
    )
    store.observe(
        "here", {each.id: each for each in (full, *(session(name, clients=0) for name in IDS))}
    )
    store.heartbeat(Server("here", "here.example"), Lease("here", "1", "here", 3600))
    store.heartbeat(
        Server("north", "north.example", cpu=1.5, load=(1, 2, 3), uptime=1),
        Lease("north", "1", "north", 3600),
    )
    store.close()
    token = service.token("alice", admin=True)
    settings = tmp_path / "schemathesis.toml"
    # A request that is too long is refused before anybody sees what else is wrong with it.
    settings.write_text(f"""
        hooks = {json.dumps(openapi_hooks.__file__)}
        [parameters]
        "path.token" = "{token}"
        "body.id" = {{dictionary = "ids"}}
        [dictionaries.ids]
        values = {json.dumps(IDS)}
        [auth.openapi.bearer]
        bearer = "{token}"
        [checks.negative_data_rejection]
        expected-statuses = [400, 401, 404, 413, 414, 431]
    """)
    settings.chmod(0o600)
    result = subprocess.run(
        [
            program,
            "--config-file",
            settings,
            "run",
            f"{service.url}/api/openapi.json",
            "--checks",
            "all",
            *thoroughly,
            "--seed",
            "1",
            "--max-examples",
            "10",
            "--generation-database",
            "none",
            "--suppress-health-check",
            "all",
            "--no-color",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Authentication failed" not in result.stdout
