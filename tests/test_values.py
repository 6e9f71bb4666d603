from __future__ import annotations

import os
import secrets
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fastx_list.config import ConfigError, load
from tests.support import ordinary_user

SECRET = secrets.token_hex(32)


def setting(name: str, value: str) -> object:
    """Return what the setting ``FASTX_LIST_<name>`` becomes with this value."""
    found: object = getattr(load({f"FASTX_LIST_{name}": value}), name.lower())
    return found


def refusal(name: str, value: str) -> str:
    """Return the message of the error that this value of the setting gets."""
    with pytest.raises(ConfigError) as caught:
        setting(name, value)
    message = str(caught.value)
    assert message.startswith(f"FASTX_LIST_{name} takes ")
    return message


# Stores and servers


@pytest.mark.parametrize(
    "value", ["/var/lib/sessions.db", "sqlite:", "mysql://host/db", "SQLITE:///x", "file:///x"]
)
def test_it_refuses_a_store_of_another_kind(value: str) -> None:
    message = refusal("STORE", value)
    assert "sqlite:///" in message and "redis://" in message


@pytest.mark.parametrize("value", ["a", "login-1.example.org", "rack_3:node-7", "1234", "x" * 128])
def test_a_server_id_is_taken_as_it_is(value: str) -> None:
    assert setting("SERVER_ID", value) == value


@pytest.mark.parametrize(
    "value",
    ["a b", "a/b", "größe", "a\nb", "x" * 129, "<b>", '"'],
    ids=lambda value: ascii(value)[:20],
)
def test_it_refuses_a_server_id_of_other_characters(value: str) -> None:
    assert "1 to 128 letters, digits and ._:-" in refusal("SERVER_ID", value)


# Secrets and keys


@pytest.mark.parametrize(
    "value", ["x" * 32, "1" * 40, "0" * 32, "true" * 8, "[" * 32, "{}" * 16, "ö" * 16, "a b" * 11]
)
def test_a_secret_stays_the_text_it_is(value: str) -> None:
    assert setting("SECRET_KEY", value) == value


@pytest.mark.parametrize("value", ["hunter2", "x" * 31, "1" * 31, "ö" * 15, " " * 20 + "x" * 20])
def test_it_refuses_a_secret_of_under_32_bytes_without_repeating_it(value: str) -> None:
    message = refusal("SECRET_KEY", value)
    assert "at least 32 bytes" in message and "openssl rand -hex 32" in message
    assert value.strip() not in message


def test_it_refuses_a_secret_that_is_no_text_without_repeating_it() -> None:
    # Bytes that are not UTF-8 come out of the environment as surrogates.
    value = os.fsdecode(b"\xff" * 16 + SECRET.encode())
    assert SECRET not in refusal("SECRET_KEY", value)


@pytest.mark.parametrize(
    "value",
    ["https://example.org", "http://[::1]:8080/a?b=c@d", "https://h?x=1", "http://h/%C3%BC"],
)
def test_a_webhook_is_a_url(value: str) -> None:
    assert setting("WEBHOOK", value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("htps://h/{}", "https://u:{}@h/", "https://h:99999/{}", "https://h:x/{}", "/{}"),
        *("https://a..b/{}", "https://[::1/{}", "https://h/ü{}", "https://h/a {}", "https://:1/{}"),
    ],
)
def test_it_refuses_a_webhook_that_nothing_can_be_sent_to_without_repeating_it(value: str) -> None:
    assert SECRET not in refusal("WEBHOOK", value.format(SECRET))


def test_a_public_key_is_the_path_of_a_file(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("")
    assert setting("TOKEN_PUBLIC_KEY", str(path)) == path


def test_it_refuses_a_public_key_that_is_no_file(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing.pem"):
        message = refusal("TOKEN_PUBLIC_KEY", str(path))
        assert "the path of a file" in message and str(path) in message


def test_it_refuses_a_public_key_in_a_directory_that_may_not_be_entered(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("")
    tmp_path.chmod(0)
    try:
        with ordinary_user():
            message = refusal("TOKEN_PUBLIC_KEY", str(path))
    finally:
        tmp_path.chmod(0o700)
    assert str(path) in message


def test_it_refuses_a_public_key_whose_path_is_too_long() -> None:
    refusal("TOKEN_PUBLIC_KEY", "/" + "x" * 5000)


# Switches and numbers


@pytest.mark.parametrize("value", ["1", "true", "True", "TRUE", "yes", "on", " On "])
def test_a_switch_is_on(value: str) -> None:
    assert setting("RESULT_ENVELOPE", value) is True


@pytest.mark.parametrize("value", ["0", "false", "False", "FALSE", "no", "off", " Off "])
def test_a_switch_is_off(value: str) -> None:
    assert setting("RESULT_ENVELOPE", value) is False


@pytest.mark.parametrize("value", ["2", "y", "maybe", "tru", "None", "-1", "1.0", "on off"])
def test_it_refuses_a_switch_that_is_neither_on_nor_off(value: str) -> None:
    assert "takes true or false" in refusal("RESULT_ENVELOPE", value)


@pytest.mark.parametrize(
    "name, value, wanted",
    [
        ("SCAN_INTERVAL", "0.1", 0.1),
        ("SCAN_INTERVAL", "2", 2.0),
        ("SCAN_INTERVAL", "0.25", 0.25),
        ("SCAN_INTERVAL", "3600", 3600.0),
        ("PING_INTERVAL", "0.1", 0.1),
        ("PING_INTERVAL", "3600", 3600.0),
        ("MAX_SUBSCRIBERS_PER_LOGIN", "1", 1),
        ("MAX_SUBSCRIBERS_PER_LOGIN", "1000000", 1_000_000),
        ("LIVE_PORT", "1", 1),
        ("LIVE_PORT", "65535", 65535),
        ("LIVE_PORT", "0", None),
    ],
)
def test_a_number_in_its_range_is_taken(name: str, value: str, wanted: float | None) -> None:
    found = setting(name, value)
    assert found == wanted
    assert type(found) is type(wanted)


@pytest.mark.parametrize(
    "name, value",
    [
        *(
            ("SCAN_INTERVAL", value)
            for value in (
                "0",
                "0.05",
                "-1",
                "3601",
                "nan",
                "inf",
                "-inf",
                "1s",
                "often",
                "1,5",
                "1 2",
                "1e9",
            )
        ),
        *(("PING_INTERVAL", value) for value in ("0", "3601", "nan", "x")),
        *(
            ("MAX_SUBSCRIBERS_PER_LOGIN", value)
            for value in ("0", "-1", "1.5", "1000001", "nan", "inf", "many")
        ),
        *(("LIVE_PORT", value) for value in ("-1", "65536", "80.5", "http", "nan", "inf")),
    ],
)
def test_it_refuses_a_number_out_of_its_range(name: str, value: str) -> None:
    message = refusal(name, value)
    assert "number from" in message and repr(value) in message
    assert ("whole number" in message) is (name in ("MAX_SUBSCRIBERS_PER_LOGIN", "LIVE_PORT"))


# Origins


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("https://portal.example.org", ("https://portal.example.org",)),
        ("http://localhost:8080", ("http://localhost:8080",)),
        ("https://[2001:db8::1]:8443", ("https://[2001:db8::1]:8443",)),
        ("https://a.example,https://b.example", ("https://a.example", "https://b.example")),
        (" https://a.example , https://b.example ", ("https://a.example", "https://b.example")),
        (
            "https://a.example https://b.example\nhttps://c.example",
            ("https://a.example", "https://b.example", "https://c.example"),
        ),
        (",", ()),
    ],
)
def test_origins_stand_between_commas_or_spaces(value: str, wanted: tuple[str, ...]) -> None:
    assert setting("ALLOWED_ORIGINS", value) == wanted


@pytest.mark.parametrize(
    "value",
    [
        "portal.example.org",
        "*",
        "https://*",
        "https://*.example.org",
        "https://a.example/",
        "https://a.example/path",
        "https://",
        "wss://a.example",
        "ftp://a.example",
        "null",
        "https:a.example",
    ],
)
def test_it_refuses_what_is_no_origin(value: str) -> None:
    for text in (value, f"https://good.example {value}"):
        message = refusal("ALLOWED_ORIGINS", text)
        assert (
            "takes origins such as https://portal.example.org" in message and repr(value) in message
        )


# Sources


@pytest.mark.parametrize("value", ["tigervnc,spool", "tigervnc spool", " tigervnc , spool "])
def test_sources_stand_between_commas_or_spaces(value: str) -> None:
    assert setting("SOURCES", value) == ("tigervnc", "spool")


# Proxies


@pytest.mark.parametrize("value", ["nginx", "10.0.0.0/33", "10.0.0.1/8", "unix:", "*"])
def test_a_trusted_proxy_is_an_address_a_network_or_unix(value: str) -> None:
    with pytest.raises(ConfigError, match="FASTX_LIST_TRUSTED_PROXIES takes addresses, networks"):
        load({"FASTX_LIST_TRUSTED_PROXIES": f"127.0.0.1,{value}"})


# Whatever comes

NAMES = (
    "STORE",
    "SERVER_ID",
    "SECRET_KEY",
    "TOKEN_PUBLIC_KEY",
    "RESULT_ENVELOPE",
    "ALLOWED_ORIGINS",
    "SCAN_INTERVAL",
    "LIVE_PORT",
)


@settings(deadline=None)
@given(st.sampled_from(NAMES), st.text(st.characters(exclude_characters="\0")))
@example("SECRET_KEY", "\udcff")
@example("TOKEN_PUBLIC_KEY", "\udcff")
@example("TOKEN_PUBLIC_KEY", "\ud800")
@example("LIVE_PORT", "9" * 5000)
def test_any_text_is_either_taken_or_refused_by_name(name: str, value: str) -> None:
    try:
        setting(name, value)
    except ConfigError as error:
        assert str(error).startswith(f"FASTX_LIST_{name} takes ")


# Links


@pytest.mark.parametrize(
    "value",
    [
        "https://portal.example.org/{display}?of={login}",
        "http://portal:8080",
        "https://{hostname}/",
        "x-vnc://{hostname}:{display}",
        "portal:{id}",
    ],
)
def test_it_takes_a_link_to_a_session(value: str) -> None:
    assert setting("CONNECT_URL", value) == value


@pytest.mark.parametrize(
    "value",
    [
        *("javascript:alert({id})", "JavaScript:0", "data:text/html,x", "vbscript:x", "file:///x"),
        *("/relative/{id}", "{id}:x", "java\tscript:x", "https:evil", "https:///x", "https://a b"),
        *("https://x/{colour}", "https://x/{params}", "https://x/{id", 'https://x/"', "blob:x"),
    ],
)
def test_it_refuses_a_link_that_is_none_or_would_run(value: str) -> None:
    assert "https://portal.example.org/{display}" in refusal("CONNECT_URL", value)
