"""The page in PHP."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.portal.programs import NIGHT, OTHERS, THESIS, Observe, Portal, desktop
from tests.support import Answer, Service, fetch, free_port, program, wait_for


@pytest.fixture
def php(portal: Portal, tmp_path: Path) -> Callable[..., str]:
    """Serves the PHP page with PHP's own server to ``REMOTE_USER``, and returns its address."""

    def serve(**environ: str) -> str:
        address = f"127.0.0.1:{free_port()}"
        command = [
            program("php", "php-cli"),
            "-d",
            f"session.save_path={tmp_path}",
            "-S",
            address,
            "sessions.php",
        ]
        portal.processes.start(
            command, "sessions.php", portal.environ(**environ), cwd=portal.folder
        )
        wait_for("PHP's server", lambda: _accepts(address))
        return f"http://{address}/"

    return serve


def _accepts(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port))).close()
    except OSError:
        return False
    return True


def items(answer: Answer) -> list[str]:
    assert answer.status == 200 and answer.headers["Refresh"] == "5"
    return re.findall("<li>(.*)</li>", answer.body.decode())


def test_the_php_page_shows_a_page_at_a_time(php: Callable[..., str], observe: Observe) -> None:
    observe(
        *[
            desktop(f"night{number}", number, command=f"night {number}")
            for number in range(100, 122)
        ],
        *OTHERS,
        desktop("hostile", 200, command="<script>\"Größe'", clients=2),
    )
    url = php(REMOTE_USER="alice")
    first = fetch(url)
    assert items(first)[:2] == [
        "&lt;script&gt;&quot;Größe&#039;, 800x600, 2 clients",
        "night 121, 800x600, 0 clients",
    ]
    assert (
        len(items(first)) == 20
        and b"20 of 23 sessions" in first.body
        and b'href="?start=20"' in first.body
    )
    second = fetch(f"{url}?start=20")
    assert [item.split(",")[0] for item in items(second)] == ["night 102", "night 101", "night 100"]
    assert b"href" not in second.body
    for odd in ("-1", "x", "9" * 30):
        assert b" of 23 sessions" in fetch(f"{url}?start={odd}").body


def test_the_php_page_keeps_what_has_not_changed(
    php: Callable[..., str], portal: Portal, listing: Service, observe: Observe
) -> None:
    observe(THESIS)
    url = php(REMOTE_USER="alice")
    first = fetch(url)
    visitor = {"Cookie": first.headers["Set-Cookie"].partition(";")[0]}
    before = listing.processes.log("list").count('" 304 ')
    assert items(fetch(url, headers=visitor)) == items(first) != []
    wait_for("the 304", lambda: listing.processes.log("list").count('" 304 ') == before + 1)
    observe(NIGHT[0])
    assert items(fetch(url, headers=visitor)) == ["startxfce4, 800x600, 0 clients"]
    portal.log("sessions.php")


def test_the_php_page_says_what_is_wrong(
    php: Callable[..., str], portal: Portal, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(os.urandom(32).hex())
    refused = fetch(php(REMOTE_USER="alice", LIST_SECRET_FILE=str(tmp_path / "secret")))
    assert (
        refused.status == 502
        and b"token: its signature is not of this server&#039;s key" in refused.body
    )
    away = fetch(php(REMOTE_USER="alice", LIST_URL=f"http://127.0.0.1:{free_port()}"))
    assert away.status == 502 and b"no connection" in away.body and away.headers["Refresh"] == "5"
    assert "Connection refused" in portal.log("sessions.php")
    assert fetch(php(REMOTE_USER="")).body == b"Nobody is logged in."


def test_the_php_page_says_when_it_may_be_out_of_date(
    php: Callable[..., str], listing: Service, observe: Observe
) -> None:
    observe(THESIS)
    url = php(REMOTE_USER="alice")
    known = items(fetch(url))
    database = listing.state / "sessions.db"
    database.rename(listing.state / "away")
    database.mkdir()
    try:
        answer = wait_for("a last known state", lambda: _with_hint(fetch(url)))
        assert items(answer) == known
    finally:
        database.rmdir()
        (listing.state / "away").rename(database)
    wait_for("the present state", lambda: not _with_hint(fetch(url)))


def _with_hint(answer: Answer) -> Answer | None:
    return answer if b"This may be out of date." in answer.body else None
