from __future__ import annotations

import logging
import os
import socket
from dataclasses import fields
from pathlib import Path

import pytest

from fastx_list.command.settings import file, table
from fastx_list.config import ConfigError, Settings, SettingsError, load
from tests.support import ordinary_user

DOCUMENT = Path(__file__).parents[1] / "docs" / "settings.md"
NAMES = [each.name.upper() for each in fields(Settings)]


def test_without_any_setting_the_defaults_hold() -> None:
    found = load({"FASTX_LIST_STATE_DIR": "/state", "FASTX_LIST_SERVER_ID": "server"})
    assert found == Settings(
        state_dir=Path("/state"),
        store="sqlite:////state/sessions.db",
        server_id="server",
        spool=Path("/state/spool"),
        session_json=Path("/state/session.json"),
        secret_key=None,
        token_public_key=None,
        result_envelope=False,
        allowed_origins=(),
        sources=None,
        scan_interval=1.0,
        max_subscribers_per_login=100,
        ping_interval=25.0,
        live_port=None,
        server_expiry=60.0,
        server_pool=None,
        server_url=None,
    )


def test_compatibility_with_fastx_brings_the_envelope() -> None:
    assert not load({}).envelope
    assert load({"FASTX_LIST_COMPAT": "fastx"}).envelope
    assert load({"FASTX_LIST_RESULT_ENVELOPE": "true"}).envelope
    with pytest.raises(ConfigError, match="FASTX_LIST_COMPAT takes fastx, not 'x2go'"):
        load({"FASTX_LIST_COMPAT": "x2go"})


@pytest.mark.parametrize("name", ["RESULT_ENVELOPE", "PUBLISHED_ONLY"])
def test_what_compatibility_brings_cannot_be_refused_beside_it(name: str) -> None:
    setting = f"FASTX_LIST_{name}"
    assert load({setting: "false"}) == load({})
    assert load({setting: "true", "FASTX_LIST_COMPAT": "fastx"}).compat == "fastx"
    with pytest.raises(SettingsError) as caught:
        load({setting: "no", "FASTX_LIST_COMPAT": "fastx"})
    assert str(caught.value) == f"{setting} takes true beside FASTX_LIST_COMPAT=fastx"


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FASTX_LIST_SERVER_ID", "from-outside")
    assert load().server_id == "from-outside"


def test_settings_that_are_given_stand_in_for_the_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FASTX_LIST_RESULT_ENVELOPE", "1")
    assert load({}).result_envelope is False


def test_variables_without_the_prefix_are_not_ours() -> None:
    assert (
        load(
            {"SCAN_INTERVAL": "never", "RESULT_ENVELOPE": "maybe", "FASTX_SECRET_KEY": "x"}
        ).scan_interval
        == 1.0
    )


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", ["", "  "], ids=repr)
def test_an_empty_variable_is_an_absent_one(name: str, value: str) -> None:
    assert load({f"FASTX_LIST_{name}": value}) == load({})


def test_space_around_a_value_does_not_count() -> None:
    assert load({"FASTX_LIST_SERVER_ID": " server\n"}).server_id == "server"


def test_the_document_has_the_table_of_settings() -> None:
    """After a change of a setting: python -m fastx_list.command.settings prints the new table."""
    assert f"\n\n{table()}\n\n" in DOCUMENT.read_text(encoding="utf-8")


def test_the_file_of_settings_has_all_of_them() -> None:
    """After a change of a setting: python -m fastx_list.command.settings file prints it anew."""
    shipped = DOCUMENT.with_name("deploy") / "fastx-list.conf"
    assert file() == shipped.read_text(encoding="utf-8")
    assert max(map(len, file().splitlines())) <= 100


def test_no_secret_is_shown_with_the_settings() -> None:
    found = load({"FASTX_LIST_SECRET_KEY": "s" * 40, "FASTX_LIST_STORE": "redis://:pass@host"})
    assert "s" * 40 not in repr(found) and "pass" not in repr(found)


# What is no setting


def warnings(caplog: pytest.LogCaptureFixture, variable: str) -> list[str]:
    """Return the warnings that a variable gets."""
    with caplog.at_level(logging.WARNING):
        load({variable: "x"})
    return caplog.messages


@pytest.mark.parametrize(
    ("variable", "hint"),
    [
        ("FASTX_LIST_SCAN_INTERVALL", "; did you mean FASTX_LIST_SCAN_INTERVAL?"),
        ("FASTX_LIST_STATEDIR", "; did you mean FASTX_LIST_STATE_DIR?"),
        ("FASTX_LIST_state_dir", "; did you mean FASTX_LIST_STATE_DIR?"),
        ("FASTX_LIST_QQQQ\x1b[2J", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_warned_of(
    caplog: pytest.LogCaptureFixture, variable: str, hint: str
) -> None:
    [message] = warnings(caplog, variable)
    assert message == f"{variable.replace(chr(27), chr(0xFFFD))} is no setting{hint}"


@pytest.mark.parametrize(
    "variable",
    ["FASTX_LIST_SESSION_NAME", "FASTX_LIST_SESSION_VIDEO_RAM", "FASTX_LISTING", "FASTX_LIST"],
)
def test_what_is_said_of_a_session_and_what_is_not_ours_is_not_warned_of(
    caplog: pytest.LogCaptureFixture, variable: str
) -> None:
    assert warnings(caplog, variable) == []


# Where things are kept


def test_the_state_is_where_services_keep_it_for_root_and_with_the_user_for_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    wanted = "/var/lib/fastx-list" if os.geteuid() == 0 else "/home/alice/.local/state/fastx-list"
    assert load({}).state_dir == Path(wanted)


@pytest.mark.parametrize(
    "given, wanted",
    [
        ("/xdg/state", "/xdg/state/fastx-list"),
        ("", "/home/alice/.local/state/fastx-list"),
        ("relative", "/home/alice/.local/state/fastx-list"),  # the XDG specification has it ignored
    ],
)
def test_a_users_state_is_where_xdg_says(
    given: str, wanted: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    with ordinary_user():
        assert load({"XDG_STATE_HOME": given}).state_dir == Path(wanted)


def test_a_users_state_is_below_home_without_any_xdg_variable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    with ordinary_user():
        assert load({}).state_dir == Path("/home/alice/.local/state/fastx-list")


def test_what_is_kept_follows_the_state_directory() -> None:
    found = load({"FASTX_LIST_STATE_DIR": "/state dir"})
    assert found.store == "sqlite:////state dir/sessions.db"
    assert found.spool == Path("/state dir/spool")
    assert found.session_json == Path("/state dir/session.json")
    assert found.secret_file == Path("/state dir/secret")


def test_relative_directories_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The three processes may be started in different directories.
    monkeypatch.chdir(tmp_path)
    found = load(
        {"FASTX_LIST_STATE_DIR": "a", "FASTX_LIST_SPOOL": "b", "FASTX_LIST_SESSION_JSON": "c"}
    )
    monkeypatch.chdir("/")
    assert (found.state_dir, found.spool, found.session_json) == (
        tmp_path / "a",
        tmp_path / "b",
        tmp_path / "c",
    )


def test_store_and_spool_may_be_elsewhere() -> None:
    found = load(
        {
            "FASTX_LIST_STATE_DIR": "/a",
            "FASTX_LIST_STORE": "sqlite:////b/c.db",
            "FASTX_LIST_SPOOL": "/d",
        }
    )
    assert (found.store, found.spool, found.secret_file) == (
        "sqlite:////b/c.db",
        Path("/d"),
        Path("/a/secret"),
    )


# Who this is


def test_the_host_name_is_the_server_id_unless_another_is_given() -> None:
    name = socket.gethostname()[:128]
    wanted = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "._:-") else "-"
        for letter in name
    )
    assert load({}).server_id == (wanted or "localhost")
