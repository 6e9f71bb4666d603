from __future__ import annotations

import os
from pathlib import Path

import pytest
from gunicorn import systemd

from fastx_list.agent import keep, look, occasions  # while we may read them
from fastx_list.command import doctor, up
from fastx_list.command.cli import main
from tests.command.conftest import Command
from tests.support import Service, needs_root, ordinary_user


def test_it_says_that_the_settings_are_in_order_and_makes_nothing(
    command: Command, service: Service, tmp_path: Path
) -> None:
    done = command("check")
    assert (done.returncode, done.stdout) == (0, "the settings are in order\n")
    file = tmp_path / "fastx-list.conf"
    file.write_text("FASTX_LIST_SERVER_POOL=pool\nFASTX_LIST_SERVER_ID=other\n")
    done = command("check", FASTX_LIST_CONFIG=str(file))
    assert done.stdout == f"the settings are in order: 1 line of {file}\n"
    assert not service.state.exists()


def test_it_says_all_that_is_wrong_one_line_each(
    command: Command, service: Service, tmp_path: Path
) -> None:
    file = tmp_path / "fastx-list.conf"
    file.write_text("FASTX_LIST_SCAN_INTERVAL=soon\nhush\nFASTX_LIST_QUEUE=1\n")
    done = command("check", FASTX_LIST_CONFIG=str(file), FASTX_LIST_COMPAT="no")
    assert done.returncode == 1 and done.stdout == ""
    assert {line.split(" takes ")[0] for line in done.stderr.splitlines()} == {
        f"warning: {file}, line 3: FASTX_LIST_QUEUE is no setting",
        f"Error: {file}, line 2:",
        f"Error: {file}, line 1: FASTX_LIST_SCAN_INTERVAL",
        "Error: FASTX_LIST_COMPAT",
    }


def test_it_names_what_contradicts_another_setting(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "fastx-list.conf"
    file.write_text("FASTX_LIST_COMPAT=fastx\nFASTX_LIST_RESULT_ENVELOPE=false\n")
    done = command("check", FASTX_LIST_CONFIG=str(file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: {file}, line 2: FASTX_LIST_RESULT_ENVELOPE takes true beside"
        " FASTX_LIST_COMPAT=fastx\n"
    )


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("FASTX_LIST_SOURCES", "nonsense"),
        ("FASTX_LIST_TOKEN_PUBLIC_KEY", "/etc/hostname"),
        ("FASTX_LIST_CONFIG", "/etc/no-such-file"),
        ("WEB_CONCURRENCY", "many"),
    ],
)
def test_what_only_shows_when_something_is_started_is_said_as_well(
    command: Command, setting: str, value: str
) -> None:
    done = command("check", **{setting: value})
    assert done.returncode == 1 and done.stdout == "" and "Traceback" not in done.stderr
    [line] = done.stderr.splitlines()
    assert line.startswith("Error: ") and (setting in line or value in line)


def test_a_secret_that_nothing_can_be_started_with_is_said(
    command: Command, service: Service
) -> None:
    service.state.mkdir(mode=0o700)
    (service.state / "secret").write_text("short")
    (service.state / "secret").chmod(0o600)
    done = command("check")
    assert done.returncode == 1 and "the secret" in done.stderr


@pytest.mark.parametrize(
    "arguments", ["token issue alice", "doctor", "check", "agent --once", "up"]
)
def test_on_a_machine_with_a_site_other_users_are_told_what_to_do(
    arguments: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    needs_root()
    site = tmp_path / "fastx-list.conf"
    site.touch(mode=0o600)
    monkeypatch.setattr("fastx_list.settings_file.FILE", site)
    monkeypatch.delenv("FASTX_LIST_CONFIG")
    monkeypatch.setenv("HOME", str(tmp_path))
    with ordinary_user(), pytest.raises(SystemExit) as ended:
        main(arguments.split())
    said = capsys.readouterr()
    [line] = (said.out + said.err).splitlines()
    assert ended.value.code != 0 and "run this as root (sudo)" in line
    assert os.listdir(tmp_path) == [site.name] and all((doctor, up, systemd, keep, look, occasions))
