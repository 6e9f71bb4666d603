"""A FastX-compatible session list for Linux remote desktops: the two application factories."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

# gunicorn reads its settings out of this package before gevent's worker patches the standard
# library, and what is imported by then is not patched. So this module imports nothing more at its
# top.
if TYPE_CHECKING:
    from flask import Flask

    from fastx_list.api.services import Services
    from fastx_list.replica.replica import Replica
    from fastx_list.replica.view import E

MAX_BODY_BYTES = 64 * 1024


def create_app(environ: Mapping[str, str] | None = None) -> Flask:
    """Return the list: ``/api/list``, ``/api/params``, ``/api/admin``, the page. ``environ`` stands
    in for the environment.

    Raises :class:`fastx_list.config.ConfigError` for a setting that cannot be used.
    """
    from werkzeug.exceptions import MethodNotAllowed, NotFound
    from werkzeug.routing import WebsocketMismatch

    from fastx_list.api import elsewhere, health, metrics
    from fastx_list.api.counters import count_requests
    from fastx_list.api.proxies import behind_proxies
    from fastx_list.replica.owed import in_a_thread
    from fastx_list.replica.view import Entry
    from fastx_list.web import admin, code, cors, docs, events, history, list, page, params
    from fastx_list.web.short_cut import short_cut

    app, service, _ = _create("list", environ, Entry, in_a_thread)
    for module in (list, params, code, admin, history, events, page, docs, health, metrics):
        app.register_blueprint(module.blueprint)
    for error in (WebsocketMismatch, NotFound, MethodNotAllowed):
        app.register_error_handler(error, elsewhere.is_live)
    count_requests(app)
    cors.allow(app, service.settings.allowed_origins)
    # The short cut first, which is not concerned with who has passed the request on
    other = behind_proxies(app.wsgi_app, service.settings.trusted_proxies)
    app.wsgi_app = short_cut(other, service)  # type: ignore[method-assign, assignment]
    return app


def create_live_app(environ: Mapping[str, str] | None = None) -> Flask:
    """Return the sidecar: the WebSockets. Only gunicorn's gevent worker can serve it.

    Raises :class:`fastx_list.config.ConfigError` for a setting that cannot be used, and
    :class:`gunicorn.errors.AppImportError` in a gunicorn with other workers.
    """
    from werkzeug.exceptions import MethodNotAllowed, NotFound
    from werkzeug.routing import WebsocketMismatch

    from fastx_list.api import elsewhere, health, metrics
    from fastx_list.api.counters import count_requests
    from fastx_list.api.proxies import behind_proxies
    from fastx_list.live import handshake, sidecar
    from fastx_list.live.frames import FramedEntry
    from fastx_list.live.server import check_worker
    from fastx_list.live.short_cut import short_cut

    check_worker()
    tells = {"connections": "webSockets", "slowClientsDropped": "slowClientsDropped"}
    app, service, replica = _create("live", environ, FramedEntry, sidecar.in_a_thread, tells)
    live = app.extensions[sidecar.EXTENSION] = sidecar.Live(service, replica)
    for error in (WebsocketMismatch, NotFound, MethodNotAllowed):
        app.register_error_handler(error, elsewhere.is_list)
    for module in (handshake, health, metrics):
        app.register_blueprint(module.blueprint)
    count_requests(app)
    # The short cut last, as who has passed a handshake on says what its host is
    usual = short_cut(app.wsgi_app, service, live)
    app.wsgi_app = behind_proxies(usual, service.settings.trusted_proxies)  # type: ignore[method-assign, assignment]
    return app


def _create(
    name: str,
    environ: Mapping[str, str] | None,
    entry: type[E],
    apart: Callable[[Callable[[], None]], object],
    tells: Mapping[str, str] = {},
) -> tuple[Flask, Services, Replica[E]]:
    from flask import Flask

    from fastx_list import config, redaction
    from fastx_list.api import error_response
    from fastx_list.api.addresses import bare_options
    from fastx_list.api.request import ApiRequest
    from fastx_list.api.services import EXTENSION, Services
    from fastx_list.replica.replica import Replica
    from fastx_list.store import open_store
    from fastx_list.tokens import Tokens

    redaction.install()
    settings = config.load(environ)
    store = open_store(settings.store, serving=True, keep=settings.keep)
    app = Flask(
        f"fastx_list.{name}",
        root_path=f"{__path__[0]}/web",
        static_folder="static" if name == "list" else None,
    )
    # No redirects: one would repeat the token that stands in the address
    app.url_map.strict_slashes = app.url_map.merge_slashes = False
    # Else a Host that is malformed would be refused by Flask, and not by the short cut
    app.config["SERVER_NAME"] = "localhost"
    app.request_class = ApiRequest
    # None of ours is a coroutine, and finding that out takes a twenty-fifth of a handshake
    app.ensure_sync = lambda function: function  # type: ignore[method-assign, assignment]
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    replica = Replica(store, entry, apart, settings.hides_ours)
    tokens, follows = Tokens(settings), name == "live"
    service = Services(settings, store, replica, tokens, follows, tells)
    app.extensions[EXTENSION] = service
    error_response.register(app)
    app.after_request(bare_options)
    return app, service, replica
