"""What the benchmarks compare with: a Flask route and a gevent server that do nothing but
answer."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from socket import socket

from flask import Flask, Response


def create_app() -> Flask:
    """Return a Flask application that answers every ``/api/list/…`` with the bytes of the file
    ``$BENCH_BODY``."""
    app = Flask(__name__)
    body = Path(os.environ["BENCH_BODY"]).read_bytes()

    @app.get("/api/list/<token>")
    def listing(token: str) -> Response:
        return Response(body, mimetype="application/json")

    return app


def echo(port: int) -> None:
    """Send back whatever comes in on ``port``, in one gevent process."""
    from gevent.server import StreamServer

    def handle(connection: socket, address: object) -> None:
        while data := connection.recv(65536):
            connection.sendall(data)

    StreamServer(("127.0.0.1", port), handle).serve_forever()


if __name__ == "__main__":
    echo(int(sys.argv[1]))
