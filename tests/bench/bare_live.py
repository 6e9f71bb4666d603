"""What the live benchmarks compare with: flask-sock on gevent, written the plain way. ``/publish``
sends to all others."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask_sock import Sock


def create_app() -> Flask:
    app, sock, subscribers = Flask(__name__), Sock(), set[Any]()

    @sock.route("/publish")
    def publish(ws: Any) -> None:
        while True:
            text = ws.receive().partition("\n")[2]
            for subscriber in list(subscribers):
                subscriber.send(text)

    @sock.route("/<login>")
    def follow(ws: Any, login: str) -> None:
        subscribers.add(ws)
        try:
            ws.receive()
        finally:
            subscribers.discard(ws)

    sock.init_app(app)
    return app
