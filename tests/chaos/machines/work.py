"""The sessions of a site: real ones and registered ones, which start, change and end, and whose
params are set."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path

from tests.chaos.machines.agreement import LOGINS, Agreement
from tests.chaos.machines.site import Node, Site
from tests.chaos.machines.truth import Session

MOST_SESSIONS = 6  # registered on one machine
STARTED = 1_700_000_000_000
JSON = {"Content-Type": "application/json"}


class Work:
    """Changes sessions, and with them the truth."""

    def __init__(self, site: Site, agreement: Agreement, chance: random.Random) -> None:
        self._site = site
        self._agreement = agreement
        self._sessions = agreement.sessions
        self._random = chance
        self._tokens = {login: site.token(login) for login in LOGINS}
        self._count = 0

    def edit(self, count: int = 4, at: Node | None = None) -> None:
        """Start, change and end registered sessions, also on machines that nobody hears of now, and
        first ``at`` this one."""
        for _ in range(count):
            node, at = at or self._random.choice(list(self._site.nodes.values())), None
            mine = [
                session
                for session in self._sessions
                if session.node == node.name and session.login != "root"
            ]
            what = self._random.choice(("start", "change", "change", "end"))
            if not mine or (what == "start" and len(mine) < MOST_SESSIONS):
                self._count += 1
                session = Session(
                    node.name,
                    {
                        "login": self._random.choice(LOGINS[:-1]),
                        "command": f"work {self._count}",
                        "started": STARTED + self._count,
                        "geometry": "800x600",
                        "clients": self._random.randint(0, 2),
                    },
                    self._random.choice(({}, {"name": f"Work {self._count}"})),
                )
                self._sessions.append(session)
                self._register(node, session)
                continue
            session = self._random.choice(mine)
            if what == "end":
                self._sessions.remove(session)
                self._file(node, session).unlink()
            else:
                session.stated["geometry"] = f"{self._random.randint(100, 4000)}x600"
                session.stated["clients"] = self._random.randint(0, 2)
                session.touched = session.touched or round(time.time() * 1000)
                self._register(node, session)

    @staticmethod
    def _file(node: Node, session: Session) -> Path:
        return node.spool / f"{session.stated['started']}.json"

    def _register(self, node: Node, session: Session) -> None:
        members = {
            name: value
            for name, value in session.stated.items()
            if name not in ("serverId", "hostname")
        }
        draft = node.spool / "draft"
        draft.write_text(json.dumps({**members, "params": session.initial}), encoding="utf-8")
        draft.rename(self._file(node, session))

    def start_real_session(self, node: Node) -> None:
        geometry = f"{self._random.randint(200, 900)}x300"
        display = node.start_session(geometry)
        self._sessions.append(
            Session(
                node.name,
                {
                    "login": "root",
                    "display": display,
                    "geometry": geometry,
                    "clients": 0,
                    "windowMode": "desktop",
                    "command": None,
                },
            )
        )

    def end_real_session(self, node: Node) -> None:
        """Note that it has ended, and end it if it still runs."""
        self._sessions.remove(
            next(
                session
                for session in self._sessions
                if session.node == node.name and session.login == "root"
            )
        )
        if node.machine.is_on:
            node.end_session()

    def set_params(self, count: int = 3, sure: bool = True) -> None:
        """Set params of some sessions; unless this is ``sure``, nobody can know whether they are
        kept."""
        for _ in range(count):
            session = self._random.choice(self._sessions)
            node = self._random.choice([node for node in self._site.nodes.values() if node.answers])
            self._count += 1
            patch = {"note": self._count}
            if session.known is None or session not in self._agreement.listed:
                continue
            body = json.dumps({"id": session.known["id"], "params": patch}).encode()
            answer = self._site.ask(
                node,
                f"/api/params/{self._tokens[session.login]}",
                method="POST",
                body=body,
                headers=JSON,
            )
            merged = {**session.params[-1], **patch}
            if sure and answer is not None and answer.status == 200:
                session.params = [merged]
            else:
                session.params.append(merged)
