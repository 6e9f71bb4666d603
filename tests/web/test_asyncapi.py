"""The document of the WebSockets: whole and true."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator
from typing import Any

from jsonschema import Draft202012Validator
from websockets.sync.client import connect

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store, open_store
from tests.answers import follow
from tests.conftest import session
from tests.support import Service


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


def test_the_asyncapi_document_is_valid(documents: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on names of its own
        from asyncapi3.models import AsyncAPI3

    AsyncAPI3.model_validate(documents["asyncapi"])
    for message in documents["asyncapi"]["components"]["messages"].values():
        Draft202012Validator.check_schema(message["payload"])
    for reference in references(documents["asyncapi"]):
        follow(documents["asyncapi"], reference)


def test_the_sidecar_sends_what_the_document_says(
    served: Service, documents: dict[str, Any]
) -> None:
    document = documents["asyncapi"]
    store: Store = open_store(f"sqlite:///{served.state / 'sessions.db'}")
    token = served.token("alice", admin=True)
    for name, channel in document["channels"].items():
        messages = [follow(document, each["$ref"]) for each in channel["messages"].values()]
        message, bookmark = messages
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
        with connect(f"{url}&since=unknown&bookmarks=1") as socket:
            told = [json.loads(socket.recv(timeout=20))]
            assert told == [{"revision": None}]
            # Another worker of the sidecar may tell of what it does not know to be over yet
            while "id" in told[-1] or told[-1]["revision"] is None:
                told.append(json.loads(socket.recv(timeout=20)))
            for each in (told[0], told[-1]):
                assert Draft202012Validator(bookmark["payload"]).is_valid(each)
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
