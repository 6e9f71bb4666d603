"""The programs in docs/portal.md: taken from there as they stand, and run by their own interpreters
against real servers."""

from __future__ import annotations

import http.server
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, expect

from fastx_list.model.session import Session
from fastx_list.store import Store
from tests.conftest import session
from tests.support import (
    Answer,
    Processes,
    Service,
    end,
    fetch,
    free_port,
    lacks_package,
    program,
    wait_for,
)

Observe = Callable[..., None]

DOCUMENT = (Path(__file__).parents[1] / "docs" / "portal.md").read_text(encoding="utf-8")
GSON = Path("/usr/share/java/gson.jar")
NODE_WS = Path("/usr/share/nodejs/ws")
FOLLOWERS = ("sessions.pl", "Follow.java", "sessions.mjs", "sessions.py")


def blocks(language: str) -> list[str]:
    """Return the document's blocks of code in ``language``."""
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def programs() -> dict[str, str]:
    """Return the document's programs by the file name that each has in its first two lines."""
    found = {}
    for language in ("php", "perl", "java", "js", "html", "python"):
        for text in blocks(language):
            name = re.search(
                r"\b\w+\.(php|pl|java|mjs|html|py)\b", "".join(text.splitlines(keepends=True)[:2])
            )
            assert name and name[0] not in found
            found[name[0]] = text
    return found


def test_each_is_short_and_nothing_is_left_out() -> None:
    lengths = {name: len(text.splitlines()) for name, text in programs().items()}
    assert set(lengths) == {"sessions.php", "Sessions.java", "live.html", *FOLLOWERS}
    assert max(lengths.values()) < 40
    assert DOCUMENT.count("\n```") == 2 * (len(lengths) + len(blocks("sh")))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the programs, and with the key pair, made as the document says."""
    folder = tmp_path_factory.mktemp("programs")
    for name, text in programs().items():
        (folder / name).write_text(text, encoding="utf-8")
    program("openssl", "openssl")
    for command in re.findall(r"^openssl .*", DOCUMENT, re.MULTILINE):
        subprocess.run(["sh", "-ec", command], cwd=folder, check=True, capture_output=True)
    if NODE_WS.exists():  # as "npm install ws" would
        (folder / "node_modules").mkdir()
        (folder / "node_modules" / "ws").symlink_to(NODE_WS)
    return folder


@pytest.fixture(scope="module")
def portal_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def listing(
    folder: Path, portal_port: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """The list and the sidecar, which know the portal's public key and its origin."""
    directory = tmp_path_factory.mktemp("listing")
    processes = Processes(directory)
    environ = {
        "FASTX_LIST_SERVER_ID": "here",
        "FASTX_LIST_TOKEN_PUBLIC_KEY": str(folder / "portal.pub"),
        "FASTX_LIST_ALLOWED_ORIGINS": f"http://localhost:{portal_port}",
        "WEB_CONCURRENCY": "1",  # each worker has its own last known state
    }
    service = Service(directory / "state", processes, environ)
    service.start_list()
    service.start_live()
    yield service
    processes.stop()


@pytest.fixture
def environ(listing: Service) -> dict[str, str]:
    """The running list's settings, so that ``observe`` writes to its store."""
    return listing.environ


@dataclass
class Portal:
    """Starts the programs and reads what they print; nothing of that may hold a token."""

    folder: Path
    service: Service
    processes: Processes

    def environ(self, **others: str) -> dict[str, str]:
        environ = {
            **os.environ,
            "LC_ALL": "C.UTF-8",
            "LIST_URL": self.service.url,
            "LIST_LIVE_URL": self.service.live_url.removesuffix("/api/list"),
            "LIST_SECRET_FILE": str(self.service.state / "secret"),
            "LIST_KEY_FILE": str(self.folder / "portal.key"),
        }
        return environ | others

    def start(self, name: str, *arguments: str, **environ: str) -> subprocess.Popen[bytes]:
        command = [*interpreter(name, self.folder), *arguments]
        return self.processes.start(command, name, self.environ(**environ), cwd=self.folder)

    def log(self, name: str) -> str:
        """Return the lines that the program has finished."""
        log = self.processes.log(name)
        assert "eyJ" not in log  # which is how every token begins
        return log[: log.rfind("\n") + 1]

    def shown(self, name: str) -> dict[str, str]:
        """Return what the program shows now: the rest of a session's line by its id."""
        lines: dict[str, str] = {}
        for line in self.log(name).splitlines():
            session_id, tab, rest = line.partition("\t")
            if re.match(r"\d+ of \d+ sessions|live:$", line):
                lines = {}
            elif rest == "ended":
                lines.pop(session_id, None)
            elif tab:
                lines[session_id] = rest
        return lines

    def lists(self, name: str) -> int:
        """Return how many lists, each under its heading, the program has printed."""
        return len(re.findall(r"^\d+ of \d+ sessions", self.log(name), re.MULTILINE))


def interpreter(name: str, folder: Path) -> list[str]:
    """Return the command that runs the program ``name``, as the document says."""
    if name == "sessions.pl":
        return [program("perl", "perl"), name]
    if name == "sessions.py":
        return [sys.executable, "-u", name]
    if name == "sessions.mjs":
        node = program("node", "nodejs")
        native = subprocess.run(
            [node, "-p", "typeof WebSocket"], capture_output=True, text=True, check=True
        ).stdout.strip()
        if native == "undefined" and not NODE_WS.exists():
            lacks_package("node-ws", "this node has no WebSocket and there is no ws")
        return [node, name]
    compiler, java = (
        program("javac", "default-jdk-headless"),
        program("java", "default-jdk-headless"),
    )
    if not GSON.exists():
        lacks_package("libgoogle-gson-java", "there is no Gson")
    if name == "Sessions.java":
        return [java, "-cp", str(GSON), name]
    if not (folder / "Follow.class").exists():
        subprocess.run(
            [compiler, "-cp", GSON, "Sessions.java", "Follow.java"],
            cwd=folder,
            check=True,
            capture_output=True,
        )
    return [java, "-cp", f"{GSON}:.", "Follow"]


@pytest.fixture
def portal(folder: Path, listing: Service, processes: Processes) -> Portal:
    return Portal(folder, listing, processes)


def desktop(session_id: str, started: int, login: str = "alice", **facts: Any) -> Session:
    known = {
        "geometry": "800x600",
        "window_mode": "desktop",
        "command": "startxfce4",
        "clients": 0,
        "started": started,
    }
    return session(session_id, login, **{**known, **facts})


THESIS = desktop("thesis", 7, params={"name": "Größe <b>\U0001f600"}, clients=2)
NIGHT = [desktop(f"night{number}", number) for number in range(1, 6)]
OTHERS = [desktop("rootless", 8, window_mode="rootless"), desktop("of-bob", 9, "bob")]


@pytest.mark.parametrize("name", [*FOLLOWERS, "Sessions.java"])
def test_it_lists_only_the_logins_newest_that_match(
    name: str, portal: Portal, observe: Observe
) -> None:
    observe(*NIGHT, THESIS, *OTHERS)
    portal.start(name, "alice")
    first = wait_for(
        "five sessions",
        lambda: re.search(r"^5 of 6 sessions\n((?:.+\n){5})", portal.log(name), re.MULTILINE),
    )
    nights = [f"night{number}\tstartxfce4\t800x600\t0" for number in (5, 4, 3, 2)]
    assert first[1].splitlines() == ["thesis\tGröße <b>\U0001f600\t800x600\t2", *nights]


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_shows_what_changes(name: str, portal: Portal, observe: Observe) -> None:
    observe(*NIGHT[:3], *OTHERS)
    portal.start(name, "alice")
    wait_for("three sessions", lambda: portal.shown(name).keys() == {"night1", "night2", "night3"})
    changed = desktop("night3", 3, clients=1, geometry="1024x768")
    observe(NIGHT[1], changed, THESIS, *[replace(other, clients=1) for other in OTHERS])
    expected = {"night2": "0", "night3": "1", "thesis": "2"}
    wait_for(
        "the changes",
        lambda: {key: line.split("\t")[2] for key, line in portal.shown(name).items()} == expected,
    )
    assert portal.shown(name)["night3"] == "startxfce4\t1024x768\t1"
    assert "rootless" not in portal.log(name) and "of-bob" not in portal.log(name)


def test_what_polls_is_sent_nothing_while_nothing_changes(
    portal: Portal, listing: Service, observe: Observe
) -> None:
    observe(THESIS)
    portal.start("sessions.pl", "alice")
    before = listing.processes.log("list").count('" 304 ')
    wait_for(
        "two answers without a body",
        lambda: listing.processes.log("list").count('" 304 ') >= before + 2,
    )
    assert portal.lists("sessions.pl") == 1
    observe(NIGHT[0])
    wait_for("the change", lambda: portal.shown("sessions.pl").keys() == {"night1"})
    assert portal.lists("sessions.pl") == 2


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_stops_and_says_why_if_its_token_is_refused(
    name: str, portal: Portal, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(os.urandom(32).hex() + "\n")
    key = [
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        str(tmp_path / "key"),
    ]
    subprocess.run(key, check=True, capture_output=True)
    started = portal.start(
        name,
        "alice",
        LIST_SECRET_FILE=str(tmp_path / "secret"),
        LIST_KEY_FILE=str(tmp_path / "key"),
    )
    assert started.wait(60) != 0
    assert "its signature is not of this server's key" in portal.log(name)
    assert portal.lists(name) == 0


def test_all_go_on_after_outages(
    folder: Path, listing: Service, processes: Processes, tmp_path: Path, observe: Observe
) -> None:
    database = tmp_path / "database"
    database.write_bytes(b"no database" * 1000)
    service = Service(
        listing.state, processes, {**listing.environ, "FASTX_LIST_STORE": f"sqlite:///{database}"}
    )
    portal = Portal(folder, service, processes)
    observe(THESIS)
    service.start_list()
    service.start_live()
    started = [portal.start(name, "alice") for name in FOLLOWERS]
    for name in FOLLOWERS:
        wait_for(
            f"the 503 of {name}", lambda: re.search("503|cannot be read yet", portal.log(name))
        )
    database.unlink()
    database.symlink_to(listing.state / "sessions.db")
    for name in FOLLOWERS:
        wait_for(f"the list of {name}", lambda: portal.shown(name).keys() == {"thesis"})
    for name in FOLLOWERS[1:]:
        wait_for(f"{name} to follow", lambda: "live:" in portal.log(name))
    lists = {name: portal.lists(name) for name in FOLLOWERS[1:]}
    end(service.running["live"])
    service.start_live()
    for name in lists:
        wait_for(f"{name} to connect again", lambda: portal.lists(name) > lists[name])
    observe(NIGHT[0])
    for name in FOLLOWERS:
        wait_for(f"the change in {name}", lambda: portal.shown(name).keys() == {"night1"})
    for each in started:
        end(each)  # before the servers, to which they would come back


def test_followers_outlive_their_tokens(
    folder: Path, listing: Service, processes: Processes, tmp_path: Path, observe: Observe
) -> None:
    short = tmp_path / "short"
    shutil.copytree(folder, short, symlinks=True, ignore=shutil.ignore_patterns("*.class"))
    for name in ("Sessions.java", "sessions.mjs", "sessions.py"):
        text, changes = re.subn(r"\+ 300\b", "+ 5", programs()[name])
        assert changes == 1
        (short / name).write_text(text, encoding="utf-8")
    portal = Portal(short, listing, processes)
    observe(THESIS)
    for name in FOLLOWERS[1:]:
        portal.start(name, "alice")
    for name in FOLLOWERS[1:]:
        wait_for(f"{name} to connect with a second token", lambda: portal.lists(name) >= 2)
        assert "4401" in portal.log(name)


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


@pytest.fixture
def website(listing: Service, portal_port: int) -> Iterator[list[str]]:
    """A portal of another origin: it serves the page, and at ``/token`` the last token in a list,
    which is returned."""
    page = programs()["live.html"]
    for address, own in (
        ("http://127.0.0.1:8000", listing.url),
        ("ws://127.0.0.1:8001/api/list", listing.live_url),
    ):
        assert page.count(address) == 1
        page = page.replace(address, own)
    tokens: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            known = {"/": page, "/token": tokens[-1] if tokens else None}
            body = known.get(self.path)
            self.send_response(200 if body else 401)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write((body or "").encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", portal_port), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield tokens
        server.shutdown()
        thread.join()


def test_the_browser_follows_until_the_user_logs_out(
    browser: Browser,
    website: list[str],
    portal_port: int,
    listing: Service,
    observe: Observe,
    store: Store,
) -> None:
    observe(
        NIGHT[0],
        desktop("hostile", 7, command="<img src=x onerror=document.title='taken'>"),
        *OTHERS,
    )
    website.append(listing.token("alice"))
    page = browser.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(f"http://localhost:{portal_port}/")
    shown = expect(page.locator("#list li"))
    shown.to_have_text(
        [
            "<img src=x onerror=document.title='taken'>, 800x600, 0 clients",
            "startxfce4, 800x600, 0 clients",
        ]
    )
    assert page.title() == "My sessions"
    observe(desktop("night1", 1, clients=1), *OTHERS)
    shown.to_have_text(["startxfce4, 800x600, 1 clients"])
    end(listing.running["live"])
    expect(page.locator("#state")).to_have_text("connecting again …")
    observe()
    listing.start_live()
    expect(page.locator("#state")).to_have_text("live", timeout=20_000)
    shown.to_have_count(0)
    revoked = jwt.decode(website[-1], options={"verify_signature": False})
    store.revoke(revoked["jti"], revoked["exp"])
    refused = "Not up to date: token: it has been revoked; get a new one"
    expect(page.locator("#state")).to_have_text(refused, timeout=20_000)
    website.clear()
    expect(page.locator("#state")).to_have_text("Please log in again.", timeout=20_000)
    page.close()
    assert complaints == []
