"""``/``: the page that follows the list in a browser. It holds no data; its script asks the API
like any other client."""

from __future__ import annotations

from flask import Blueprint, Response, render_template, request

from fastx_list.api.elsewhere import host_of_request
from fastx_list.api.services import services
from fastx_list.model.session import BYTES, COLUMNS, MEMBERS, MILLISECONDS, PERCENT, PUBLISHED
from fastx_list.text import version

blueprint = Blueprint("page", __name__)

# What the page shows otherwise than as it is, by how
_SHOWN_AS = {
    kind: [name for name, member in MEMBERS.items() if member.unit == unit]
    for kind, unit in (("times", MILLISECONDS), ("sizes", BYTES), ("percents", PERCENT))
}


@blueprint.get("/")
def page() -> Response:
    """Answer with the page, which may load from and connect to nothing but this host."""
    settings = services().settings
    live_port = settings.live_port
    hidden = MEMBERS.keys() - PUBLISHED if settings.hides_ours else frozenset()
    live = f"{host_of_request()}:{live_port}" if live_port else request.host
    return html(
        render_template(
            "page.html",
            live_port=live_port or "",
            connect=settings.connect_url or "",
            columns={name: label for name, label in COLUMNS.items() if name not in hidden},
            others={
                name: member.label
                for name, member in MEMBERS.items()
                if name == member.name
                and name not in {"params", "id", "clients", *COLUMNS, *hidden}
            },
            # Params are filtered by their own names, and of two spellings one is offered
            members={
                name: member.label
                for name, member in MEMBERS.items()
                if name == member.name and name != "params" and name not in hidden
            },
            shown_as=_SHOWN_AS,
            place=settings.server_id,
            version=version(),
        ),
        f"script-src 'self'; connect-src 'self' ws://{live} wss://{live}; ",
    )


def html(text: str, policy: str = "") -> Response:
    """Return a page that may load its own style and images, what ``policy`` (CSP directives) lets
    it besides, and nothing else."""
    response = Response(text, mimetype="text/html")
    response.headers["Content-Security-Policy"] = (
        f"default-src 'none'; style-src 'self'; img-src 'self'; {policy}base-uri 'none';"
        " form-action 'none'; frame-ancestors 'none'"
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Cache-Control"] = "no-cache"
    return response
