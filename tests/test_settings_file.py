"""The file with a machine's settings: what it says, who may have written it, what is wrong."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from fastx_list import settings_file
from fastx_list.config import ConfigError, load, read, set_by, warnings
from fastx_list.settings_file import value_of
from tests.support import let_others_in, needs_root, ordinary_user


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is this process's."""
    path = tmp_path / "etc" / "fastx-list.conf"
    path.parent.mkdir(mode=0o755)
    path.touch()
    path.chmod(0o644)
    monkeypatch.setenv("FASTX_LIST_CONFIG", str(path))
    let_others_in(tmp_path)
    return path


@pytest.fixture
def site(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a machine that serves a site, and the former one beside it."""
    monkeypatch.delenv("FASTX_LIST_CONFIG")
    monkeypatch.setattr(settings_file, "FILE", file)
    monkeypatch.setattr(settings_file, "FORMER", tmp_path / "etc" / "default")
    return file


def test_it_sets_what_the_environment_does_not(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file.write_text(
        "# a comment\n\n  ; another\n FASTX_LIST_SERVER_ID=here\nFASTX_LIST_SPOOL= '/a b/c' \n"
        'FASTX_LIST_PING_INTERVAL=7\nFASTX_LIST_SERVER_POOL=it\'s "so"\nFASTX_LIST_STORE=\n',
        encoding="utf-8",
    )
    monkeypatch.setenv("FASTX_LIST_PING_INTERVAL", "9")
    monkeypatch.setenv("FASTX_LIST_SERVER_ID", " ")
    found = load()
    assert (found.server_id, found.spool, found.ping_interval) == ("here", Path("/a b/c"), 9.0)
    assert found.server_pool == 'it\'s "so"' and found.store.startswith("sqlite:")


def test_a_directory_in_it_is_where_all_else_is_looked_for(file: Path) -> None:
    file.write_text("FASTX_LIST_STATE_DIR=/elsewhere\n")
    assert load().store == "sqlite:////elsewhere/sessions.db"


def test_it_tells_gunicorn_how_many_workers_to_start(file: Path) -> None:
    file.write_text("WEB_CONCURRENCY=3\n")
    assert value_of("WEB_CONCURRENCY") == "3"
    assert list(warnings(set_by())) == []
    file.write_text("WEB_CONCURRENCY=many\n")
    with pytest.raises(ConfigError, match=r"line 1: WEB_CONCURRENCY takes a whole number"):
        load()


def test_each_line_that_is_wrong_is_named_and_not_repeated(file: Path) -> None:
    file.write_text(
        "FASTX_LIST_SCAN_INTERVAL=soon\nexport FASTX_LIST_SECRET_KEY=hush\n=hush\nhush\n"
        "FASTX_LIST_SPOOL=/a\tb\x1b\nFASTX_LIST_LIST_PORT=http\n"
    )
    settings, errors = read(set_by())
    assert settings is None and "hush" not in "".join(errors)
    takes = "takes NAME=value, or # and a comment"
    assert [error for error in errors if takes in error] == [
        f"{file}, line {number}: {takes}" for number in (2, 3, 4, 5)
    ]
    assert [error.split(" takes ")[0] for error in errors if takes not in error] == [
        f"{file}, line 1: FASTX_LIST_SCAN_INTERVAL",
        f"{file}, line 6: FASTX_LIST_LIST_PORT",
    ]
    with pytest.raises(ConfigError, match="line 2: takes NAME=value"):
        load()


def test_what_sets_nothing_is_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.write_text("FASTX_LIST_STATEDIR=/a\nANSWER=42\nFASTX_LIST_SERVER_ID=a\n" * 2)
    with caplog.at_level(logging.WARNING):
        assert load().server_id == "a"
    assert caplog.messages == [
        *(
            f"{file}, line {number}: {name} is set once more; this one holds"
            for number, name in enumerate(
                ("FASTX_LIST_STATEDIR", "ANSWER", "FASTX_LIST_SERVER_ID"), start=4
            )
        ),
        f"{file}, line 5: ANSWER is no setting",
        f"{file}, line 4: FASTX_LIST_STATEDIR is no setting; did you mean FASTX_LIST_STATE_DIR?",
    ]


def test_it_has_to_be_there_if_it_is_named(file: Path) -> None:
    file.unlink()
    with pytest.raises(ConfigError, match="No such file or directory"):
        load()


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_nobody_else_may_write_it(file: Path, mode: int) -> None:
    file.chmod(mode)
    with pytest.raises(ConfigError, match=f"can be written by others.*chmod go-w {file}"):
        load()
    file.chmod(0o640)
    file.parent.chmod(0o777)
    with pytest.raises(ConfigError, match="chmod"):
        load()


def test_it_is_roots_or_ones_own(file: Path) -> None:
    needs_root()
    os.chown(file, 65534, 0)
    with pytest.raises(ConfigError, match="belongs to another user"):
        load()


def test_it_is_a_file_of_some_length_and_text(file: Path) -> None:
    file.write_bytes(b"#" * 70_000)
    with pytest.raises(ConfigError, match="it is over 65536 bytes"):
        load()
    file.write_bytes(b"# one\nFASTX_LIST_SPOOL=\xff\n")
    with pytest.raises(ConfigError, match="line 2: it is not UTF-8"):
        load()
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="no regular file"):
        load()


# The file of a machine that serves a site


def test_without_one_the_environment_is_all_there_is(site: Path) -> None:
    site.unlink()
    assert load().state_dir == load({}).state_dir
    site.write_text("FASTX_LIST_STATE_DIR=/site\n")
    assert load().state_dir == Path("/site")


def test_settings_that_are_given_have_no_file(site: Path) -> None:
    site.write_text("FASTX_LIST_SERVER_ID=site\n")
    assert load({"FASTX_LIST_SERVER_ID": "given"}).server_id == "given"
    assert load({}).server_id != "site"


def test_who_may_not_read_it_is_told_what_to_do(
    site: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_root()
    site.write_text("FASTX_LIST_SECRET_KEY=hush\n")
    site.chmod(0o600)
    with ordinary_user(), pytest.raises(ConfigError) as caught:
        load()
    assert str(caught.value).startswith(f"{site} has this machine's settings, and is closed to you")
    assert "sudo" in str(caught.value) and "FASTX_LIST_STATE_DIR" in str(caught.value)
    site.parent.chmod(0o700)
    with ordinary_user(), pytest.raises(ConfigError, match="is closed to you"):
        load()
    monkeypatch.setenv("FASTX_LIST_STATE_DIR", str(tmp_path / "mine"))
    with ordinary_user():
        assert load().state_dir == tmp_path / "mine"
    monkeypatch.setenv("FASTX_LIST_CONFIG", str(site))
    with ordinary_user(), pytest.raises(ConfigError, match="chgrp GROUP and chmod 640"):
        load()


def test_the_file_of_the_first_release_still_holds_and_is_to_be_moved(site: Path) -> None:
    needs_root()
    site.write_text("FASTX_LIST_SERVER_ID=new\nFASTX_LIST_SERVER_POOL=pool\n")
    settings_file.FORMER.write_text("FASTX_LIST_SERVER_ID='old'\n")
    settings_file.FORMER.chmod(0o600)
    found = load()
    assert (found.server_id, found.server_pool) == ("old", "pool")
    [moved] = warnings(set_by())
    assert moved.startswith(f"{settings_file.FORMER} is still in force; move its lines to {site}")
    with ordinary_user():
        assert load().server_id == "new"  # what systemd reads for the services
    settings_file.FORMER.write_text("# nothing\n")
    assert list(warnings(set_by())) == [] and load().server_id == "new"
