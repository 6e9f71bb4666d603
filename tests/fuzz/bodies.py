"""Rules for bodies, and for how they are framed (RFC 9112 section 6)."""

from __future__ import annotations

import gzip
import json
from typing import Any
from urllib.parse import unquote

from tests.fuzz.grammar import Asked, alternative, literals
from tests.fuzz.questions import PARAMS
from tests.fuzz.world import PARAM_NAMES, canary, session_id

_FORM = b"application/x-www-form-urlencoded"
_JSON = b"application/json"
_BOUNDARY = b"fuzzed"


def fill(asked: Asked) -> None:
    """Give it a body, as often as one is usual, and a framing."""
    if asked.method != b"POST" and not asked.chance(0.05):
        return
    asked.is_odd()
    is_call = asked.address == PARAMS and asked.chance(0.8)
    kind, content = asked.say("params call" if is_call else "body")
    if asked.chance(0.08):
        kind = asked.say("content type")
    if kind:
        asked.headers.append((b"Content-Type", kind))
    if asked.chance(0.03):
        coding = asked.pick(b"gzip", b"br", b"identity", b"x")
        asked.headers.append((b"Content-Encoding", coding))
        content = gzip.compress(content, mtime=0) if coding == b"gzip" else content
    asked.body = content
    asked.say("framing in process" if asked.target == "process" else "framing")


literals("content type", b"text/plain", b"", _JSON + b"; charset=utf-16", b"application/json;;=")
literals("content type", b"multipart/form-data", b"multipart/form-data; boundary=" + b"x" * 300)
literals("content type", b"application/x-www-form-urlencoded; charset=nonsense", b"\xff/\xfe")
literals("content type", _FORM + b"; charset=iso-8859-1", _FORM + b"; charset=idna", _FORM)
literals("content type", b"application/json, text/plain", b"multipart/mixed; boundary=fuzzed")


def _pairs(asked: Asked) -> list[tuple[bytes, bytes]]:
    """Return names and values of a form, percent-encoded."""
    pairs = list(asked.form)
    for _ in range(asked.random.choice((0, 0, 1, 2))):
        name, _, value = asked.say("parameter").partition(b"=")
        pairs.append((name, value))
    return pairs


@alternative("body", 2)
def _none(asked: Asked) -> tuple[bytes, bytes]:
    return b"", b""


@alternative("body", 4)
def _form(asked: Asked) -> tuple[bytes, bytes]:
    return _FORM, b"&".join(name + b"=" + value for name, value in _pairs(asked))


@alternative("body", 2)
def _multipart(asked: Asked) -> tuple[bytes, bytes]:
    boundary = asked.say("boundary")
    parts = []
    for name, value in _pairs(asked):
        field = asked.pick(b'name="%s"', b'name="%s"; filename="x"', b"name=%s", b"name*=utf-8''%s")
        head = b"Content-Disposition: form-data; " + field % name
        parts.append(b"--%s\r\n%s\r\n\r\n%s\r\n" % (boundary, head, value))
    end = b"--" + boundary + asked.pick(b"--\r\n", b"--\r\n", b"--", b"", b"\r\n")
    return b"multipart/form-data; boundary=" + _BOUNDARY, b"".join(parts) + end


literals("boundary", _BOUNDARY, weight=6)
literals("boundary", b"another", b"", _BOUNDARY + b"\r", b"\xff")


@alternative("body", 4)
def _json_object(asked: Asked) -> tuple[bytes, bytes]:
    names = (
        "limit",
        "start",
        "sortBy",
        "sortReverse",
        "filter",
        "snapshot",
        "_",
        "filter[]",
        "filters",
        "Limit",
    )
    value: dict[str, Any] = {
        name.decode("latin-1"): unquote(text.decode("latin-1")) for name, text in asked.form
    }
    for _ in range(asked.random.choice((0, 1, 1, 2, 3))):
        value[asked.pick(*names)] = asked.say("JSON value")
    return _JSON, json.dumps(value).encode()


@alternative("body")
def _other_json(asked: Asked) -> tuple[bytes, bytes]:
    texts: tuple[bytes, ...] = (
        b"[]",
        b"null",
        b'"x"',
        b"1e999",
        b"NaN",
        b'{"limit":NaN}',
        b'{"limit":1',
        b"{}{}",
        b"\xff",
    )
    texts += (
        b'{"a":1,"a":2}',
        b'{"limit":%s}' % (b"9" * 5000),
        b'{"start":1e400}',
        b"\0",
        b"{'a':1}",
    )
    texts += ("{}".encode("utf-16"), b"\xef\xbb\xbf{}", b'{"sortBy":"\\ud800"}', b'{"\\ud800":1}')
    return _JSON, asked.pick(*texts)


@alternative("body", 0.5)
def _deep(asked: Asked) -> tuple[bytes, bytes]:
    depth = asked.pick(30, 1000, 10_000, 30_000)
    return _JSON, b'{"filter":' + b"[" * depth + b"]" * depth * asked.pick(0, 1) + b"}"


@alternative("body", 0.5)
def _noise(asked: Asked) -> tuple[bytes, bytes]:
    kind = asked.pick(_FORM, _JSON, b"multipart/form-data; boundary=" + _BOUNDARY, b"")
    return kind, asked.noise(0, 300)


@alternative("body", 0.1)
def _huge(asked: Asked) -> tuple[bytes, bytes]:
    return asked.pick(_FORM, _JSON), b"a=" + b"b" * asked.pick(60_000, 65_536, 70_000)


@alternative("JSON value", 3)
def _scalar(asked: Asked) -> Any:
    return asked.pick(
        None, True, False, 0, 1, 2, -1, 1.0, 1.5, 1e300, 10**400, "1", "true", "x", ""
    )


@alternative("JSON value", 2)
def _filters(asked: Asked) -> Any:
    return asked.pick(asked.say("filter"), [asked.say("filter"), asked.say("filter")])


@alternative("JSON value")
def _nested(asked: Asked) -> Any:
    return asked.pick([], {}, [1], {"a": [None]}, [["name==x"]], ["\ud800==x"], {"$gt": ""})


# The params call. What it writes has the mark of whose token it has, and of nobody's if none is
# good: so it is a foreign canary wherever it should not have come to.


@alternative("params call", 8)
def _params(asked: Asked) -> tuple[bytes, bytes]:
    who = asked.pick("alice", "bob", "carol", *asked.owners, *asked.owners, *asked.owners)
    patch = {asked.say("param name"): asked.say("param") for _ in range(asked.random.randint(0, 3))}
    if len(asked.owners) < 2:
        patch["mark"] = canary(next(iter(asked.owners), "nobody"), "mark")
    call = {"id": session_id(who, asked.random.randint(0, 5)), "params": patch}
    for name, token in asked.form:
        call[name.decode()] = token.decode("latin-1")
    return _JSON, json.dumps(call).encode()


@alternative("params call")
def _other_params(asked: Asked) -> tuple[bytes, bytes]:
    ids = (None, 1, "", "x" * 300, "é", "\0", ["a"], session_id("bob", 0), "' OR 1=1 --")
    patch: object = asked.pick(
        {}, {"": None}, [], "x", None, {"\ud800": 1}, {"a": "\udfff"}, {"big": "x" * 9000}
    )
    patch = asked.pick(patch, {str(each): each for each in range(70)}, {"n": 10**4000})
    return _JSON, json.dumps({"id": asked.pick(*ids), "params": patch}).encode()


@alternative("params call")
def _any_body(asked: Asked) -> tuple[bytes, bytes]:
    kind, content = asked.say("body")
    return kind, content


@alternative("param name")
def _param_name(asked: Asked) -> str:
    return str(asked.pick(*PARAM_NAMES, "id", "login", "__proto__", "params", "x" * 200))


@alternative("param", 4)
def _param(asked: Asked) -> Any:
    values = (None, True, 0, -0.0, 1.0, 1e308, 2**64, "", "x", "<b>", "İ", "\u2028", '"', "\\")
    return asked.pick(*values)


@alternative("param")
def _deep_param(asked: Asked) -> Any:
    value: Any = 1
    for _ in range(asked.pick(1, 5, 31, 33, 200)):
        value = asked.pick([value], {"a": value})
    return value


# Framing


@alternative("framing in process", 12)
@alternative("framing", 12)
def _length(asked: Asked) -> None:
    asked.headers.append((b"Content-Length", b"%d" % len(asked.body)))


@alternative("framing in process")
@alternative("framing")
def _longer(asked: Asked) -> None:
    asked.is_whole = False
    asked.headers.append((b"Content-Length", b"%d" % (len(asked.body) + asked.pick(1, 9, 70_000))))


@alternative("framing", 0.7)
def _wrong_length(asked: Asked) -> None:
    asked.is_whole = False
    size = b"%d" % len(asked.body)
    wrong = (b"-1", b"+" + size, b"0x10", b"", b"1e3", "٣".encode(), size + b", " + size, b"9" * 30)
    asked.headers.append((b"Content-Length", asked.pick(*wrong, b"0", size + b" ", b"1_0")))
    if asked.chance(0.3):
        asked.headers.append((b"Content-Length", size))


@alternative("framing", 3)
def _chunked(asked: Asked) -> None:
    asked.headers.append((b"Transfer-Encoding", b"chunked"))
    asked.body = _chunks(asked) + b"0\r\n\r\n"


@alternative("framing", 2)
def _malformed_chunks(asked: Asked) -> None:
    asked.is_whole = False
    asked.headers.append((b"Transfer-Encoding", b"chunked"))
    asked.body = _chunks(asked) + asked.say("end of the chunks")


literals(
    "end of the chunks", b"ZZ\r\n", b"", b"0\r\n", b"-1\r\nx\r\n", b"5\r\nab", b"f" * 20 + b"\r\n"
)
literals("end of the chunks", b"5\nabcde\n0\n\n", b"0\r\nX: y\r\n\r\n", b"0\r\nbad trailer\r\n\r\n")
literals("end of the chunks", b"0x5\r\nabcde\r\n", b"\r\n", b"1\r\nabc", b";\r\n", b"\xff\r\n")
literals(
    "end of the chunks", b"5;" + b"x" * 9000 + b"\r\n", b"0;a\r\n\r\n", b" 5\r\nabcde\r\n0\r\n\r\n"
)


@alternative("framing", 1.5)
def _with_a_coding(asked: Asked) -> None:
    asked.is_whole = False
    codings = (b"chunked", b"identity", b"gzip, chunked", b"xchunked", b"chunked, chunked", b"")
    coding = asked.pick(*codings, b"Chunked", b"chunked;q=1", b"\x0bchunked", b"chunked\t")
    asked.headers.append((b"Transfer-Encoding", coding))
    if asked.chance(0.6):
        asked.headers.append((b"Content-Length", b"%d" % asked.pick(len(asked.body), 0, 4)))
    if asked.chance(0.7):
        asked.body = _chunks(asked) + b"0\r\n\r\n"


def _chunks(asked: Asked) -> bytes:
    content, framed = asked.body, b""
    while content:
        size = asked.random.randint(1, len(content))
        extension = asked.pick(b"", b"", b"", b";a=b", b';a="\\""', b" ")
        framed += b"%x%s\r\n%s\r\n" % (size, extension, content[:size])
        content = content[size:]
    return framed
