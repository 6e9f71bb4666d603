"""A request whose body is taken only if it is whole, well-formed, and what its type says."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import IO, TYPE_CHECKING, Any, TypeAlias
from urllib.parse import unquote_plus

from flask import Request
from werkzeug.datastructures import Headers, MultiDict
from werkzeug.formparser import FormDataParser, MultiPartParser
from werkzeug.http import parse_options_header
from werkzeug.utils import cached_property

from fastx_list.errors import (
    ApiError,
    NotImplementedCoding,
    PayloadTooLarge,
    UnsupportedMediaType,
    ValidationError,
)
from fastx_list.model.json import DuplicateName, from_json
from fastx_list.model.spelling import MAX_SHOWN
from fastx_list.text import printable

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")

# Other encodings of Python's, such as idna, are none of texts in forms
_CHARSET = re.compile(r"utf-8|ascii|iso8859-\d+|cp125\d|koi8-[ru]")
# Control characters, as texts in UTF-16 have them, and bytes that are not UTF-8
_NO_NAME = re.compile(r"[\x00-\x1f\x7f\udc80-\udcff]")
_ODD = re.compile("%(?:[0189A-Fa-f]|7[Ff])")  # what may become one of them
_PLAIN_CODINGS = ("", "7bit", "8bit", "binary")

# A name and its value; None stands for an empty one, which is as if it were absent
Pair: TypeAlias = "tuple[str, str | None]"


class _Body:
    """The body of a request as it comes in. Whatever is wrong with how it is sent, its sender has
    to mend: servers say so with exceptions of their own."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        try:
            return self._stream.read(size)
        except ApiError:
            raise
        except Exception:
            raise ValidationError("body: it is malformed, or ends too soon") from None


class _Parts(MultiPartParser):
    """Leaves the fields of a form as they were sent, in latin-1, and notes what each is in."""

    def __init__(self, charset: str) -> None:
        super().__init__(_no_file, cls=list)  # type: ignore[arg-type]
        # Of the whole form
        self._charset = charset
        # Of each field, in their order
        self.charsets: list[str] = []

    def get_part_charset(self, headers: Headers) -> str:
        for coding in headers.getlist("content-transfer-encoding"):
            if coding.strip().lower() not in _PLAIN_CODINGS:
                raise ValidationError(
                    f"Content-Transfer-Encoding: {printable(coding[:40])} is not taken; send the"
                    " field as it is"
                )
        _, options = parse_options_header(headers.get("content-type"))
        self.charsets.append(_charset(options, self._charset))
        return "latin-1"


class _StrictForm(FormDataParser):
    """Refuses a form that is malformed or cut off, which would otherwise pass for one without
    fields. No body at all is one without fields. Bytes that are no text become surrogates."""

    def parse(
        self,
        stream: IO[bytes],
        mimetype: str,
        content_length: int | None,
        options: dict[str, str] | None = None,
    ) -> Any:
        # Of a body in chunks nothing says its length
        body = stream.read()
        self.silent = not body
        try:
            return super().parse(BytesIO(body), mimetype, len(body), options)
        except ValueError:
            raise ValidationError("body: it is not a well-formed form") from None

    def _parse_urlencoded(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> Any:
        body = stream.read().removeprefix(codecs.BOM_UTF8)
        if body.lstrip()[:1] in (b"{", b"["):
            raise ValidationError(
                "Content-Type: the body is JSON; send it with Content-Type: application/json"
            )
        body = body.removesuffix(b"\n").removesuffix(b"\r")  # as many an editor ends a file
        if b"\n" in body or b"\r" in body:
            raise ValidationError(
                "body: a form takes & between its fields, and a line break in a value as %0A"
            )
        pairs = pairs_of(body, _charset(options))
        return stream, self.cls(pairs), self.cls()

    def _parse_multipart(
        self, stream: IO[bytes], mimetype: str, content_length: int | None, options: dict[str, str]
    ) -> Any:
        boundary = options.get("boundary", "").encode("ascii")
        if not boundary:
            raise ValueError("it names no boundary")
        parts = _Parts(_charset(options))
        fields: Any
        files: Any
        fields, files = parts.parse(stream, boundary, content_length)
        names = [name for name, _ in (*fields, *files)]
        if None in names:
            raise ValidationError("body: each part of a form takes a name")
        _check_names(names)
        pairs = [
            (name, value.encode("latin-1").decode(charset, "surrogateescape") or None)
            for (name, value), charset in zip(fields, parts.charsets, strict=True)
        ]
        return stream, self.cls(pairs), self.cls(files)


def _charset(options: Mapping[str, str], default: str = "utf-8") -> str:
    """Return Python's name of the charset that a Content-Type with these ``options`` names."""
    try:
        name = codecs.lookup(options.get("charset", default)).name
    except (LookupError, ValueError):
        name = ""
    if not _CHARSET.fullmatch(name):
        raise ValidationError("Content-Type: takes charset=utf-8, or a charset of ISO 8859")
    return name


def _no_file(*args: Any, **kwargs: Any) -> IO[bytes]:
    # What is in a file nobody reads, and it is no longer than a body: it needs none on disk
    return BytesIO()


class ApiRequest(Request):
    """A request whose body is refused unless it is whole and well-formed."""

    form_data_parser_class = _StrictForm

    def __init__(self, environ: WSGIEnvironment, *args: Any, **kwargs: Any) -> None:
        super().__init__(environ, *args, **kwargs)
        environ["wsgi.input"] = _Body(environ["wsgi.input"])

    @cached_property
    def stream(self) -> IO[bytes]:
        """The whole body. Werkzeug would cut off one in chunks where it becomes too long."""
        coding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if coding not in ("identity", ""):
            raise UnsupportedMediaType(
                f"Content-Encoding: {printable(coding[:40])} is not taken; send the body as it is"
            )
        # Gunicorn takes the chunks apart, and leaves what is in them as it is
        if self.headers.get("Transfer-Encoding", "chunked").strip().lower() != "chunked":
            raise NotImplementedCoding()
        body = super().stream.read()
        cut = self.content_length is None and len(body) == self.max_content_length
        if cut and self.environ["wsgi.input"].read(1):
            raise PayloadTooLarge()
        return BytesIO(body)

    @cached_property
    def query_pairs(self) -> list[Pair]:
        """The names and values in the query string."""
        return pairs_of(self.query_string)

    @cached_property
    def args(self) -> MultiDict[str, str]:
        """Those of them that are not empty; werkzeug's own takes bytes that are not UTF-8 for a
        mistake of the server."""
        return self.parameter_storage_class(
            [(name, value) for name, value in self.query_pairs if value]
        )

    @property
    def has_body(self) -> bool:
        """Whether it says that it has a body. What is no POST is not read any further."""
        return bool(self.content_length) or "Transfer-Encoding" in self.headers

    @cached_property
    def body_pairs(self) -> list[tuple[str, Any]]:
        """The names and values in the body of a POST, which is a form, a JSON object or empty. The
        value of a file is bytes."""
        if self.mimetype in FORMS:
            return [*self.form.items(multi=True), *((name, b"") for name in self.files)]
        body = self.get_data()
        return list(json_object(self.mimetype, body).items()) if body else []


def pairs_of(text: bytes, charset: str = "utf-8") -> list[Pair]:
    """Return the names and values in a query string or a urlencoded form. Bytes that are no text
    become surrogates.

    What CGI.pm and others separate by a ``;`` is a part of a value. Each name there is also one
    with the ``;`` before it, and without a value, so that nobody overlooks it.
    """
    plain = text.decode(charset, "surrogateescape")
    parts = [part.partition("=") for part in plain.split("&")]
    if "%" in plain or "+" in plain:
        pairs = [
            (_decoded(name, charset), _decoded(value, charset) or None) for name, _, value in parts
        ]
    else:
        pairs = [(name, value or None) for name, _, value in parts]
    if not plain.isprintable() or _ODD.search(plain):
        _check_names(name for name, _ in pairs)
    return _behind_semicolons(plain, charset) + pairs if ";" in plain else pairs


def _decoded(text: str, charset: str) -> str:
    is_encoded = "%" in text or "+" in text
    return unquote_plus(text, charset, "surrogateescape") if is_encoded else text


def _behind_semicolons(plain: str, charset: str) -> list[Pair]:
    pieces = [piece for part in plain.split("&") for piece in part.split(";")[1:]]
    said = (_decoded(piece, charset).partition("=") for piece in pieces)
    return [(f";{name}", None) for name, equals, _ in said if equals]


def _check_names(names: Iterable[str]) -> None:
    for name in names:
        if not name.isprintable() and _NO_NAME.search(name):
            raise ValidationError("parameters: takes names in UTF-8, without control characters")


def json_object(mimetype: str, body: bytes, takes: Iterable[str] = FORMS) -> dict[str, Any]:
    """Return the JSON object that ``body`` is; raises :class:`ValidationError`, which says which
    other types are taken."""
    if mimetype != "application/json":
        raise ValidationError("Content-Type: takes " + " or ".join(["application/json", *takes]))
    try:
        value = from_json(body, unique=True)
    except DuplicateName as error:
        raise ValidationError(
            f"body: it has {printable(error.name[:MAX_SHOWN])} more than once in one JSON object"
        ) from None
    except (ValueError, RecursionError):
        raise ValidationError("body: it is not well-formed JSON in UTF-8") from None
    if not isinstance(value, dict):
        raise ValidationError("body: takes a JSON object, such as {}")
    return value
