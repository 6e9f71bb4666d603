from __future__ import annotations

import os
import stat
from dataclasses import replace

import pytest

from fastx_list.agent import identity
from fastx_list.config import ConfigError, Settings
from tests.support import Service, let_others_in, wait_for


def test_the_name_is_random_kept_and_closed_to_others(settings: Settings) -> None:
    assert identity.find(settings) is None
    name = identity.read(settings)
    assert identity.read(settings) == identity.find(settings) == name
    assert stat.S_IMODE(identity.path(settings).stat().st_mode) == 0o600
    assert [file.name for file in settings.state_dir.iterdir()] == ["agent-here"]
    assert identity.read(replace(settings, server_id="there")) != name


def test_what_root_makes_belongs_to_the_owner_of_the_directory(settings: Settings) -> None:
    settings.state_dir.mkdir(0o700)
    if os.geteuid() == 0:
        let_others_in(settings.state_dir.parent)
        os.chown(settings.state_dir, 5, 6)
    identity.read(settings)
    owner, file = settings.state_dir.stat(), identity.path(settings).stat()
    assert (file.st_uid, file.st_gid) == (owner.st_uid, owner.st_gid)


def test_a_file_that_holds_no_name_is_named(settings: Settings) -> None:
    settings.state_dir.mkdir()
    for content in (b"", b"mine", b"\xff" * 32):
        identity.path(settings).write_bytes(content)
        assert identity.find(settings) is None
        with pytest.raises(ConfigError, match=str(identity.path(settings))):
            identity.read(settings)


def test_one_agent_runs_on_one_state_directory(settings: Settings) -> None:
    with identity.only_one(settings):
        with pytest.raises(ConfigError, match="an agent runs already as 'here'"):
            with identity.only_one(settings):
                pass
        with identity.only_one(replace(settings, server_id="there")):
            pass
    with identity.only_one(settings):
        pass


def test_a_second_agent_says_that_there_is_one_and_a_killed_one_leaves_no_lock(
    service: Service,
) -> None:
    first = service.start_agent()
    wait_for("the first look", lambda: "ok agent: " in service.run("doctor", check=False).stdout)
    done = service.run("agent", "--once", check=False)
    assert (
        done.returncode == 1
        and "an agent runs already" in done.stderr
        and "Traceback" not in done.stderr
    )
    first.kill()
    first.wait()
    assert service.run("agent", "--once").returncode == 0
