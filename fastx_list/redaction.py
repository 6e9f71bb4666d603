"""Keeps tokens out of every log.

A token is part of a URL in this API, so anything that logs a request would log a credential.
Redaction sits in the log record itself, under every logger and handler of the process, whoever
wrote them.
"""

from __future__ import annotations

import logging
import re

_TOKEN = re.compile(
    r"(?i:(/api(?:/|%2F)(?:list|params|history|events|admin(?:/|%2F)\w+)(?:/|%2F))[^\s\"'?#&<>]+)"
    r"|(?i:((?:\btoken|X-FASTX-TOKEN)[\"']?\s*(?:=|%3D|:)\s*[\"']?)[^\s\"'&#<>]+)"
    r"|(?i:(\bBearer\s+)[^\s\"']+)"
    # A JWT, wherever it stands: RFC 7519 section 3.1. Its header is a JSON object, so it begins
    # with the base64 of a brace.
    r"|(?:(?<![\w-])|(?<=%[0-9A-Fa-f]{2}))(?:eyJ[\w-]*(?:(?:\.|%2[Ee])[\w-]*){0,2}|e[yw][\w-]{8,}(?:(?:\.|%2[Ee])[\w-]{8,}){2})"
)
# Letters, digits, ``-._~``: encoded or not, they mean the same (RFC 3986 section 6.2.2.2), so
# nobody has to write them so. The percent sign, since what is encoded may be encoded again.
_NEEDLESSLY_ENCODED = re.compile(r"%(2[5DEde]|3[0-9]|[46][1-9A-Fa-f]|[57][0-9Aa]|5[Ff]|7[Ee])")
_MAX_ENCODED = 8  # times over; nobody honest encodes what is encoded more than twice
_ENCODED_WORD = re.compile(r"[^\s\"']*%[0-9A-Fa-f]{2}[^\s\"']*")
# What is left of a token that something odd stands in, such as the end of a line: letters and
# digits that make no words. Words in names of headers, classes and files are longer on average.
_RUN = re.compile(r"[A-Za-z0-9_.-]{16,}")
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|[A-Z]|[0-9]+")
_MEAN_LENGTH = 3.2
_formatter = logging.Formatter()


def redact(text: str) -> str:
    """Return ``text`` with every token in it, and whatever stands where a token belongs, replaced
    by ``[token]``."""
    if "%" in text:
        plain = _decode(text)
        if plain is None:
            text = _ENCODED_WORD.sub("[token]", text)
        elif _hide(plain) != plain:
            text = plain
    return _hide(text)


def _decode(text: str) -> str | None:
    """Return ``text`` with what was needlessly encoded as itself; ``None`` if it was encoded too
    many times over."""
    for _ in range(_MAX_ENCODED):
        plain = _NEEDLESSLY_ENCODED.sub(lambda match: chr(int(match[1], 16)), text)
        if plain == text:
            return plain
        text = plain
    return None


def _hide(text: str) -> str:
    hidden = _TOKEN.sub(lambda match: (match[1] or match[2] or match[3] or "") + "[token]", text)
    return _RUN.sub(lambda match: "[token]" if _is_piece(match[0]) else match[0], hidden)


def _is_piece(run: str) -> bool:
    if run in (run.lower(), run.upper()):  # such as the id of a session
        return False
    return len(run) < _MEAN_LENGTH * len(_WORD.findall(run))


class RedactedRecord(logging.LogRecord):
    """A log record whose message and traceback hold no token."""

    def getMessage(self) -> str:
        if self.exc_info and not self.exc_text:
            self.exc_text = redact(_formatter.formatException(self.exc_info))
        if self.stack_info:
            self.stack_info = redact(self.stack_info)
        return redact(super().getMessage())


def install() -> None:
    """Redact every record that is logged in this process from now on."""
    logging.setLogRecordFactory(RedactedRecord)
