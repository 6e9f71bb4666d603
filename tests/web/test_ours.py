"""The members that are ours, and answers without them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient

from fastx_list import create_app
from fastx_list.model.server import Server
from fastx_list.model.session import PUBLISHED
from fastx_list.store import Lease, Store
from tests.answers import Issue, Observe, content
from tests.conftest import session

SETTINGS = [{"FASTX_LIST_PUBLISHED_ONLY": "true"}, {"FASTX_LIST_COMPAT": "fastx"}]


@pytest.fixture(autouse=True)
def _sessions(observe: Observe) -> None:
    observe(
        session("a", kind="xrdp", client_addresses=("192.0.2.1", "local")),
        session("b", kind="xpra", params={"kind": "mine"}),
        session("c", client_addresses=()),
    )


@pytest.fixture(params=SETTINGS, ids=["published only", "as FastX"])
def published(environ: dict[str, str], request: pytest.FixtureRequest) -> Iterator[FlaskClient]:
    """A client of a list that leaves out what is ours."""
    app = create_app(environ | request.param)
    with app.test_client() as client:
        yield client
    app.extensions["fastx-list"].store.close()


def result(answer: Any) -> Any:
    found = content(answer)
    return found["result"] if isinstance(found, dict) and "result" in found else found


def test_sessions_say_of_what_kind_they_are_and_can_be_asked_for_by_it(
    client: FlaskClient, token: Issue
) -> None:
    url = f"/api/list/{token('alice')}"
    assert [each["kind"] for each in content(client.get(url))] == ["xrdp", "xpra", None]
    found = content(client.get(f"{url}?sortBy=kind&sortReverse=1"))
    assert [each["id"] for each in found] == ["a", "b", "c"]
    assert [each["id"] for each in content(client.get(f"{url}?filter=kind%3D%3Dxpra"))] == ["b"]
    found = content(client.get(f"{url}?filter=params.kind%3D%3Dmine"))
    assert [each["id"] for each in found] == ["b"]


@pytest.mark.parametrize(
    "filters, found",
    [("local", "a"), ("192.0.2.1,::1", "a"), ("192.0.2.2", ""), ("", "bc"), ("local,", "abc")],
)
def test_clients_addresses_can_be_asked_for_one_by_one(
    client: FlaskClient, token: Issue, filters: str, found: str
) -> None:
    url = f"/api/list/{token('alice')}?filter=clientAddresses%3D%3D{filters}"
    assert "".join(each["id"] for each in content(client.get(url))) == found


@pytest.mark.parametrize("address", ["/api/list", "/api/admin/session"])
def test_what_is_ours_is_left_out_byte_for_byte(
    client: FlaskClient, published: FlaskClient, token: Issue, address: str
) -> None:
    url = f"{address}/{token('alice', admin=True)}"
    with_ours = content(client.get(url))
    before = [{name: each[name] for name in PUBLISHED} for each in with_ours]
    text = json.dumps(before, ensure_ascii=False, separators=(",", ":"))
    for answer in (published.get(url), published.post(url)):
        assert answer.text in (text, f'{{"result":{text}}}')


def test_what_is_left_out_cannot_be_asked_for(published: FlaskClient, token: Issue) -> None:
    url = f"/api/list/{token('alice')}?filter=kind%3D%3D"
    assert [each["id"] for each in result(published.get(url + "xrdp"))] == []
    assert [each["id"] for each in result(published.get(url + "mine"))] == ["b"]


def test_a_session_whose_params_were_set_is_without_ours(
    published: FlaskClient, token: Issue
) -> None:
    url = f"/api/params/{token('alice')}"
    answer = published.post(url, json={"id": "a", "params": {"kind": "mine"}})
    assert list(result(answer)) == list(PUBLISHED)
    assert result(answer)["params"] == {"kind": "mine"}


def test_neither_page_nor_documents_speak_of_what_is_left_out(published: FlaskClient) -> None:
    for name in ("openapi", "asyncapi"):
        document = content(published.get(f"/api/{name}.json"))
        schema = document["components"]["schemas"]["Session"]
        assert list(schema["properties"]) == list(PUBLISHED)
        assert "kind" not in json.dumps(schema)
    assert 'class="kind"' not in published.get("/").text


def test_page_and_documents_speak_of_what_is_ours(
    client: FlaskClient, documents: dict[str, Any]
) -> None:
    for document in documents.values():
        assert "kind" in document["components"]["schemas"]["Session"]["required"]
    page = client.get("/").text
    assert '<th role="columnheader" scope="col" class="kind"><button type="button">Kind<' in page
    assert 'class="windowMode"><button type="button">Mode<' in page


def test_of_a_machine_only_what_was_sent_before_is_sent(
    client: FlaskClient, published: FlaskClient, store: Store, token: Issue
) -> None:
    server = Server("here", "here.example", problems=("a",), version="1.0", rights=("b",))
    store.heartbeat(server, Lease("here", "1", "here", 3600))
    url = f"/api/admin/server/{token('alice', admin=True)}"
    whole, text = client.get(url).get_data(as_text=True), published.get(url).get_data(as_text=True)
    before = whole.partition(',"version":')[0] + "}]"
    assert text in (before, f'{{"result":{before}}}', f'{{"result": {before}}}')
    document = published.get("/api/openapi.json").json
    assert document is not None
    assert "version" not in document["components"]["schemas"]["Server"]["properties"]
