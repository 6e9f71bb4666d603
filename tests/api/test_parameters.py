from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.answers import Issue, error, ids

pytestmark = pytest.mark.usefixtures("four_sessions")


@pytest.mark.parametrize("method", ["query", "form", "multipart", "json"])
@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({"sortBy": "command"}, ["b", "c", "a"]),
        ({"sortBy": "command", "sortReverse": "true"}, ["a", "c", "b"]),
        ({"start": "1"}, ["b", "c"]),
        ({"start": "1", "limit": "1"}, ["b"]),
        ({"limit": "0"}, []),
        ({"filter": "clients==0"}, ["a", "c"]),
        ({"filter": "geometry==800x600,1280x720"}, ["a", "b"]),
        ({"filter": ["clients==0", "name==Thesis"]}, ["c"]),
        ({"_": "1693", "unknown": "ignored"}, ["a", "b", "c"]),
    ],
)
def test_parameters_mean_the_same_wherever_they_stand(
    client: FlaskClient, token: Issue, method: str, parameters: dict[str, Any], expected: list[str]
) -> None:
    url = f"/api/list/{token('alice')}"
    if method == "query":
        answer = client.get(url, query_string=parameters)
        assert ids(client.post(url, query_string=parameters)) == expected
    elif method == "json":
        answer = client.post(url, json=parameters)
    else:
        content_type = {
            "form": "application/x-www-form-urlencoded",
            "multipart": "multipart/form-data",
        }[method]
        answer = client.post(url, data=parameters, content_type=content_type)
    assert ids(answer) == expected


def test_the_body_wins_over_the_query_and_filters_of_both_hold(
    client: FlaskClient, token: Issue
) -> None:
    url = f"/api/list/{token('alice')}"
    assert ids(client.post(f"{url}?limit=1&start=1", json={"limit": 2})) == ["b", "c"]
    assert ids(client.post(f"{url}?filter=clients%3D%3D0", json={"filter": "name==Thesis"})) == [
        "c"
    ]
    assert ids(
        client.post(f"{url}?filter=clients%3D%3D0", data={"filter": ["name==Thesis", "tag==x"]})
    ) == ["c"]
    assert ids(client.post(f"{url}?filter=clients%3D%3D0", json={"filter": ["name=="]})) == ["a"]


def test_json_takes_numbers_booleans_and_null(client: FlaskClient, token: Issue) -> None:
    url = f"/api/list/{token('alice')}"
    assert ids(
        client.post(url, json={"sortReverse": True, "start": 1, "limit": 1, "sortBy": None})
    ) == ["b"]
    assert ids(client.post(url)) == ["a", "b", "c"]


@pytest.mark.parametrize("two", [2, 2.0, "2", " 2 ", "\x1c\x852\u2003"])
def test_a_whole_number_is_one_however_it_is_written(
    client: FlaskClient, token: Issue, two: Any
) -> None:
    assert ids(client.post(f"/api/list/{token('alice')}", json={"limit": two})) == ["a", "b"]


def test_a_form_without_fields_asks_for_everything(client: FlaskClient, token: Issue) -> None:
    for content_type in (
        "multipart/form-data; boundary=b",
        "multipart/form-data",
        "application/x-www-form-urlencoded",
    ):
        assert ids(
            client.post(f"/api/list/{token('alice')}", data=b"", content_type=content_type)
        ) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"start": "-1"}, "start: takes a whole number, 0 or more"),
        ({"limit": "ten"}, "limit: takes a whole number, 0 or more"),
        ({"limit": "1.5"}, "limit: takes a whole number, 0 or more"),
        (
            {"sortReverse": "maybe"},
            "sortReverse: takes true or false (or one of 1, true, yes, on, 0, false, no, off)",
        ),
        (
            {"filter": "clients=0"},
            "filter: takes name==value1,value2 (in a URL the two equals signs are %3D%3D)",
        ),
        ({"filter": ["a==1"] * 33}, "filter: takes at most 32 filters, and this request has 33"),
        (
            {"filter": "a==" + "x" * 4094},
            "filter: takes at most 4096 bytes in all filters together",
        ),
    ],
)
def test_a_wrong_parameter_is_named_with_what_it_takes(
    client: FlaskClient, token: Issue, parameters: dict[str, Any], message: str
) -> None:
    url = f"/api/list/{token('alice')}"
    for answer in (
        client.get(url, query_string=parameters),
        client.post(url, query_string=parameters),
        client.post(url, data=parameters),
        client.post(url, json=parameters),
    ):
        assert error(answer, 400, "ValidationError") == message


@pytest.mark.parametrize(
    ("body", "content_type", "message"),
    [
        (b"{", "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"\xff{}", "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b'{"start": NaN}', "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"[" * 30000, "application/json", "body: it is not well-formed JSON in UTF-8"),
        (b"[]", "application/json", "body: takes a JSON object, such as {}"),
        (b"1", "application/json", "body: takes a JSON object, such as {}"),
        (b"<list/>", "application/xml", "Content-Type: takes application/json"),
        (b"start=1", "", "Content-Type: takes application/json"),
        (b'{"start": -1}', "application/json", "start: takes a whole number, 0 or more"),
        (b'{"start": true}', "application/json", "start: takes a whole number, 0 or more"),
        (b'{"filter": [1]}', "application/json", "filter: takes text"),
        (b'{"filter": {"a": 1}}', "application/json", "filter: takes text"),
        (b'{"sortBy": ["id"]}', "application/json", "sortBy: takes the name"),
        (b'{"sortReverse": {}}', "application/json", "sortReverse: takes true or false"),
        (b'{"limit": 1.5}', "application/json", "limit: takes a whole number, 0 or more"),
        (b'{"limit": 1e999}', "application/json", "limit: takes a whole number, 0 or more"),
        (b"limit=1", "multipart/form-data; boundary=b", "body: it is not a well-formed form"),
        (
            b'--b\r\nContent-Disposition: form-data; name="limit"\r\n\r\n0',
            "multipart/form-data; boundary=b",
            "body: it is not a well-formed form",
        ),
        (b'{"filter": "\\ud800==1"}', "application/json", None),
    ],
)
def test_a_wrong_body_is_refused_and_said_why(
    client: FlaskClient, token: Issue, body: bytes, content_type: str, message: str | None
) -> None:
    answer = client.post(f"/api/list/{token('alice')}", data=body, content_type=content_type)
    if message is None:
        assert ids(answer) == []
    else:
        assert error(answer, 400, "ValidationError").startswith(message)


def test_what_is_wrong_in_the_query_is_refused_also_where_the_body_wins(
    client: FlaskClient, token: Issue
) -> None:
    answer = client.post(f"/api/list/{token('alice')}?limit=-1", json={"limit": 1})
    assert error(answer, 400, "ValidationError") == "limit: takes a whole number, 0 or more"


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_bytes_that_are_no_text_are_no_mistake_of_ours(
    client: FlaskClient, token: Issue, method: str
) -> None:
    good = token("alice")
    odd = {"QUERY_STRING": "_=\xff&limit=1&_=\xc3"}  # PEP 3333: bytes as latin-1
    assert ids(client.open(f"/api/list/{good}", method=method, environ_overrides=odd)) == ["a"]
    odd["QUERY_STRING"] += f"&token={good}"
    assert ids(client.open("/api/list", method=method, environ_overrides=odd)) == ["a"]
