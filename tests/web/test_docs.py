"""The API's documents: whole, true and readable."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openapi_spec_validator
import pytest
from axe_playwright_python.sync_playwright import Axe
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from playwright.sync_api import Browser, Page
from websockets.sync.client import connect

from fastx_list import create_app, create_live_app
from fastx_list.errors import ERRORS, ApiError
from fastx_list.model.server import Server, encode_server
from fastx_list.model.session import Session, encode
from fastx_list.store import Lease, Store, open_store
from tests.conftest import session
from tests.support import Processes, Service, fetch, missing
from tests.web import openapi_hooks
from tests.web.test_list import content

PAGES = {"/", "/docs", "/static/<path:filename>"}
IDS = [f"session-{number}" for number in range(50)]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A running list and sidecar."""
    work = tmp_path_factory.mktemp("docs")
    processes = Processes(work)
    service = Service(work / "state", processes, {"FASTX_LIST_SERVER_ID": "here"})
    try:
        service.start_list()
        service.start_live()
        yield service
    finally:
        processes.stop()


@pytest.fixture
def documents(client: FlaskClient) -> dict[str, Any]:
    return {name: content(client.get(f"/api/{name}.json")) for name in ("openapi", "asyncapi")}


def references(node: Any) -> Iterator[str]:
    """Yield every ``$ref`` in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("$ref"), str):
            yield node["$ref"]
        for value in node.values():
            yield from references(value)
    elif isinstance(node, list):
        for value in node:
            yield from references(value)


def follow(document: Any, reference: str) -> Any:
    assert reference.startswith("#/")
    for key in reference[2:].split("/"):
        document = document[key]
    return document


# The documents


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


def test_the_asyncapi_document_is_valid(documents: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on names of its own
        from asyncapi3.models import AsyncAPI3

    AsyncAPI3.model_validate(documents["asyncapi"])
    for message in documents["asyncapi"]["components"]["messages"].values():
        Draft202012Validator.check_schema(message["payload"])
    for reference in references(documents["asyncapi"]):
        follow(documents["asyncapi"], reference)


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
    sockets = {rule.rule for rule in app.url_map.iter_rules() if rule.websocket}
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
        assert not schema["additionalProperties"]
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


def test_every_error_has_the_documented_name_and_status(documents: dict[str, Any]) -> None:
    names = documents["openapi"]["components"]["schemas"]["Error"]["properties"]["error"][
        "properties"
    ]["name"]["enum"]
    documented = {(status, kind.name) for status, kind in ERRORS.items()}
    assert {(error.status, error.name) for error in ApiError.__subclasses__()} <= documented
    assert sorted({kind.name for kind in ERRORS.values()}) == names


def test_the_documents_hold_nothing_of_this_host(environ: dict[str, str], tmp_path: Path) -> None:
    answers = []
    for environment in (
        environ,
        {"FASTX_LIST_STATE_DIR": str(tmp_path / "other"), "FASTX_LIST_SERVER_ID": "elsewhere"},
    ):
        app = create_app(environment)
        client = app.test_client()
        answers.append(
            [
                client.get(
                    path, base_url=f"http://{environment['FASTX_LIST_SERVER_ID']}.example"
                ).data
                for path in ("/api/openapi.json", "/api/asyncapi.json", "/docs")
            ]
        )
        app.extensions["fastx-list"].store.close()
    assert answers[0] == answers[1]


def test_below_a_path_the_document_and_the_page_lead_there(environ: dict[str, str]) -> None:
    app = create_app({**environ, "FASTX_LIST_TRUSTED_PROXIES": "127.0.0.1"})
    client = app.test_client()
    headers = {"X-Forwarded-Prefix": "/fastx"}
    assert content(client.get("/api/openapi.json"))["servers"] == [{"url": "/"}]
    assert content(client.get("/api/openapi.json", headers=headers))["servers"] == [
        {"url": "/fastx"}
    ]
    page = client.get("/docs", headers=headers).text
    for address in (
        "/fastx/static/docs.css",
        "/fastx/api/openapi.json",
        "/fastx/api/asyncapi.json",
        "/fastx/",
    ):
        assert f'href="{address}"' in page
    app.extensions["fastx-list"].store.close()


def test_the_documents_cost_nothing_before_somebody_asks(environ: dict[str, str]) -> None:
    code = "import sys, fastx_list; fastx_list.create_app(); sys.exit('apispec' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", code], env={**environ, "PYTHONPATH": ":".join(sys.path)}, check=True
    )


# What they say, and what is so


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
            "20",
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


def test_the_sidecar_sends_what_the_document_says(
    served: Service, documents: dict[str, Any]
) -> None:
    document = documents["asyncapi"]
    store: Store = open_store(f"sqlite:///{served.state / 'sessions.db'}")
    token = served.token("alice", admin=True)
    for name, channel in document["channels"].items():
        [message] = (follow(document, each["$ref"]) for each in channel["messages"].values())
        conforms = Draft202012Validator(
            {**message["payload"], "components": document["components"]}
        )
        store.heartbeat(Server(name, "here.example", cpu=1.5), Lease(name, "1", name, 3600))
        store.observe(
            name, {name: session(name, server_id=name, geometry="800x600", params={"name": "x"})}
        )
        url = f"ws://127.0.0.1:{served.live_port}{channel['address']}?token={token}&snapshot=true&filter=id=={name}"
        with connect(url) as socket:
            received = [json.loads(socket.recv(timeout=20))]
            store.heartbeat(
                Server(name, "here.example", sessions=1, load=(0.5, 1, 2)),
                Lease(name, "1", name, 3600),
            )
            store.observe(name, {name: session(name, server_id=name, clients=2)})
            received.append(json.loads(socket.recv(timeout=20)))
            # Which soon has run out
            store.heartbeat(Server(name, "here.example"), Lease(name, "1", name, 0.1))
            store.observe(name, {})
            while received[-1]["data"] is not None:
                received.append(json.loads(socket.recv(timeout=20)))
        assert len(received) > 2
        for each in received:
            conforms.validate(each)
        for broken in (
            {"id": "a"},
            {"id": 1, "data": None},
            {"id": "a", "data": {**received[0]["data"], "hostname": None}},
        ):
            assert not conforms.is_valid(broken)
    store.close()


# The page


@pytest.fixture
def page(browser: Browser, served: Service) -> Iterator[Page]:
    """The page at the width of a telephone; whatever it complains about or loads from elsewhere
    fails the test."""
    context = browser.new_context(viewport={"width": 360, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("requestfailed", lambda request: complaints.append(request.url))
    page.on("request", lambda request: asked.append(urlsplit(request.url).netloc))
    page.goto(f"{served.url}/docs")
    yield page
    context.close()
    assert complaints == []
    assert set(asked) == {urlsplit(served.url).netloc}


def test_the_page_may_load_nothing_but_its_style(client: FlaskClient) -> None:
    answer = client.get("/docs")
    policy = answer.headers["Content-Security-Policy"]
    assert (
        "default-src 'none'" in policy
        and "script" not in policy
        and "connect" not in policy
        and "unsafe" not in policy
    )
    assert "<script" not in answer.text and " style=" not in answer.text


def test_the_page_tells_all_that_the_documents_tell(page: Page, documents: dict[str, Any]) -> None:
    text = page.inner_text("main")
    http, live = documents["openapi"], documents["asyncapi"]
    for path, operations in http["paths"].items():
        for method, operation in operations.items():
            section = page.locator(f"#{operation['operationId']}")
            assert section.get_by_role("heading").inner_text() == f"{method.upper()} {path}"
            for status in operation["responses"]:
                assert section.get_by_role("rowheader", name=status, exact=True).count() == 1
    for schema in http["components"]["schemas"].values():
        for name, member in schema["properties"].items():
            assert name in text and member.get("description", "") in text
    for channel in live["channels"].values():
        for code, meaning in channel["x-close-codes"].items():
            assert code in text and meaning in text
        assert all(name in text for name in channel["bindings"]["ws"]["query"]["properties"])


def test_the_page_can_be_read_on_a_telephone_in_the_dark_and_by_all(page: Page) -> None:
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    colour = "getComputedStyle(document.body).backgroundColor"
    page.emulate_media(color_scheme="light")
    light = page.evaluate(colour)
    assert Axe().run(page).violations_count == 0
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    assert Axe().run(page).violations_count == 0


def test_every_link_on_the_page_leads_somewhere(page: Page, served: Service) -> None:
    for target in page.eval_on_selector_all("a", "links => links.map(link => link.href)"):
        address, _, anchor = target.partition("#")
        assert fetch(address).status == 200
        if anchor:
            assert page.locator(f"[id='{anchor}']").count() == 1
