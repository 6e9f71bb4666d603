"""What portals' libraries send: it means what they mean, or is refused. Nothing is left out of
account that might be a filter."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from tests.answers import Issue, error, ids

pytestmark = pytest.mark.usefixtures("four_sessions")

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data; boundary=b"
NEAR = [
    ("filters", "filter"),
    ("Filter", "filter"),
    ("FILTER", "filter"),
    ("_filter", "filter"),
    ("filter ", "filter"),
    ("filter1", "filter"),
    ("filter[a]", "filter"),
    ("filter[0][1]", "filter"),
    ("filter[][]", "filter"),
    ("filter(0)", "filter"),
    ("filter{}", "filter"),
    ("filter.0", "filter"),
    ("filter.clients", "filter"),
    ("filter:clients", "filter"),
    ("filter%5B%5D", "filter"),
    ("Filter[]", "filter"),
    ("[filter]", "filter"),
    ("params[filter]", "filter"),
    ("amp;filter", "filter"),
    ("filterBy", "filter"),
    ("filter_by", "filter"),
    ("filter-by[0]", "filter"),
    ("filter=clients==0", "filter"),
    ("limit=1", "limit"),
    ("\ufefffilter", "filter"),
    ('{"filter":"clients', "filter"),
    ("x" * 100 + "[filter]", "filter"),
    ("sortby", "sortBy"),
    ("sort_by", "sortBy"),
    ("sort-by", "sortBy"),
    ("SortBy", "sortBy"),
    ("sortBy[]", "sortBy"),
    ("sortreverse", "sortReverse"),
    ("sort_reverse[0]", "sortReverse"),
    ("Limit", "limit"),
    ("limits", "limit"),
    ("page[limit]", "limit"),
    ("start[]", "start"),
    ("START", "start"),
]
OTHERS = ["_", "1700000000", "sort", "restart", "starting", "_start_time", "unlimited", "infilter"]
OTHERS += ["filterText", "v", "ts", "nocache", "", "x[y]", "é", "page", "order[0][column]"]


@pytest.mark.parametrize("name", ["filter[]", "filter[0]", "filter[17]", "filter%5B%5D"])
def test_a_list_of_filters_is_taken_as_libraries_spell_it(
    asked: FlaskClient, url: str, name: str
) -> None:
    """PHP's ``http_build_query``, jQuery, axios and qs."""
    question = f"{name}=clients%3D%3D0&{name}=name%3D%3DThesis&filter=tag%3D%3Dx"
    for _ in range(2):  # at first the token is not a known one
        assert ids(asked.get(f"{url}?{name}=clients%3D%3D0")) == ["a", "c"]
        assert ids(asked.get(f"{url}?{question}")) == ["c"]
    assert ids(asked.post(url, data=question, content_type=FORM)) == ["c"]
    assert ids(asked.post(f"{url}?{name}=clients==0", data={"filter": "name=="})) == ["a"]
    plain = name.replace("%5B%5D", "[]")
    assert ids(asked.post(url, data={plain: "clients==0"}, content_type=MULTIPART[:19])) == [
        "a",
        "c",
    ]
    assert ids(asked.post(url, json={plain: ["clients==0", "name==Thesis"]})) == ["c"]


@pytest.mark.parametrize(("name", "meant"), NEAR, ids=[repr(name)[:30] for name, _ in NEAR])
def test_what_is_nearly_a_parameter_is_refused_and_told_how_to_write_it(
    asked: FlaskClient, url: str, name: str, meant: str
) -> None:
    for _ in range(2):
        for answer in (
            asked.get(f"{url}?{quote(name)}=1"),
            asked.get(f"{url}?limit=1&{quote(name)}=1"),
            asked.post(f"{url}?{quote(name)}=1"),
            asked.post(url, data=f"{quote(name)}=1&_=2", content_type=FORM),
            asked.post(url, json={name: 1}),
        ):
            message = error(answer, 400, "ValidationError")
            right = "filter=name==value1,value2" if meant == "filter" else meant
            assert message.startswith(f"{meant}: is spelt {right}, and not ")


@pytest.mark.parametrize("name", OTHERS)
def test_others_are_ignored(asked: FlaskClient, url: str, name: str) -> None:
    assert ids(asked.get(f"{url}?limit=1&{quote(name)}=1")) == ["a"]
    assert ids(asked.post(url, json={"limit": 1, name: 1})) == ["a"]
    assert ids(asked.post(url, data={"limit": 1, name: 1})) == ["a"]


@pytest.mark.parametrize(
    "name", ["sortBy", "sortReverse", "start", "limit", "filter", "filter[]", "token"]
)
def test_an_empty_field_is_an_absent_one(asked: FlaskClient, url: str, name: str) -> None:
    """As browsers send forms that were not filled in."""
    assert ids(asked.get(f"{url}?{name}=&{name}")) == ["a", "b", "c"]
    assert ids(asked.post(url, data={name: ""})) == ["a", "b", "c"]
    part = f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n\r\n--b--\r\n'
    assert ids(asked.post(url, data=part, content_type=MULTIPART)) == ["a", "b", "c"]
    assert ids(asked.get(f"{url}?limit=&limit=1")) == ["a"]


@pytest.mark.parametrize("body", [b'{"filter":"clients==0"}', b'\n [{"limit":1}]', b"{}"])
def test_json_that_says_it_is_a_form_is_refused(asked: FlaskClient, url: str, body: bytes) -> None:
    """As ``curl -d`` sends it, and scripts that set no Content-Type."""
    for sent in (body, b"\xef\xbb\xbf" + body):
        message = error(asked.post(url, data=sent, content_type=FORM), 400, "ValidationError")
        assert message.endswith("the body is JSON; send it with Content-Type: application/json")
    for kind in ("text/plain", ""):
        message = error(asked.post(url, data=body, content_type=kind), 400, "ValidationError")
        assert message.startswith("Content-Type: takes application/json or ")


@pytest.mark.parametrize("separator", [";", "&amp;"])
def test_other_separators_are_refused(asked: FlaskClient, url: str, separator: str) -> None:
    question = f"sortBy=id{separator}filter=clients==0"
    for answer in (
        asked.get(f"{url}?{question}"),
        asked.post(url, data=question, content_type=FORM),
    ):
        assert "takes & between them" in error(answer, 400, "ValidationError")
    assert ids(asked.get(f"{url}?filter=command==a;b,xterm")) == ["a"]


def test_a_body_where_none_is_read_is_refused(asked: FlaskClient, url: str) -> None:
    for answer in (
        asked.get(url, json={"filter": "clients==0"}),
        asked.get(url, data="limit=1", content_type=FORM),
        asked.get(url, headers={"Transfer-Encoding": "chunked"}),
    ):
        assert "only a POST" in error(answer, 400, "ValidationError")
    assert asked.head(url, data="limit=1").status_code == 400
    assert ids(asked.get(url, headers={"Content-Length": "0"})) == ["a", "b", "c"]


@pytest.mark.parametrize("odd", ["%EB", "%C3", "%ED%A0%80", "\xeb"])
def test_bytes_that_are_no_utf_8_are_refused(asked: FlaskClient, url: str, odd: str) -> None:
    for name in ("filter", "filter[]"):
        environ = {"QUERY_STRING": f"{name}=name%3D%3DZo{odd}"}  # PEP 3333: bytes as latin-1
        for answer in (
            asked.get(url, environ_overrides=environ),
            asked.post(url, data=environ["QUERY_STRING"].encode("latin-1"), content_type=FORM),
        ):
            assert error(answer, 400, "ValidationError") == "filter: takes text in UTF-8"
    for name in ("sortBy", "limit"):
        environ = {"QUERY_STRING": f"{name}={odd}"}
        assert error(asked.get(url, environ_overrides=environ), 400, "ValidationError")
    environ = {"QUERY_STRING": f"limit=1&_={odd}"}  # which nobody reads
    assert ids(asked.get(url, environ_overrides=environ)) == ["a"]
    for name in (odd, f"f{odd}lter"):
        environ = {"QUERY_STRING": f"limit=1&{name}=1"}
        message = error(asked.get(url, environ_overrides=environ), 400, "ValidationError")
        assert message == "parameters: takes names in UTF-8, without control characters"


PART = b'--b\r\nContent-Disposition: form-data; name="filter"\r\n%s\r\nv==Zo\xeb\r\n--b--\r\n'
LATIN = b"Content-Type: text/plain; charset=iso-8859-1\r\n"


@pytest.mark.parametrize(
    ("body", "kind", "found"),
    [
        (b"filter=v==Zo%EB", f"{FORM}; charset=iso-8859-1", True),
        (b"filter=v==Zo\xeb", f"{FORM}; charset=ISO-8859-15", True),
        (b"filter=v==Zo%EB", f'{FORM}; charset="windows-1252"', True),
        (b"filter=v==Zo%C3%AB", f"{FORM}; charset=UTF-8", True),
        (b"\xef\xbb\xbffilter=v==Zo\xc3\xab", FORM, True),
        (PART % LATIN, MULTIPART, True),
        (PART % b"", f"{MULTIPART}; charset=latin1", True),
        (PART.replace(b"\xeb", b"\xc3\xab") % b"", MULTIPART, True),
        (b'{"filter": "v==Zo\xc3\xab"}', "application/json; charset=utf-8", True),
        (b'\xef\xbb\xbf{"filter": "v==Zo\xc3\xab"}', "application/json", True),
        (b"filter=v==Zo%EB", f"{FORM}; charset=us-ascii", False),
        (PART % b"", MULTIPART, False),
        (b"filter=v==Zo%EB", f"{FORM}; charset=idna", False),
        (b"filter=v==Zo%EB", f"{FORM}; charset=nonsense", False),
        (b"filter=v==Zo%EB", f"{FORM}; charset=utf-16", False),
        (PART % b"Content-Type: text/plain; charset=zip\r\n", MULTIPART, False),
        (b'{"filter": "v==Zo\xeb"}', "application/json; charset=iso-8859-1", False),
        ('{"filter": "v==Zoë"}'.encode("utf-16"), "application/json; charset=utf-16", False),
    ],
)
def test_a_body_is_read_in_the_charset_that_it_names(
    asked: FlaskClient, url: str, body: bytes, kind: str, found: bool
) -> None:
    session_of = {"id": "b", "params": {"v": "Zoë"}}
    assert asked.post(url.replace("/list/", "/params/"), json=session_of).status_code == 200
    answer = asked.post(url, data=body, content_type=kind)
    if found:
        assert ids(answer) == ["b"]
    else:
        error(answer, 400, "ValidationError")


def test_a_token_in_the_body_counts_whatever_the_body_is(asked: FlaskClient, token: Issue) -> None:
    good = token("bob")
    for options in ({"data": {"token": good}}, {"json": {"token": good, "filter": "login==bob"}}):
        for path in ("/api/list", "/api/list/"):
            assert ids(asked.post(path, **options)) == ["d"]
    said: dict[str, Any] = {"token": good, "id": "d", "params": {"x": 1}}
    assert asked.post("/api/params", json=said).status_code == 200
    for odd in (None, "", 5, [good], {"a": good}):
        assert error(asked.post("/api/list", json={"token": odd}), 401, "AuthError")


def test_an_address_with_a_slash_at_its_end_is_the_one_without(
    asked: FlaskClient, url: str
) -> None:
    assert ids(asked.get(f"{url}/?limit=1")) == ["a"]
    assert ids(asked.post(f"{url}/", json={"limit": 1})) == ["a"]
    said = {"id": "a", "params": {}}
    assert asked.post(url.replace("/list/", "/params/") + "/", json=said).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "br", "deflate, gzip", "x" * 100])
def test_a_compressed_body_is_refused_and_named(asked: FlaskClient, url: str, coding: str) -> None:
    for path in (url, url.replace("/list/", "/params/")):
        answer = asked.post(path, json={}, headers={"Content-Encoding": coding})
        message = error(answer, 415, "UnsupportedMediaType")
        assert message.startswith(f"Content-Encoding: {coding[:40]} is not taken")
        # RFC 9110 section 15.5.16
        assert answer.headers["Accept-Encoding"] == "identity"
    for plain in ("identity", ""):
        answer = asked.post(url, json={"limit": 1}, headers={"Content-Encoding": plain})
        assert ids(answer) == ["a"]


@pytest.mark.parametrize("suffix", ["-gzip", "--gzip", ";gzip", "-br", "-zstd"])
def test_an_entity_tag_with_a_proxys_suffix_is_still_ours(
    asked: FlaskClient, url: str, suffix: str
) -> None:
    tag = asked.get(url).headers["ETag"]
    for sent in (f'{tag[:-1]}{suffix}"', f'W/{tag[:-1]}{suffix}"', f'"x", {tag[:-1]}{suffix}"'):
        assert asked.get(url, headers={"If-None-Match": sent}).status_code == 304
    for other in (f'"x{suffix}"', f'{tag[:-1]}x"', f'{tag[:-3]}{suffix}"'):
        assert asked.get(url, headers={"If-None-Match": other}).status_code == 200
