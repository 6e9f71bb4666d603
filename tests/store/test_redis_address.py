from __future__ import annotations

import re
import secrets
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastx_list.config import ConfigError, load
from fastx_list.store.redis_address import Address, parse

PASSWORD = secrets.token_hex(8)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://host", Address((("host", 6379),))),
        ("redis://host:7000/3", Address((("host", 7000),), database=3)),
        (
            "redis://[::1]:7000/?db=3&prefix=site",
            Address((("::1", 7000),), database=3, prefix="site"),
        ),
        (f"redis://:{PASSWORD}@host", Address((("host", 6379),), password=PASSWORD)),
        (
            f"rediss://us%40er:{PASSWORD}%2F%40@host/1",
            Address(
                (("host", 6379),), database=1, username="us@er", password=f"{PASSWORD}/@", tls=True
            ),
        ),
        (
            "redis+unix:///run/redis/redis.sock?db=2",
            Address(socket="/run/redis/redis.sock", database=2),
        ),
        (
            "redis+sentinel://a,b:7000,c/main/4",
            Address((("a", 26379), ("b", 7000), ("c", 26379)), master="main", database=4),
        ),
        (
            "redis+sentinel://[::1]:7000,b,[::2]/main",
            Address((("::1", 7000), ("b", 26379), ("::2", 26379)), master="main"),
        ),
        (f"redis://:[{PASSWORD}@host", Address((("host", 6379),), password="[" + PASSWORD)),
        (f"redis://:{PASSWORD}]@host", Address((("host", 6379),), password=PASSWORD + "]")),
        ("rediss+sentinel://a/main", Address((("a", 26379),), master="main", tls=True)),
        # A password is another one each time
    ],
    ids=[
        "host",
        "port",
        "IPv6",
        "password",
        "user",
        "socket",
        "sentinels",
        "IPv6 sentinels",
        "bracket",
        "other bracket",
        "TLS",
    ],
)
def test_a_url_says_where_the_store_is(url: str, expected: Address) -> None:
    assert parse(url) == expected


def test_files_are_named_in_options(tmp_path: Path) -> None:
    names = {name: tmp_path / name for name in ("ca", "cert", "key", "password_file")}
    for file in names.values():
        file.write_text(f"{PASSWORD}\n")
    address = parse("rediss://host?" + "&".join(f"{name}={file}" for name, file in names.items()))
    assert (address.ca, address.cert, address.key) == tuple(
        str(names[name]) for name in ("ca", "cert", "key")
    )
    assert address.read_password() == PASSWORD
    names["password_file"].write_text("another")
    assert address.read_password() == "another"


@pytest.mark.parametrize(
    "rest",
    [
        "host:x",
        "host:0",
        "host:65536",
        "",
        ":6379",
        "a,b",
        "host/x",
        "host/1/2",
        "host/-1",
        "host?db=x",
        "host?prefix={x}",
        "host?prefix=",
        "host?ca=/nowhere",
        "host?password_file=/nowhere",
        "host?unknown=1",
        "[host",
        "host]",
        "[]",
        "[host]",
        "[::1",
        "ho\N{ACCOUNT OF}st",
        "a,[::1",
        "host?prefix=a%20b",
    ],
)
def test_what_is_wrong_is_said_without_the_password(rest: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load({"FASTX_LIST_STORE": f"redis://user:{PASSWORD}@{rest}"})
    assert str(caught.value).startswith("FASTX_LIST_STORE takes sqlite:///PATH, redis://")
    assert PASSWORD not in str(caught.value)


@given(st.text(), st.text(st.sampled_from("[]:,@/?#%a1.")))
def test_whatever_is_given_is_an_address_or_an_error_that_can_be_told(
    any_text: str, rest: str
) -> None:
    for url in (any_text, f"redis://{rest}", f"redis+sentinel://{rest}/main"):
        try:
            assert str(parse(url)).startswith("Redis at ")
        except ValueError as error:
            # None of Python's own, which are for programmers
            assert not re.search("Invalid|netloc|appear|cast|null|codec", str(error))


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://host",
        "redis+unix://host/path",
        "redis+unix://",
        "valkey://host",
        "redis",
        "redis:x",
    ],
)
def test_other_urls_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="FASTX_LIST_STORE takes"):
        load({"FASTX_LIST_STORE": url})


def test_the_text_for_people_has_no_password() -> None:
    address = parse(f"redis+sentinel://user:{PASSWORD}@a,[::1]:7000/main/4")
    assert str(address) == "Redis at a:26379,[::1]:7000, master main, database 4"
    assert PASSWORD not in repr(address)
    assert str(parse("redis+unix:///x")) == "Redis at /x, database 0"
