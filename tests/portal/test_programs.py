"""The programs that follow a list: what they show."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.portal.programs import (
    DOCUMENT,
    FOLLOWERS,
    NIGHT,
    OTHERS,
    THESIS,
    Observe,
    Portal,
    blocks,
    desktop,
    programs,
)
from tests.support import Service, wait_for


def test_each_is_short_and_nothing_is_left_out() -> None:
    lengths = {name: len(text.splitlines()) for name, text in programs().items()}
    assert set(lengths) == {
        "sessions.php",
        "login.php",
        "Sessions.java",
        "live.html",
        *FOLLOWERS,
        "follow.py",
    }
    assert max(lengths.values()) < 40
    others = blocks("sh") + blocks("nginx")
    assert DOCUMENT.count("\n```") == 2 * (len(lengths) + len(others))


@pytest.mark.parametrize("name", [*FOLLOWERS, "Sessions.java"])
def test_it_lists_only_the_logins_newest_that_match(
    name: str, portal: Portal, observe: Observe
) -> None:
    observe(*NIGHT, THESIS, *OTHERS)
    portal.start(name, "alice")
    first = wait_for(
        "five sessions",
        lambda: re.search(r"^5 of 6 sessions\n((?:.+\n){5})", portal.log(name), re.MULTILINE),
    )
    nights = [f"night{number}\tstartxfce4\t800x600\t0" for number in (5, 4, 3, 2)]
    assert first[1].splitlines() == ["thesis\tGröße <b>\U0001f600\t800x600\t2", *nights]


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_shows_what_changes(name: str, portal: Portal, observe: Observe) -> None:
    observe(*NIGHT[:3], *OTHERS)
    portal.start(name, "alice")
    wait_for("three sessions", lambda: portal.shown(name).keys() == {"night1", "night2", "night3"})
    changed = desktop("night3", 3, clients=1, geometry="1024x768")
    observe(NIGHT[1], changed, THESIS, *[replace(other, clients=1) for other in OTHERS])
    expected = {"night2": "0", "night3": "1", "thesis": "2"}
    wait_for(
        "the changes",
        lambda: {key: line.split("\t")[2] for key, line in portal.shown(name).items()} == expected,
    )
    assert portal.shown(name)["night3"] == "startxfce4\t1024x768\t1"
    assert "rootless" not in portal.log(name) and "of-bob" not in portal.log(name)


def test_what_polls_is_sent_nothing_while_nothing_changes(
    portal: Portal, listing: Service, observe: Observe
) -> None:
    observe(THESIS)
    portal.start("sessions.pl", "alice")
    before = listing.processes.log("list").count('" 304 ')
    wait_for(
        "two answers without a body",
        lambda: listing.processes.log("list").count('" 304 ') >= before + 2,
    )
    assert portal.lists("sessions.pl") == 1
    observe(NIGHT[0])
    wait_for("the change", lambda: portal.shown("sessions.pl").keys() == {"night1"})
    assert portal.lists("sessions.pl") == 2


@pytest.mark.parametrize("name", FOLLOWERS)
def test_it_stops_and_says_why_if_its_token_is_refused(
    name: str, portal: Portal, tmp_path: Path
) -> None:
    (tmp_path / "secret").write_text(os.urandom(32).hex() + "\n")
    key = [
        "openssl",
        "genpkey",
        "-algorithm",
        "EC",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-out",
        str(tmp_path / "key"),
    ]
    subprocess.run(key, check=True, capture_output=True)
    started = portal.start(
        name,
        "alice",
        LIST_SECRET_FILE=str(tmp_path / "secret"),
        LIST_KEY_FILE=str(tmp_path / "key"),
    )
    assert started.wait(60) != 0
    assert "its signature is not of this server's key" in portal.log(name)
    assert portal.lists(name) == 0
