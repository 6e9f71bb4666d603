"""Lets pages of the origins that are named in the settings read the API: the CORS protocol of the
Fetch standard."""

from __future__ import annotations

import re
from collections.abc import Iterable

from flask import Flask
from flask_cors import CORS


def allow(app: Flask, origins: Iterable[str]) -> None:
    """Let scripts of exactly these ``origins`` read what is under ``/api/``. Tokens are no cookies:
    nothing is sent by itself."""
    exactly = [re.compile(re.escape(origin) + r"\Z", re.IGNORECASE) for origin in origins]
    if exactly:
        CORS(
            app,
            resources={r"/api/.*": {"origins": exactly}},
            methods=["GET", "POST"],
            max_age=600,
            allow_headers=["Authorization", "Content-Type", "If-None-Match", "X-FASTX-TOKEN"],
            expose_headers=["ETag", "Warning", "X-Revision", "X-Total-Count"],
        )
