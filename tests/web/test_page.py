"""What the page is served as; what it does in a browser stands in tests/page."""

from __future__ import annotations

import re

from flask.testing import FlaskClient


def test_it_loads_from_nowhere_else(client: FlaskClient) -> None:
    answer = client.get("/")
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert b"http" not in answer.data.replace(b"http://www.w3.org", b"")


def test_all_that_it_is_made_of_is_served_below_it(client: FlaskClient) -> None:
    files = set(re.findall(r'(?:src|href)="([^"#]+)"', client.get("/").text))
    assert "static/page.js" in files  # relative, so that it works at any path behind a proxy
    looked_at: set[str] = set()
    while files > looked_at:
        name = min(files - looked_at)
        with client.get(f"/{name}") as file:
            assert file.status_code == 200, name
            looked_at.add(name)
            files |= {
                f"static/{other.decode()}" for other in re.findall(rb'from "\./([^"]+)"', file.data)
            }
    assert "static/live.js" in files
