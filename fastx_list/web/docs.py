"""``/docs``: the API's documents to read, and ``/api/openapi.json`` and ``/api/asyncapi.json``: the
same for programs."""

from __future__ import annotations

from typing import Any

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
    return html(
        render_template("docs.html", http=_openapi(), live=_asyncapi(), follow=_follow, kind=_kind)
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
