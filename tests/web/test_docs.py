"""The API's documents to read: the page, and what is served beside it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from flask.testing import FlaskClient

from fastx_list import create_app
from tests.answers import content


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
