"""What the agent writes of itself, and what ``fastx-list doctor`` makes of it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fastx_list.agent import identity
from fastx_list.agent.keep import Agent
from fastx_list.agent.look import Looker
from fastx_list.agent.rights import missing, rights
from fastx_list.command.findings import Level
from fastx_list.config import Settings, fingerprint, load
from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from fastx_list.text import version
from tests.agent.scripted import Scripted, facts
from tests.command.conftest import Command, Said
from tests.support import Service, needs_root, program, wait_for

ALL = ("CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE")


@pytest.mark.parametrize(
    ("held", "lacks"),
    [
        (ALL, ()),
        (("CAP_DAC_OVERRIDE", "CAP_SYS_PTRACE"), ()),
        (("CAP_SYS_PTRACE",), ("CAP_DAC_READ_SEARCH",)),
        (("CAP_DAC_READ_SEARCH",), ("CAP_SYS_PTRACE",)),
        ((), ALL),
    ],
)
def test_what_an_agent_lacks_to_see_all(held: tuple[str, ...], lacks: tuple[str, ...]) -> None:
    assert missing(held) == lacks


def test_an_agent_writes_its_release_its_rights_which_settings_it_has_and_its_last_look(
    settings: Settings, store: Store
) -> None:
    before = round(time.time() * 1000)
    Agent(settings, store, {"source": Scripted(facts())}).scan()
    [server] = store.snapshot().servers
    members = json.loads(str(server.text))
    assert (members["version"], tuple(members["rights"])) == (version(), rights())
    assert before <= members["lastLook"] <= round(time.time() * 1000)
    assert 0 < members["lookSeconds"] < 600
    assert members["settings"] == fingerprint(settings, identity.read(settings))


def test_the_doctor_says_what_the_agent_lacks_not_what_it_lacks_itself(
    command: Command, service: Service
) -> None:
    """Whoever asks is root; the agent is not."""
    needs_root()
    setpriv = program("setpriv", "util-linux")
    without = "--bounding-set=-sys_ptrace"
    done = command("doctor")
    assert done.returncode == 2 and "agent: none has run yet" in done.stdout
    once = [setpriv, without, sys.executable, "-m", "fastx_list", "agent", "--once"]
    subprocess.run(once, env=service.environ, check=True, capture_output=True)
    done = command("doctor")
    assert done.returncode == 1 and "!  agent: it lacks CAP_SYS_PTRACE: " in done.stdout


def beat(settings: Settings, store: Store, **members: object) -> None:
    """Let an agent say this of itself."""
    holder = identity.read(settings)
    said = {"version": version(), "rights": ALL, "settings": fingerprint(settings, holder)}
    server = replace(Server("here", "host"), **{**said, **members})  # type: ignore[arg-type]
    store.heartbeat(server, Lease(holder, "1", "host", 3600))


def test_an_agent_of_another_release_or_with_other_settings_is_to_be_restarted(
    said: Said, settings: Settings, store: Store, environ: dict[str, str]
) -> None:
    beat(settings, store)
    findings = said()
    assert "agent: it sees the sessions of all users in full" in findings[Level.ok]
    assert "restart" not in findings[Level.warning]
    environ["FASTX_LIST_SCAN_INTERVAL"] = "7"
    assert "agent: it runs with other settings than these" in said()[Level.warning]
    del environ["FASTX_LIST_SCAN_INTERVAL"]
    environ["FASTX_LIST_LIVE_PORT"] = "8001"  # which is told to some processes only
    assert "other settings" not in said()[Level.warning]
    beat(settings, store, version="0.0.1")
    assert "it is of release '0.0.1'" in said()[Level.warning]


def test_what_the_agent_cannot_see_is_to_be_mended(
    said: Said, settings: Settings, store: Store
) -> None:
    beat(settings, store, problems=("bob's files do not answer",), rights=("CAP_SYS_PTRACE",))
    warnings = said()[Level.warning]
    assert "agent: bob's files do not answer" in warnings
    assert ("agent: it lacks CAP_DAC_READ_SEARCH" in warnings) == (os.geteuid() == 0)


def test_a_fingerprint_tells_settings_apart_and_nothing_of_them(tmp_path: Path) -> None:
    def of(key: str = "key", **more: str) -> str:
        return fingerprint(load({"FASTX_LIST_STATE_DIR": str(tmp_path), **more}), key)

    assert of() == of() != of("other")
    assert of(FASTX_LIST_SECRET_KEY="s" * 40) not in (of(), of(FASTX_LIST_SECRET_KEY="t" * 40))
    several = "10.0.0.0/8 unix ::1 192.0.2.7"
    assert of(FASTX_LIST_TRUSTED_PROXIES=several) == of(
        FASTX_LIST_TRUSTED_PROXIES=" ".join(reversed(several.split()))
    )


def test_an_agent_says_once_what_it_is(
    settings: Settings, store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    agent = Agent(replace(settings, scan_interval=0.1), store, {"mine": Scripted(facts())})
    looker = Looker(agent.look)
    thread = threading.Thread(target=agent.run, args=[looker])
    thread.start()
    wait_for("some looks", lambda: agent.look.machine.last_look is not None and caplog.messages)
    looker.stop()
    thread.join()
    [said] = [each for each in caplog.messages if each.startswith("fastx-list ")]
    assert "server 'here': " in said and said.endswith("; looks for mine; 1 session")
