"""Rules for headers, for the request line, and for what else comes on a connection."""

from __future__ import annotations

from tests.fuzz.grammar import Asked, alternative, literals
from tests.fuzz.world import ORIGIN

ETAG = b"@etag@"  # stands for the present one, where the target knows it


def _one_of(name: bytes, *values: bytes, weight: float = 1) -> None:
    """Add a header, with one of these values, to those that a request may have."""

    def add(asked: Asked) -> None:
        asked.headers.append((name, asked.pick(*values)))
        if name == b"Content-Length":  # of a body that is another one, or never comes
            asked.is_whole = False
            asked.is_odd()

    add.__name__ = name.decode()
    alternative("header", weight)(add)


_STRANGE = (b"", b"\xff\xfe", b"a" * 8000, "é".encode(), b"\t", b",", b'"', b"%00", b"[", b"://")
_HOSTS = (
    b"[",
    b"a:b",
    b"a b",
    b"x@y",
    b"[::1]:80",
    b"a:99999",
    b"..",
    b"evil.example",
    b"/",
    b"a,b",
)

_one_of(b"If-None-Match", ETAG, b"W/" + ETAG, b'"x", ' + ETAG, b"*", b'"x"', *_STRANGE, weight=4)
_one_of(
    b"Origin", ORIGIN.encode(), b"null", b"http://list.example", b"http://[", *_STRANGE, weight=2
)
_one_of(b"Host", *_HOSTS, *_STRANGE, weight=2)
_one_of(b"X-Forwarded-For", b"1.2.3.4", b"x, y", b"[::1]:9", *_STRANGE)
_one_of(b"X-Forwarded-Proto", b"https", b"javascript", *_STRANGE)
_one_of(b"X-Forwarded-Host", b"evil.example", *_HOSTS, *_STRANGE, weight=2)
_one_of(b"X-Forwarded-Prefix", b"/x", b"//evil.example", b"/../", *_STRANGE, weight=2)
_one_of(b"X-Forwarded-Port", b"443", b"-1", *_STRANGE, weight=0.3)
_one_of(b"Forwarded", b"for=1.2.3.4;host=evil.example", *_STRANGE, weight=0.3)
_one_of(b"Range", b"bytes=0-0", b"bytes=-1", b"bytes=5-1,x", b"items=0-1", *_STRANGE)
_one_of(b"Expect", b"100-continue", b"200-ok", *_STRANGE)
_one_of(b"Upgrade", b"websocket", b"h2c", b"WebSocket, x", *_STRANGE)
_one_of(b"Connection", b"close", b"keep-alive", b"Upgrade", b"Host, Authorization", *_STRANGE)
_one_of(b"Accept-Encoding", b"gzip", b"identity;q=0, *;q=0", *_STRANGE, weight=0.5)
_one_of(b"Accept", b"text/html", b"*/*;q=x", *_STRANGE, weight=0.5)
_one_of(b"X-HTTP-Method-Override", b"POST", b"DELETE", weight=0.3)
_one_of(b"Access-Control-Request-Method", b"POST", b"GET", *_STRANGE)
_one_of(b"Access-Control-Request-Headers", b"Authorization", b"X-FASTX-TOKEN, x", *_STRANGE)
_one_of(b"If-Modified-Since", b"Sat, 29 Oct 2094 19:43:31 GMT", *_STRANGE, weight=0.5)
_one_of(b"Authorization", b"Bearer", b"Bearer ", b"Basic YTpi", b"Bearer a b", *_STRANGE)
_one_of(b"Content-Length", b"0", b"5", b"x", b"-1", b"99999999999999999999", weight=0.5)
_one_of(b"Proxy", b"http://evil.example", weight=0.1)  # CVE-2016-5385
_one_of(b"Script-Name", b"/x", weight=0.3)
_one_of(b"SCRIPT_NAME", b"/x", weight=0.3)


@alternative("header", 0.3)
def _very_many(asked: Asked) -> None:
    asked.headers += [(b"X-%d" % each, b"x") for each in range(asked.pick(80, 110, 1000))]


@alternative("header", 0.3)
def _very_long(asked: Asked) -> None:
    asked.headers.append((asked.pick(b"X" * 9000, b"X"), b"y" * asked.pick(8000, 8190, 60_000)))


@alternative("header", 0.7)
def _malformed(asked: Asked) -> None:
    names = (
        b"X ",
        b" X",
        b"X\t",
        b"",
        b"X\0",
        b"\xff",
        b"X_Y",
        b"X\nA",
        b"(X)",
        b"Content-Length ",
    )
    values = (b"a\rb", b"a\0b", b"a\nb", b"a\r\n folded", b"a\r\n\tb", b"x")
    asked.headers.append((asked.pick(*names), asked.pick(*values)))


literals("version", b"HTTP/1.1", weight=40)
literals("version", b"HTTP/1.0", weight=3)
literals(
    "version", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/1.9", b"", b"HTTP/11", b"http/1.1", b"HTTP/1.1 x"
)
literals("version", b"RTSP/1.0", "HTTP/١.1".encode(), b"HTTP/1.1\t", weight=0.3)


@alternative("connection", 20)
def _alone(asked: Asked) -> None:
    pass


@alternative("connection")
def _pipelined(asked: Asked) -> None:
    for _ in range(asked.pick(1, 2, 20)):
        asked.after += b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"


@alternative("connection")
def _cut_off(asked: Asked) -> None:
    asked.is_whole = False
    asked.raw, asked.after = asked.raw[: asked.random.randint(0, len(asked.raw))], b""


@alternative("connection")
def _noise_behind(asked: Asked) -> None:
    asked.after += asked.noise(1, 100)


@alternative("connection")
def _noise_before(asked: Asked) -> None:
    asked.is_whole = False
    tls = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
    proxied = b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n"
    asked.raw = asked.pick(b"\r\n", b"\n", tls, proxied, b"\0", b" ", asked.noise(1, 9)) + asked.raw


@alternative("connection")
def _line_feeds_only(asked: Asked) -> None:
    asked.is_whole = False
    asked.raw = asked.raw.replace(b"\r\n", b"\n")
