"""What users, launchers, portals and administrators do: sessions begin, change and end, clients
come and go, params are set, tokens are issued and revoked, subscribers come and leave."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fastx_list.store import StoreError
from tests.chaos.judge import Question
from tests.chaos.subscribers import Subscriber
from tests.chaos.truth import LOGINS, OWNER, STARTED, Members, Session
from tests.chaos.vnc import Desktop, spare_display
from tests.chaos.world import LIVE_PORT, Node, World
from tests.support import wait_for

T = TypeVar("T")

LEAST_SESSIONS, MOST_SESSIONS = 6, 12  # registered, of all and on one machine
MOST_DESKTOPS = 2
MOST_SUBSCRIBERS = 16
LEAST_SUBSCRIBERS = 6
MOST_REVOKED = 20  # tokens that are asked with in vain, the last ones
END_SECONDS = 120.0  # generous, since nothing here is about speed
BRIEF_SECONDS = 2.0
REVOCABLE_SECONDS = 86_400.0
LIVE_URL = f"ws://127.0.0.1:{LIVE_PORT}"
JSON = {"Content-Type": "application/json"}
# The kinds of operations, and how often each comes beside the others
KINDS = {
    "begin_session": 12,
    "change": 24,
    "end": 7,
    "set_params": 16,
    "begin_desktop": 2,
    "end_desktop": 2,
    "connect": 4,
    "disconnect": 3,
    "subscribe": 8,
    "come_back": 4,
    "leave": 3,
    "revoke": 3,
    "issue_brief": 1,
}


def _of(login: str) -> Callable[[Members], bool]:
    return lambda members: bool(members["login"] == login)


OWN = [Question(login, "/api/list", login, _of(login)) for login in (*LOGINS, OWNER)]
ALL = Question("all", "/api/admin/session", OWNER, admin=True)
SERVERS = Question("servers", "/api/admin/server", OWNER, admin=True)
IDLE = Question(
    "the idle of two",
    "/api/admin/session",
    OWNER,
    lambda members: members.get("clients") == 0 and members["login"] in LOGINS[:2],
    f"filter=clients%3D%3D0&filter=login%3D%3D{LOGINS[0]},{LOGINS[1]}",
    admin=True,
)
QUESTIONS = [*OWN, ALL, SERVERS, IDLE]


class Operations:
    """Does them, and keeps the truth up to date: what is about to be done is noted before."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.chance
        self._truth = world.truth
        self.subscribers: list[Subscriber] = []
        self.tokens = {question: self._token(question) for question in QUESTIONS}
        # Tokens that are no longer good, and how many of them everybody knows of
        self.revoked: list[str] = []
        self.known_revoked = 0
        self._to_revoke: list[str] = []  # those that the store did not take yet
        # Those that it took just when it was lost, before anybody had read them maybe
        self._at_risk: list[str] = []
        self._desktops: dict[Session, Desktop] = {}
        self._count = 0
        self._left: list[Subscriber] = []  # who have gone
        world.await_revocations = self._await_revocations

    @property
    def messages(self) -> int:
        """How many messages all subscribers were told."""
        return sum(each.history.messages for each in (*self.subscribers, *self._left))

    def begin(self) -> None:
        """Have something to start with."""
        for question in QUESTIONS:
            self._subscribe(question)
        self._subscribe(ALL, slow=True)  # whom much is told that it does not read at once
        self._subscribe(ALL, resume=True)
        self._subscribe(IDLE, resume=True)
        self.begin_sessions()
        self._begin_desktop()

    def begin_sessions(self, count: int = 8) -> None:
        for _ in range(count):
            self._begin_session()

    def close(self) -> None:
        for subscriber in self.subscribers:
            subscriber.stop()
        for subscriber in self.subscribers:
            subscriber.join()
        for desktop in self._desktops.values():
            desktop.close()

    def some(self) -> str:
        """Do one by chance; return what was done."""
        while True:
            kind = self._chance.choices(list(KINDS), list(KINDS.values()))[0]
            done = getattr(self, f"_{kind}")()
            if done is not None:
                return f"{kind} {done}"

    # Sessions.

    def _begin_session(self) -> str | None:
        node = self._node()
        if len(self._registered(node)) >= MOST_SESSIONS:
            return None
        self._count += 1
        session = Session(node.name, self._chance.choice(LOGINS), f"work {self._count}")
        session.change(
            login=session.login,
            command=session.command,
            started=STARTED + self._count,
            clients=self._chance.randint(0, 2),
        )
        self._truth.add(session)
        self._register(session)
        return f"{session.command} on {node.name}"

    def _change(self) -> str | None:
        session = self._one_of(self._registered())
        if session is None:
            return None
        session.change(clients=self._chance.randint(0, 2))
        self._register(session)
        return f"{session.command} to version {len(session.versions)}"

    def _end(self) -> str | None:
        sessions = self._registered()
        if len(sessions) < LEAST_SESSIONS:
            return None
        session = self._chance.choice(sessions)
        session.ended = time.monotonic()
        self._file(session).unlink(missing_ok=True)
        return f"{session.command}"

    def _register(self, session: Session) -> None:
        """Write its file, if the spool is there."""
        text = json.dumps({"params": {}, **session.versions[-1]})
        draft = self._file(session).with_suffix(".new")
        draft.write_text(text, encoding="utf-8")
        draft.rename(self._file(session))

    def _file(self, session: Session) -> Path:
        spool = self._world.nodes[session.node].spool
        return spool / f"{session.versions[0]['started']}.json"

    def _node(self) -> Node:
        """Return one whose spool is there; one always is."""
        nodes = [node for node in self._world.nodes.values() if node.spool.is_dir()]
        return self._chance.choice(nodes)

    def _registered(self, node: Node | None = None) -> list[Session]:
        """Return the sessions with files that can be changed now."""
        gone = self._truth.excuses.gone | self._truth.excuses.blind
        return [
            session
            for session in self._truth.running
            if not session.is_real
            and session.login in LOGINS
            and (node is None or session.node == node.name)
            and self._world.nodes[session.node].spool.is_dir()
            and (session.node not in gone or self._file(session).exists())
        ]

    def _one_of(self, those: list[T]) -> T | None:
        return self._chance.choice(those) if those else None

    # Real ones.

    def _begin_desktop(self) -> str | None:
        if len(self._desktops) >= MOST_DESKTOPS:
            return None
        self._count += 1
        session = Session("one", OWNER, None, spare_display())
        geometry = f"{self._chance.randint(200, 900)}x300"
        session.change(login=OWNER, display=session.display, clients=0)
        self._truth.add(session)
        assert session.display is not None
        self._desktops[session] = Desktop(self._world.processes, session.display, geometry)
        return f":{session.display}"

    def _end_desktop(self) -> str | None:
        session = self._one_of(list(self._desktops))
        if session is None:
            return None
        session.ended = time.monotonic()
        self._desktops.pop(session).close()
        return f":{session.display}"

    def _connect(self) -> str | None:
        session = self._one_of(list(self._desktops))
        if session is None or len(self._desktops[session].clients) >= 2:
            return None
        session.change(clients=len(self._desktops[session].clients) + 1)
        self._desktops[session].connect()
        return f"to :{session.display}"

    def _disconnect(self) -> str | None:
        session = self._one_of([each for each, has in self._desktops.items() if has.clients])
        if session is None:
            return None
        session.change(clients=len(self._desktops[session].clients) - 1)
        self._desktops[session].disconnect()
        return f"from :{session.display}"

    # Params.

    def _set_params(self) -> str | None:
        session = self._one_of([each for each in self._truth.running if each.known is not None])
        if session is None or session.login not in (*LOGINS, OWNER):
            return None
        assert session.known is not None
        self._count += 1
        note = self._count
        session.notes = [*(session.notes or [0]), note]
        question = next(each for each in OWN if each.login == session.login)
        body = json.dumps({"id": session.known["id"], "params": {"note": note}}).encode()
        path = f"/api/params/{self.tokens[question]}"
        answer = self._world.ask(path, method="POST", body=body, headers=JSON)
        status = None if answer is None else answer.status
        session.params_set += status == 200
        session.params_tried += status != 200
        if status == 200 and not self._truth.excuses.older:
            session.notes = [note]
        elif status == 200 or status in (None, 503):
            pass  # it may be kept or lost
        elif status == 404 and self._truth.may_end(session, time.monotonic()):
            pass
        elif status not in self._truth.excuses.statuses:
            self._world.judge.blame(f"params of {session.key} were answered with {status}")
        return f"{note} of {session.key}: {status}"

    # Tokens and subscribers.

    def _token(self, question: Question, ttl: float = REVOCABLE_SECONDS * 7) -> str:
        return self._world.token(question.login, question.admin, ttl)

    def _subscribe(
        self, question: Question | None = None, ttl: float = REVOCABLE_SECONDS, **options: Any
    ) -> str | None:
        if question is None:
            if len(self.subscribers) >= MOST_SUBSCRIBERS:
                return None
            question = self._chance.choice(QUESTIONS)
            if not question.of_servers and not options:
                options = self._chance.choice(
                    ({}, {"slow": True}, {"snapshot": False}, {"resume": True})
                )
        self._count += 1
        name = f"subscriber {self._count} of {question.name} {''.join(options)}".strip()
        token = self._token(question, ttl)
        self.subscribers.append(
            Subscriber(name, question, LIVE_URL, token, self._world.judge, **options)
        )
        return name

    def _come_back(self) -> str | None:
        """Let one connect again that then asks for what it has missed."""
        subscriber = self._one_of([each for each in self.subscribers if each.history.resumes])
        if subscriber is None:
            return None
        subscriber.hang_up()
        return subscriber.history.name

    def _leave(self) -> str | None:
        staying = [each for each in self.subscribers if not each.is_revoked]
        if len(staying) <= LEAST_SUBSCRIBERS:
            return None
        subscriber = self._chance.choice(staying)
        subscriber.stop()
        self.subscribers.remove(subscriber)
        self._left.append(subscriber)
        return subscriber.history.name

    def _revoke(self) -> str | None:
        staying = [each for each in self.subscribers if not each.is_revoked]
        if len(staying) <= LEAST_SUBSCRIBERS:
            return None
        subscriber = self._chance.choice(staying)
        subscriber.is_revoked = True
        self._to_revoke.append(subscriber.token)
        self.revoke_again()
        return subscriber.history.name

    def revoke_again(self) -> bool:
        """Revoke what is to be revoked, as far as the store takes it; return whether that is
        all."""
        if not self._truth.excuses.older:
            self._at_risk.clear()
        for token in [*self._at_risk, *self._to_revoke]:
            claims = self._world.tokens.verify(token, ())
            assert claims.jti is not None
            try:
                with self._world.store() as store:
                    store.revoke({claims.jti: claims.expires})
            except (StoreError, OSError):
                continue
            if token in self._at_risk:
                continue
            self._to_revoke.remove(token)
            self.revoked.append(token)
            self._truth.revoked.append(claims.jti)
            if self._truth.excuses.older:
                self._at_risk.append(token)
        return not self._to_revoke

    def _await_revocations(self) -> None:
        wait_for(
            "the end of subscribers with revoked tokens",
            lambda: (
                self.revoke_again()
                and all(each.was_refused for each in self.subscribers if each.is_revoked)
            ),
            END_SECONDS,
        )

    def _issue_brief(self) -> str | None:
        """Subscribe with a token that soon ends."""
        if len(self.subscribers) >= MOST_SUBSCRIBERS:
            return None
        name = self._subscribe(self._chance.choice(QUESTIONS), BRIEF_SECONDS)
        self.subscribers[-1].is_revoked = True
        return name

    def tidy(self) -> None:
        """Forget the subscribers that were sent away, and let others come in their place."""
        for subscriber in [each for each in self.subscribers if each.was_refused]:
            self.subscribers.remove(subscriber)
            self._left.append(subscriber)
            subscriber.join()
        while len(self.subscribers) < LEAST_SUBSCRIBERS:
            self._subscribe()
