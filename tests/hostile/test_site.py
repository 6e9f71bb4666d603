"""The site of docs/deploy/nginx, and those who attack through it."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Answer, needs_root, wait_for
from tests.system.nginx_site import Site
from tests.system.traffic import refusal

TRUSTED = "server_tokens off;\n    client_header_timeout"
# Stands in for addresses that this machine does not have
SPOKEN_FOR = f"set_real_ip_from 127.0.0.0/8; real_ip_header X-Stand-In;\n    {TRUSTED}"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n"
SIZE = len(SMUGGLED)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    needs_root()
    with tempfile.TemporaryDirectory(prefix="fastx-list-") as directory:
        os.chmod(directory, 0o755)
        site = Site(Path(directory))
        try:
            site.start_all()
            yield site
        finally:
            site.stop()
        assert "Traceback" not in site.logged()


def is_ours(answer: Answer, *statuses: int) -> bool:
    """Whether it is an error of one of these statuses, in the API's own form."""
    return (
        answer.status in statuses
        and answer.headers["Content-Type"] == "application/json"
        and answer.headers["Cache-Control"] == "no-store"
        and answer.json["error"].keys() == {"name", "message"}
    )


def test_who_comes_with_a_token_that_has_ended_is_told_so_whatever_others_guess(site: Site) -> None:
    expired, revoked = site.service.token("alice", ttl=-10), site.service.token("bob")
    site.service.run("token", "revoke", revoked)
    guess = f"{site.service.token('mallory')}x"

    def ask(token: str) -> Answer:
        return site.ask(f"/api/list/{token}", source="127.0.0.20")

    wait_for("the end of the token", lambda: ask(revoked).status == 401)
    assert wait_for("the limit", lambda: ask(guess).status == 429)
    for _ in range(50):
        for token, word in ((expired, "expired"), (revoked, "revoked")):
            answer = ask(token)
            assert is_ours(answer, 401) and word in answer.json["error"]["message"]
            assert answer.headers.get_all("WWW-Authenticate") == ["Bearer"]
            assert answer.headers["X-Token-Guessed"] is None
    for url in (site.live_url, site.portal_live_url):
        answer = refusal(site, expired, url, local_addr=("127.0.0.20", 0))
        assert is_ours(answer, 401) and answer.headers["X-Token-Guessed"] is None
        wait_for("the limit", lambda: ask(guess).status == 429)
        assert is_ours(refusal(site, guess, url, local_addr=("127.0.0.20", 0)), 401, 429)
    # Nor has who asks with one that has ended used up anything of what guesses may
    for _ in range(50):
        assert site.ask(f"/api/list/{expired}", source="127.0.0.21").status == 401
    assert site.ask(f"/api/list/{guess}", source="127.0.0.21").status == 401


@pytest.mark.parametrize(
    "first, others, elsewhere",
    [
        (
            "2001:db8:1:2:3:4:5:6",
            ["2001:db8:1:2::", "2001:db8:1:2::9", "2001:db8:1:2:ffff:ffff:ffff:ffff"],
            ["2001:db8:1:3:3:4:5:6", "2001:db8:2:2:3:4:5:6", "2001:db8:1::2"],
        ),
        ("2001:db8::1", ["2001:db8::2", "2001:db8::a:b:c:d"], ["2001:db8:0:1::1", "2001:db9::1"]),
        ("fd00::7:1:2:3:4", ["fd00::7:5:6:7:8"], ["fd00::8:1:2:3:4", "fd00::1"]),
        ("192.0.2.1", ["192.0.2.1"], ["192.0.2.2", "::ffff:192.0.2.3"]),
        ("::ffff:192.0.2.4", ["::ffff:192.0.2.4"], ["::ffff:192.0.2.5"]),
    ],
)
def test_guesses_count_by_network_where_one_has_addresses_without_end(
    site: Site, first: str, others: list[str], elsewhere: list[str]
) -> None:
    guess = f"{site.service.token('mallory')}x"

    def ask(address: str) -> int:
        return site.ask(f"/api/list/{guess}", headers={"X-Stand-In": address}).status

    site.reload(**{TRUSTED: SPOKEN_FOR})
    try:
        wait_for("the limit", lambda: ask(first) == 429)
        for address in others:
            assert 429 in {ask(address) for _ in range(3)}, address
        for address in elsewhere:
            assert ask(address) == 401, address
    finally:
        site.reload()


def post(*lines: bytes, body: bytes = SMUGGLED, end: bytes = b"\r\n") -> bytes:
    head = [b"POST /api/list HTTP/1.1", b"Host: localhost", *lines, b"", b""]
    return end.join(head) + body


def sized(*sizes: bytes) -> bytes:
    return post(*(b"Content-Length: " + size for size in sizes))


def chunked(body: bytes) -> bytes:
    return post(b"Transfer-Encoding: chunked", body=body)


WHOLE = b"%d" % SIZE
CHUNKED = b"Transfer-Encoding: chunked"
LAST = b"0\r\n\r\n"
# A request each, with another in what may be its body. Each is refused, or taken with all of that
SMUGGLERS = {
    "both": post(CHUNKED, b"Content-Length: %d" % (SIZE + 5), body=LAST + SMUGGLED),
    "both, the other way": post(b"Content-Length: 5", CHUNKED, body=LAST + SMUGGLED),
    "two lengths": sized(b"0", WHOLE),
    "two lengths, the other way": sized(WHOLE, b"0"),
    "the same length twice": sized(WHOLE, WHOLE),
    "a list of lengths": sized(b"0, " + WHOLE),
    "a signed length": sized(b"+" + WHOLE),
    "a negative length": sized(b"-1"),
    "a hexadecimal length": sized(b"0x2e"),
    "a length with a space": sized(b"0 " + WHOLE),
    "a length that overflows": sized(b"18446744073709551616"),
    "chunked twice": post(CHUNKED, CHUNKED, body=LAST + SMUGGLED),
    "chunked and something": post(CHUNKED + b", identity", body=LAST + SMUGGLED),
    "something and chunked": post(b"Transfer-Encoding: x, chunked", body=LAST + SMUGGLED),
    "not quite chunked": post(b"Transfer-Encoding: xchunked", body=LAST + SMUGGLED),
    "chunked and a tab": post(b"Transfer-Encoding: \x0bchunked", body=LAST + SMUGGLED),
    "a space before the colon": post(b"Transfer-Encoding : chunked", body=LAST + SMUGGLED),
    "a folded header": post(b"Transfer-Encoding:", b" chunked", body=LAST + SMUGGLED),
    "a folded length": post(b"Content-Length:", b" 0"),
    "a header that begins with a space": post(b" Content-Length: 0"),
    "a zero byte": post(b"X: a\0b", b"Content-Length: 0"),
    "a bare CR": post(b"X: a\rContent-Length: " + WHOLE, b"Content-Length: 0"),
    "a chunk of no size": chunked(b"ZZ\r\n" + SMUGGLED),
    "a chunk of signed size": chunked(b"+0\r\n\r\n" + SMUGGLED),
    "a chunk of negative size": chunked(b"-1\r\n\r\n" + SMUGGLED),
    "a chunk of hexadecimal size": chunked(b"0x0\r\n\r\n" + SMUGGLED),
    "a chunk whose size overflows": chunked(b"10000000000000000\r\n" + SMUGGLED),
    "a chunk that is longer than it says": chunked(b"1\r\nab\r\n0\r\n\r\n" + SMUGGLED),
    "HTTP/0.9 with a body": b"GET /api/list\r\n" + SMUGGLED,
}
# These are well-formed, or may be taken so: all of the other request is part of the body
TAKEN = {
    "bare LF": post(b"Content-Length: " + WHOLE, end=b"\n"),
    "an extension of a chunk": chunked(b"%x;a=b\r\n%b\r\n0;c\r\n\r\n" % (SIZE, SMUGGLED)),
    "a quoted extension": chunked(b'%x;a="\r\n%b\r\n0\r\n\r\n' % (SIZE, SMUGGLED)),
    "spaces around the size": chunked(b"%x  \r\n%b\r\n0\r\n\r\n" % (SIZE, SMUGGLED)),
    "zeros before the size": chunked(b"000%x\r\n%b\r\n0\r\n\r\n" % (SIZE, SMUGGLED)),
    "trailers": chunked(b"%x\r\n%b\r\n0\r\nContent-Length: 0\r\n\r\n" % (SIZE, SMUGGLED)),
    "bare LF in chunks": chunked(b"%x\n%b\n0\n\n" % (SIZE, SMUGGLED)),
    "a GET with a body": sized(WHOLE).replace(b"POST", b"GET"),
}


@pytest.mark.parametrize("name", [*SMUGGLERS, *TAKEN])
def test_no_request_is_smuggled_in_another(site: Site, name: str) -> None:
    for port in (site.port, site.portal_port):
        raw = {**SMUGGLERS, **TAKEN}[name]
        if port == site.portal_port:
            raw = raw.replace(b" /api/list", b" /fastx/api/list", 1)
        answer = site.send(raw, port=port)
        # 401: it came to the list, which missed the token
        assert answer.status in (
            (400, 401) if name in TAKEN else (400, 501) if "0.9" not in name else (0,)
        ), answer
        # What is no request belongs nowhere, and the portal answers it; HTTP/0.9 has no status
        assert port == site.portal_port or answer.status == 0 or is_ours(answer, answer.status), (
            answer
        )
    site.ask("/health?limit=1")
    wait_for("the list's log", lambda: "/health?limit=1" in site.service.processes.log("list"))
    assert "smuggled" not in site.service.processes.log("list")


@pytest.mark.parametrize(
    "target, statuses",
    [
        ("http://evil.example/api/list", (401,)),
        ("https://localhost/api/list", (401,)),
        ("http://evil.example:99999/api/list", (400, 401)),
        ("http:///api/list", (400,)),
        ("http://user@evil.example/api/list", (400, 401)),
        ("//evil.example/api/list", (404,)),
        ("localhost/api/list", (400,)),
        ("*", (400, 404)),
        ("/api/list HTTP/1.1 /x", (400,)),
        ("/api/list\tx", (400,)),
        ("/api/%00list", (400, 404)),
        ("/api/../../list", (400,)),
        ("/%2e%2e/%2e%2e/etc/passwd", (400, 404)),
        ("/api/list%0d%0aX-Injected:%20yes", (401, 404)),
        ("/\xe9", (400, 404)),
    ],
)
def test_an_odd_target_is_nothing_but_a_path(
    site: Site, target: str, statuses: tuple[int, ...]
) -> None:
    answer = site.send(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"))
    assert is_ours(answer, *statuses), answer
    assert answer.headers["X-Injected"] is None and answer.headers["Location"] is None


@pytest.mark.parametrize(
    "head",
    [
        "GET /api/list HTTP/1.1\r\nHost: localhost\r\nHost: evil.example",
        "GET /api/list HTTP/1.1\r\nHost: local host",
        "GET /api/list HTTP/1.1\r\nHost: evil.example/x",
        "GET /api/list HTTP/1.1\r\nHost: [",
        "GET /api/list HTTP/1.1\r\nHost: a\0b",
        "GET /api/list HTTP/1.1",
        "GET  /api/list HTTP/1.1\r\nHost: localhost",
        "get /api/list HTTP/1.1\r\nHost: localhost",
        "G@T /api/list HTTP/1.1\r\nHost: localhost",
        f"{'G' * 9000} /api/list HTTP/1.1\r\nHost: localhost",
        f"{'G' * 70_000} /api/list HTTP/1.1\r\nHost: localhost",
        f"GET /{'x' * 70_000} HTTP/1.1\r\nHost: localhost",
        f"GET /api/list HTTP/1.1\r\nHost: {'x' * 70_000}",
        f"GET /api/list HTTP/1.1\r\nHost: localhost\r\nCookie: {'x' * 9000}",
        f"GET /api/list HTTP/1.1\r\nHost: localhost\r\nCookie: {'x' * 70_000}",
        f"GET /api/list HTTP/1.1\r\nHost: localhost\r\n{'x' * 9000}: x",
        f"GET /api/list HTTP/1.1\r\nHost: localhost\r\n{'x' * 70_000}: x",
        "GET /api/list HTTP/1.1\r\nHost: localhost\r\n"
        + "\r\n".join(f"X-{number}: {'x' * 40}" for number in range(3000)),
        "GET /api/list HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + "x" * 9000,
        "GET /api/list HTTP/1.1\r\nHost: localhost\r\nExpect: nonsense",
        "GET /api/list HTTP/1.1\r\nHost: localhost\r\nRange: bytes=0-" + ",0-" * 2000,
        "GET /api/list HTTP/9.9\r\nHost: localhost",
    ],
    ids=range(22),
)
def test_what_is_odd_or_too_long_is_refused_in_our_form(site: Site, head: str) -> None:
    answer = site.send(f"{head}\r\n\r\n".encode("latin-1"))
    if answer.status == 0 and len(head) > 64_000:
        return  # hung up on; what nginx does not read resets the connection, as TCP has it
    assert is_ours(answer, 400, 401, 405, 414, 417, 431, 501, 505), answer


def test_a_body_in_broken_or_endless_chunks_is_refused_in_our_form(site: Site) -> None:
    token = site.service.token("alice")
    head = f"POST /api/list/{token} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
    for body in (
        b"ZZ\r\n",
        b"5\r\nabcdeX\r\n",
        b"5\r\nabcde\r\nZ\r\n",
        b"-5\r\nabcde\r\n0\r\n\r\n",
    ):
        for prefix, port in ((b"", site.port), (b"/fastx", site.portal_port)):
            raw = head.encode().replace(b" /api", b" " + prefix + b"/api", 1)
            answer = site.send(raw + b"\r\n" + body, port=port)
            assert is_ours(answer, 400) and "HTTP" in answer.json["error"]["message"], answer.body
    extension = b"1;" + b"x" * 70_000 + b"\r\na\r\n"
    answer = site.send(head.encode() + b"\r\n" + 3 * extension + LAST)
    assert answer.status in (0, 200, 400, 413), answer


def test_what_is_wrong_with_parameters_is_said_in_the_applications_own_words(site: Site) -> None:
    token = site.service.token("alice")
    for prefix, port in (("", site.port), ("/fastx", site.portal_port)):
        body = json.dumps({"limit": "many"}).encode()
        answer = site.ask(
            f"{prefix}/api/list/{token}",
            "POST",
            body,
            {"Content-Type": "application/json"},
            port=port,
        )
        assert is_ours(answer, 400) and "limit" in answer.json["error"]["message"]
        answer = refusal(
            site,
            "",
            f"wss://localhost:{port}{prefix}/api/list?snapshot=maybe&x=",
            additional_headers={"Authorization": f"Bearer {token}"},
        )
        assert is_ours(answer, 400) and "snapshot" in answer.json["error"]["message"]
