"""Whether an answer is what may be answered, whatever was asked."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote_to_bytes

from tests.fuzz.grammar import CREDENTIALS, Asked
from tests.fuzz.targets import Answer
from tests.fuzz.world import LOGINS, MARKS
from tests.live.inflating import Inflating
from tests.live.wire import closes, messages, parse
from tests.model import oracle

PIECES = CREDENTIALS.pieces()
_MARKS = {who: [mark.encode() for mark in marks] for who, marks in MARKS.items()}
_SIGNS = (b"Traceback", b"[CRITICAL]", b"[ERROR]", b"unexpected error")


def problems(asked: Asked, answer: Answer) -> Iterator[str]:
    """Yield what is wrong with ``answer``, each beginning with the kind of mistake it is."""
    if answer.status >= 500 and not _is_unknown_coding(asked, answer):
        yield f"5xx: {answer.status} {answer.body[:300]!r}"
    whole = answer.bytes
    if b"Traceback" in whole:
        yield f"traceback in the answer: {whole[:2000]!r}"
    for who in foreign(asked, whole):
        yield f"foreign canary: of {who} in {whole[:2000]!r}"
    if any(piece in whole for piece in PIECES):
        yield f"token in the answer: {answer.headers} {answer.body[:300]!r}"
    if answer.status == 101:
        yield from _frame_problems(asked, answer)
    elif answer.status >= 400:
        yield from _error_problems(answer)
    elif answer.status == 200:
        yield from _success_problems(asked, answer)
    elif answer.status not in (204, 206, 304):
        yield f"redirect: {answer.status} {answer.headers}"


def foreign(asked: Asked, text: bytes) -> Iterator[str]:
    """Yield whose canaries are in ``text`` and may not be."""
    found = {who for who, marks in _MARKS.items() if any(mark in text for mark in marks)}
    if "carol" in asked.owners:
        found &= {"nobody"}
    elif len(found) > 1:  # whoever is asked for, it is one login
        yield " and ".join(sorted(found))
    yield from found - asked.owners


def _is_unknown_coding(asked: Asked, answer: Answer) -> bool:
    # RFC 9112 section 6.1
    return answer.status == 501 and b"transfer-encoding" in asked.raw.lower()


def _error_problems(answer: Answer) -> Iterator[str]:
    if answer.is_head and not answer.body:
        return
    try:
        error = json.loads(answer.body)["error"]
        is_ours = error.keys() == {"name", "message"} and all(map(str, error.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        is_ours = False
    if not is_ours or answer.header("content-type") != "application/json":
        yield f"form of the error: {answer.status} {answer.headers} {answer.body[:300]!r}"


def _success_problems(asked: Asked, answer: Answer) -> Iterator[str]:
    total = answer.header("x-total-count")
    kind = answer.header("content-type") or ""
    if total is not None and not asked.owners:
        yield f"answered without a token: {answer.body[:300]!r}"
    if kind != "application/json" or (answer.is_head and not answer.body):
        return
    try:
        content = json.loads(answer.body, parse_constant=_refuse)
    except ValueError as error:
        yield f"JSON: {error} in {answer.body[:300]!r}"
        return
    if total is not None and (not isinstance(content, list) or int(total) < len(content)):
        yield f"list: {total} in all, of which are here {answer.body[:300]!r}"
    logins = {LOGINS[who] for who in asked.owners}
    for session in content if isinstance(content, list) else [content]:
        if "login" in session and session["login"] not in logins and "carol" not in asked.owners:
            yield f"foreign session: {session}"


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


def _frame_problems(asked: Asked, answer: Answer) -> Iterator[str]:
    try:
        frames = parse(answer.body, _extensions(answer.header("sec-websocket-extensions")))
        for session_id, session in messages(frames):
            if session is not None and session["id"] != session_id:
                yield f"message: {session_id} is {session}"
        codes = [close.code for close in closes(frames)]
    except Exception as error:  # of whichever kind it is
        yield f"frames: {error!r} in {answer.body[:300]!r}"
        return
    whole = b"".join(bytes(frame.data) for frame in frames)  # which may have been compressed
    for who in foreign(asked, whole):
        yield f"foreign canary: of {who} in {whole[:2000]!r}"
    if any(piece in whole for piece in PIECES):
        yield f"token in a message: {whole[:300]!r}"
    if any(code in (1006, 1011, 1015) for code in codes):
        yield f"close code: {codes}"


def _extensions(agreed: str | None) -> list[Inflating]:
    if agreed is None:
        return []
    bits = re.search("server_max_window_bits=([0-9]+)", agreed)
    return [Inflating(int(bits[1]) if bits else 15, "server_no_context_takeover" not in agreed)]


def meaning_problems(asked: Asked, answer: Answer, sessions: list[Any]) -> Iterator[str]:
    """Yield how ``answer`` differs from what the oracle makes of these ``sessions`` of the login;
    nothing if it cannot tell."""
    if asked.meaning is None:
        return
    try:
        page, total = oracle.expected(sessions, asked.meaning)
    except oracle.Refused as refused:
        if answer.status == 200:
            yield f"meaning: {refused} should be refused, of {asked.meaning}"
        return
    if answer.status == 400:
        yield f"meaning: refused, {answer.body!r}, of {asked.meaning}"
    elif (json.loads(answer.body), answer.header("x-total-count")) != (page, str(total)):
        yield f"meaning: {answer.body[:1000]!r} is not {page}, of {asked.meaning}"


def log_problems(text: str) -> Iterator[str]:
    """Yield what is wrong with what was logged."""
    written = text.encode("utf-8", "surrogateescape")
    for sign in _SIGNS:
        if sign in written:
            start = max(0, written.index(sign) - 200)
            yield f"mistake in the log: {written[start : start + 3000].decode(errors='replace')}"
            break
    for plain in (written, unquote_to_bytes(written)):
        for piece in PIECES:
            if piece in plain:
                start = max(0, plain.index(piece) - 200)
                yield f"token in the log: {plain[start : start + 500]!r}"
                return
