"""``/docs``: the API's documents to read, and ``/api/openapi.json`` and ``/api/asyncapi.json``: the
same for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

from flask import Blueprint, Response, render_template, request
from markupsafe import Markup, escape

from fastx_list.api.addresses import ASYNCAPI, OPENAPI
from fastx_list.api.services import services
from fastx_list.model.json import to_json
from fastx_list.web.page import html

blueprint = Blueprint("docs", __name__)


@blueprint.get(OPENAPI)
def openapi() -> Response:
    """Answer with the OpenAPI document of the HTTP API."""
    return _json(_openapi())


@blueprint.get(ASYNCAPI)
def asyncapi() -> Response:
    """Answer with the AsyncAPI document of the WebSockets."""
    return _json(_asyncapi())


@blueprint.get("/docs")
def docs() -> Response:
    """Answer with a page of both. It needs no script and holds nothing that the documents do
    not."""
    http, live = _openapi(), _asyncapi()
    return html(
        render_template(
            "docs.html", http=http, live=live, groups=_groups(http), follow=_follow, kind=_kind
        )
    )


# Whoever serves lists all day does not pay for the documents' libraries before somebody asks for a
# document.


def _openapi() -> dict[str, Any]:
    from fastx_list.web.openapi import openapi

    settings = services().settings
    return {
        **openapi(settings.envelope, settings.hides_ours),
        "servers": [{"url": request.script_root or "/"}],
    }


def _asyncapi() -> dict[str, Any]:
    from fastx_list.web.asyncapi import asyncapi

    return asyncapi(services().settings.hides_ours)


def _json(document: dict[str, Any]) -> Response:
    return Response(
        to_json(document), headers={"Cache-Control": "no-cache"}, mimetype="application/json"
    )


@dataclass
class _Call:
    """What one address does, whether its token stands in the path or elsewhere."""

    path: str
    summary: str
    example: str
    methods: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)  # of its operations

    def add(self, method: str, operation: dict[str, Any]) -> None:
        note = operation.get("description")
        if method not in self.methods:
            self.methods.append(method)
        if note and note not in self.notes:
            self.notes.append(note)
        self.names.append(operation["operationId"])


@dataclass
class _Group:
    """Calls that go together, and what all of them take and answer, said once."""

    calls: dict[str, _Call] = field(default_factory=dict)
    parameters: dict[str, dict[str, Any]] = field(default_factory=dict)
    bodies: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: dict[str, list[dict[str, Any]]] = field(default_factory=dict)


def _groups(document: dict[str, Any]) -> dict[str, _Group]:
    groups: dict[str, _Group] = {}
    for path, method, operation in _operations(document):
        group = groups.setdefault(operation["tags"][0], _Group())
        address = path.removesuffix("/{token}")
        if address not in group.calls:
            example = _curl(document, method, address, operation)
            group.calls[address] = _Call(path, operation["summary"], example)
        group.calls[address].add(method.upper(), operation)
        for each in operation.get("parameters", []):
            parameter = _follow(document, each)
            group.parameters[parameter["name"]] = parameter
        for kind, media in operation.get("requestBody", {}).get("content", {}).items():
            group.bodies[kind] = media["schema"]
        for status, each in sorted(operation["responses"].items()):
            answer = _follow(document, each)
            if answer not in group.answers.setdefault(status, []):
                group.answers[status].append(answer)
    return groups


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            yield path, method, operation


# What an example asks for, of those parameters that the call takes
_ASKED = {"filter": "clients==0", "since": "2026-11-27", "limit": "5"}


def _curl(document: dict[str, Any], method: str, address: str, operation: dict[str, Any]) -> str:
    """Return a command that makes the call, for a shell in which ``LIST`` is where the list is and
    ``TOKEN`` a token."""
    takes = {_follow(document, each)["name"] for each in operation.get("parameters", [])}
    query = urlencode({name: value for name, value in _ASKED.items() if name in takes})
    words = ["curl"]
    if operation["responses"].keys() & {"401"}:
        words += ["-H", '"Authorization: Bearer $TOKEN"']
    if method == "post":
        schema = operation["requestBody"]["content"]["application/json"]["schema"]
        example = _follow(document, schema)["examples"][0]
        words += ["-H", '"Content-Type: application/json"', "-d", f"'{to_json(example)}'"]
    return " ".join([*words, f'"$LIST{address}{"?" if query else ""}{query}"'])


def _follow(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Return ``node``, or what its ``$ref`` points to."""
    if "$ref" not in node:
        return node
    found = document
    for key in node["$ref"].removeprefix("#/").split("/"):
        found = found[key]
    return _follow(document, found)


def _kind(schema: dict[str, Any]) -> Markup:
    """Return in words what a JSON Schema takes, as far as a line tells."""
    if "$ref" in schema:
        return Markup('<a href="#{0}">{0}</a>').format(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return Markup(" or ").join(_kind(each) for each in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return escape(
            ", ".join(to_json(value) for value in schema.get("enum", [schema.get("const")]))
        )
    if schema["type"] == "array":
        return Markup("array of {}").format(_kind(schema["items"]))
    if "result" in schema.get("properties", {}):
        return Markup("object with result: {}").format(_kind(schema["properties"]["result"]))
    names = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return escape(
        " or ".join(names) + (f", {schema['minimum']} or more" if "minimum" in schema else "")
    )
