"""The programs that follow a list go on after outages and outlive their tokens."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from tests.portal.programs import FOLLOWERS, NIGHT, THESIS, Observe, Portal, programs
from tests.support import Processes, Service, end, wait_for


def test_all_go_on_after_outages(
    folder: Path, listing: Service, processes: Processes, tmp_path: Path, observe: Observe
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "sessions.db").write_bytes(b"no database" * 1000)
    store = f"sqlite:///{place}/sessions.db"
    service = Service(listing.state, processes, {**listing.environ, "FASTX_LIST_STORE": store})
    portal = Portal(folder, service, processes)
    observe(THESIS)
    service.start_list()
    service.start_live()
    started = [portal.start(name, "alice") for name in FOLLOWERS]
    for name in FOLLOWERS:
        wait_for(
            f"the 503 of {name}", lambda: re.search("503|cannot be read yet", portal.log(name))
        )
    place.rename(tmp_path / "broken")
    place.symlink_to(listing.state)
    for name in FOLLOWERS:
        wait_for(f"the list of {name}", lambda: portal.shown(name).keys() == {"thesis"})
    for name in FOLLOWERS[1:]:
        wait_for(f"{name} to follow", lambda: "live:" in portal.log(name))
    lists = {name: portal.lists(name) for name in FOLLOWERS[1:]}
    end(service.running["live"])
    service.start_live()
    for name in lists:
        wait_for(f"{name} to connect again", lambda: portal.lists(name) > lists[name])
    observe(NIGHT[0])
    for name in FOLLOWERS:
        wait_for(f"the change in {name}", lambda: portal.shown(name).keys() == {"night1"})
    for each in started:
        end(each)  # before the servers, to which they would come back


def test_followers_outlive_their_tokens(
    folder: Path, listing: Service, processes: Processes, tmp_path: Path, observe: Observe
) -> None:
    short = tmp_path / "short"
    shutil.copytree(folder, short, symlinks=True, ignore=shutil.ignore_patterns("*.class"))
    for name in ("Sessions.java", "sessions.mjs", "sessions.py"):
        text, changes = re.subn(r"\+ 300\b", "+ 5", programs()[name])
        assert changes == 1
        (short / name).write_text(text, encoding="utf-8")
    portal = Portal(short, listing, processes)
    observe(THESIS)
    for name in FOLLOWERS[1:]:
        portal.start(name, "alice")
    for name in FOLLOWERS[1:]:
        wait_for(f"{name} to connect with a second token", lambda: portal.lists(name) >= 2)
        assert "4401" in portal.log(name)
