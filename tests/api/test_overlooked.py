"""A parameter that stands where nobody looks for one, or in a form that nobody reads, is refused:
without its filter a list would show everything."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.answers import error, ids

pytestmark = pytest.mark.usefixtures("four_sessions")

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
ADDRESSES = ("/list/", "/history/", "/events/")


def refused(answer: Any) -> str:
    return error(answer, 400, "ValidationError")


def refused_everywhere(asked: FlaskClient, url: str, question: str) -> set[str]:
    """Return what is said of ``question`` in an address and in a form, at each address."""
    return {
        refused(answer)
        for address in ADDRESSES
        for there in (url.replace("/list/", address),)
        for answer in (
            asked.get(f"{there}?{question}"),
            asked.post(f"{there}?{question}"),
            asked.post(there, data=question, content_type=FORM),
        )
    }


@pytest.mark.parametrize(
    "name",
    ["filter", "filter[]", "filter%5B0%5D", "filters", "Filter", "%66ilter", "limit", "+limit"],
)
def test_a_parameter_behind_a_semicolon(asked: FlaskClient, url: str, name: str) -> None:
    for before in ("sortReverse=true", "_=1", "filter=id%3D%3Da", "_"):
        for said in (f"{name}=1", f"{name}%3D1", f"{name}=", f"x=1;{name}=1"):
            message = "parameters: takes & between them, and not ; (in a value that is %3B)"
            assert refused_everywhere(asked, url, f"{before};{said}") == {message}


def test_a_token_before_a_semicolon(asked: FlaskClient, url: str) -> None:
    token = url.rpartition("/")[2]
    message = "parameters: takes & between them, and not ; (in a value that is %3B)"
    assert refused(asked.get(f"/api/list?token={token};filter=clients==0")) == message
    assert refused(asked.post(f"/api/history?token={token};_=1")) == message


def test_one_of_a_history_behind_a_semicolon(asked: FlaskClient, url: str) -> None:
    for name in ("since", "until", "%75ntil"):
        for there in (url.replace("/list/", "/history/"), url.replace("/list/", "/events/")):
            assert "takes & between" in refused(asked.get(f"{there}?_=1;{name}=1"))


def test_a_semicolon_in_a_value_is_one(asked: FlaskClient, url: str) -> None:
    for value in ("a;b,xterm", "x;limit,xterm", "a%3Blimit=1,xterm", "a;other=1,xterm"):
        assert ids(asked.get(f"{url}?filter=command=={value}")) == ["a"]
        assert ids(asked.post(url, data=f"filter=command=={value}", content_type=FORM)) == ["a"]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            "filter%3Dclients%3D%3D0",
            "filter: is spelt filter=name==value1,value2, and not filter=clients==0; the = behind"
            " it is not encoded",
        ),
        ("limit%3D1", "limit: is spelt limit, and not limit=1; the = behind it is not encoded"),
        ("Filter%3Dclients%3D%3D0", "filter: is spelt filter=name==value1,value2, and not Filter="),
        ("filters", "filter: is spelt filter=name==value1,value2, and not filters"),
        ("limits=", "limit: is spelt limit, and not limits"),
        ("%7B%22limit%22%3A1%7D", 'limit: is spelt limit, and not {"limit":1}'),
        (
            "%7B%22filter%22%3A%22clients%3D%3D0%22%7D",
            "filter: is spelt filter=name==value1,value2",
        ),
    ],
)
def test_a_name_without_a_value_that_is_nearly_a_parameter(
    asked: FlaskClient, url: str, question: str, message: str
) -> None:
    for before in ("", "_=1&", "&"):
        said = refused_everywhere(asked, url, f"{before}{question}")
        assert all(each.startswith(message) for each in said)


@pytest.mark.parametrize(
    ("question", "message"),
    [
        (
            "=filter%3Dclients%3D%3D0",
            "filter: is spelt filter=name==value1,value2, and not =filter=clients==0",
        ),
        ("=limit", "limit: is spelt limit, and not =limit"),
        ("data=%7B%22filter%22%3A%22clients%3D%3D0%22%7D", "filter: stands beside data, and not"),
        ("data=%5B%7B%22Filter%22%3A%5B%5D%7D%5D", "filter: is spelt filter=name==value1,value2"),
    ],
)
def test_a_parameter_in_the_value_of_another_one(
    asked: FlaskClient, url: str, question: str, message: str
) -> None:
    for before in ("", "_=1&"):
        said = refused_everywhere(asked, url, f"{before}{question}")
        assert all(each.startswith(message) for each in said)


@pytest.mark.parametrize(
    "question",
    [
        "=1",
        "=x%3Dfilter",
        "state=%7B%22start%22%3A1%7D",
        "x=%7B%22filter%22",
        "x=filter%3D1",
        "x=%7B",
    ],
)
def test_a_value_of_another_parameter_is_ignored(
    asked: FlaskClient, url: str, question: str
) -> None:
    assert ids(asked.get(f"{url}?{question}")) == ["a", "b", "c"]
    assert ids(asked.post(url, data=question, content_type=FORM)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "name", ["_", "cachebuster", "17000", "%3D", "a%3Db", "", "token", "filter"]
)
def test_another_name_without_a_value_is_ignored(asked: FlaskClient, url: str, name: str) -> None:
    for question in (name, f"{name}=", f"{name}&limit=3", f"{name}&{name}"):
        assert ids(asked.get(f"{url}?{question}")) == ["a", "b", "c"]
        assert ids(asked.post(url, data=question, content_type=FORM)) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "body",
    [
        "filter=clients==0".encode("utf-16"),
        "filter=clients==0".encode("utf-16-le"),
        "filter=clients==0".encode("utf-16-be"),
        "filter=clients==0".encode("utf-32"),
        gzip.compress(b"filter=clients==0", mtime=0),
        b"fil\0ter=clients==0",
        b"limit=1&fil%00ter=clients==0",
        b"fil%EBter",
        b"\0",
    ],
)
def test_a_form_whose_names_are_no_text(asked: FlaskClient, url: str, body: bytes) -> None:
    for kind in (FORM, f"{FORM}; charset=iso-8859-1"):
        if b"%EB" not in body or kind == FORM:
            message = refused(asked.post(url, data=body, content_type=kind))
            assert message == "parameters: takes names in UTF-8, without control characters"


@pytest.mark.parametrize("line_break", [b"\n", b"\r\n", b"\r"])
def test_a_line_break_between_the_fields_of_a_form(
    asked: FlaskClient, url: str, line_break: bytes
) -> None:
    body = b"limit=1" + line_break + b"filter=clients==0"
    for sent in (body, line_break + body, b"limit=1" + line_break * 2):
        message = refused(asked.post(url, data=sent, content_type=FORM))
        assert message.startswith("body: a form takes & between its fields")
    for sent in (
        b"sortBy=id&limit=1" + line_break,
        b"limit=1&_=a%0D%0Ab",
        b"limit=1&_=" + line_break,
    ):
        assert ids(asked.post(url, data=sent, content_type=FORM)) == ["a"]
    sent = b"limit=1&format=json" + line_break
    there = url.replace("/list/", "/history/")
    assert asked.post(there, data=sent, content_type=FORM).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        '{"filter":"clients==0","filter":[]}',
        '{"filter":"clients==0","_":{"filter":1,"x":2},"filter":"clients==0"}',
        '{"_":[{"filter":1,"filter":1}]}',
        '{"filter":1,"\\u0066ilter":1}',
    ],
)
def test_json_that_names_a_member_twice(asked: FlaskClient, url: str, body: str) -> None:
    for address in (*ADDRESSES, "/params/"):
        there = url.replace("/list/", address)
        message = refused(asked.post(there, data=body, content_type="application/json"))
        assert message == "body: it has filter more than once in one JSON object"


@pytest.mark.parametrize("outer", ["params", "data", "query", "page", "0"])
@pytest.mark.parametrize(
    ("inner", "meant"),
    [
        ({"filter": "clients==0"}, "filter"),
        ({"limit": 1, "_": 1}, "limit"),
        ([{"a": {"b": [{"limit": 1}]}}], "limit"),
        ({"filter[]": ["clients==0"]}, "filter"),
    ],
)
def test_a_parameter_within_another_value_in_json(
    asked: FlaskClient, url: str, outer: str, inner: Any, meant: str
) -> None:
    for address in ADDRESSES:
        answer = asked.post(url.replace("/list/", address), json={outer: inner})
        assert refused(answer) == f"{meant}: stands beside {outer}, and not in it"
    for near in ({"Filter": "clients==0"}, [{"filters": "clients==0"}]):
        message = refused(asked.post(url, json={outer: near}))
        assert message.startswith("filter: is spelt filter=name==value1,value2, and not ")


def test_other_values_within_values_in_json_are_ignored(asked: FlaskClient, url: str) -> None:
    for other in ({"a": {"b": 1}}, [1, [2, ["filter"]]], {}, {"": None}, "filter==1"):
        assert ids(asked.post(url, json={"limit": 1, "_": other})) == ["a"]
    call: dict[str, Any] = {"id": "a", "params": {"filter": "x", "limit": {"start": 1}}}
    assert asked.post(url.replace("/list/", "/params/"), json=call).status_code == 200


def test_a_body_full_of_names_is_looked_through_soon(asked: FlaskClient, url: str) -> None:
    """Each of them once: what takes the square of their number would take minutes."""
    names = dict.fromkeys(map(str, range(6000)), 1)
    assert ids(asked.post(url, json={"limit": 1, "_": names})) == ["a"]
    body = json.dumps(names)[:-1] + ',"5999":2}'
    assert "5999" in refused(asked.post(url, data=body, content_type="application/json"))


@pytest.mark.parametrize("coding", ["gzip, chunked", "gzip,chunked", "identity, chunked", "x"])
def test_a_body_in_another_coding_than_in_chunks(asked: FlaskClient, url: str, coding: str) -> None:
    for there in (url, url.replace("/list/", "/params/")):
        for body in ({"data": {"limit": 1}}, {"json": {"limit": 1}}):
            answer = asked.post(there, headers={"Transfer-Encoding": coding}, **body)
            message = error(answer, 501, "ValidationError")
            assert message.startswith("Transfer-Encoding: takes chunked")
    environ = {"HTTP_TRANSFER_ENCODING": "Chunked", "wsgi.input_terminated": True}
    assert ids(asked.post(url, json={"limit": 1}, environ_overrides=environ)) == ["a"]


def part(disposition: str, *more: str, value: str = "clients==0") -> bytes:
    head = "\r\n".join((f"--b\r\nContent-Disposition: form-data{disposition}", *more))
    return f"{head}\r\n\r\n{value}\r\n--b--\r\n".encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (part('; name="filter"; filename="f"'), "filter: takes text, and no file"),
        (part('; name="filter"; filename=""', value=""), "filter: takes text, and no file"),
        (part('; name="filter[]"; filename=blob'), "filter: takes text, and no file"),
        (part('; name="filters"; filename=blob'), "filter: is spelt filter=name==value1,value2"),
        (part('; name="limit"; filename=blob', value="1"), "limit: takes text, and no file"),
        (part(""), "body: each part of a form takes a name"),
        (part("; filename=blob"), "body: each part of a form takes a name"),
        (
            part('; name="filter"', "Content-Transfer-Encoding: base64"),
            "Content-Transfer-Encoding: base64 is not taken; send the field as it is",
        ),
        (
            part('; name="filter"', "content-transfer-encoding: Quoted-Printable"),
            "Content-Transfer-Encoding: Quoted-Printable is not taken; send the field as it is",
        ),
        (part('; name="filter%5B"', value=""), "filter: is spelt filter=name==value1,value2"),
        (part('; name="f\0i\0l\0t\0e\0r"'), "parameters: takes names in UTF-8"),
    ],
)
def test_a_part_of_a_form_that_nobody_would_read(
    asked: FlaskClient, url: str, body: bytes, message: str
) -> None:
    for address in ADDRESSES:
        answer = asked.post(url.replace("/list/", address), data=body, content_type=MULTIPART)
        assert refused(answer).startswith(message)


def test_other_parts_of_a_form_are_taken(asked: FlaskClient, url: str) -> None:
    for coding in ("7bit", "8bit", "Binary", ""):
        body = part('; name="filter"', f"Content-Transfer-Encoding: {coding}")
        assert ids(asked.post(url, data=body, content_type=MULTIPART)) == ["a", "c"]
    body = part('; name="picture"; filename="f"')
    assert ids(asked.post(url, data=body, content_type=MULTIPART)) == ["a", "b", "c"]
