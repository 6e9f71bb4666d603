"""Whether every subscriber and every list of a site say the same, and that it is the truth."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from tests.chaos.machines.site import Node, Site
from tests.chaos.machines.subscribers import Subscriber
from tests.chaos.machines.truth import Members, Session, differs
from tests.support import wait_for

LOGINS = ("alice", "bob", "carol", "root")  # root has the real sessions
CONVERGE_SECONDS = 180.0  # generous, since nothing here is about speed
FILTERED = "alice", "bob"


@dataclass(frozen=True)
class Question:
    """What is asked of every list, and subscribed to at every sidecar; ``may_see`` says what
    belongs into the answer."""

    name: str
    path: str
    token: str
    may_see: Callable[[Members], bool]
    filters: tuple[str, ...] = ()

    @property
    def parameters(self) -> str:
        return "&".join(f"filter={quote(each)}" for each in self.filters)


class Agreement:
    """Asks all lists and all subscribers. ``sessions`` is the truth, which is the caller's to keep
    up to date."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.sessions: list[Session] = []
        self._difference: str | None = None
        admin = site.token("root", admin=True)
        self._questions = [
            Question(login, "/api/list", site.token(login), _of(login)) for login in LOGINS
        ]
        self._all = Question("the administrator", "/api/admin/session", admin, lambda members: True)
        self._questions += [
            self._all,
            Question(
                "the administrator's filter",
                "/api/admin/session",
                admin,
                lambda members: members["clients"] == 0 and members["login"] in FILTERED,
                ("clients==0", f"login=={','.join(FILTERED)}"),
            ),
        ]
        self._servers = Question(
            "the administrator's servers", "/api/admin/server", admin, lambda members: True
        )
        self.subscribers = {
            node.name: {
                question: _subscribe(question, node)
                for question in (*self._questions, self._servers)
            }
            for node in site.nodes.values()
            if node.serves
        }

    def close(self) -> None:
        for subscriber in self._all_subscribers():
            subscriber.stop()

    def converge(self) -> None:
        """Wait until all agree, and learn what nobody could know before."""

        def is_reached() -> bool:
            self._difference = self._differ()
            return self._difference is None

        try:
            wait_for("agreement", is_reached, CONVERGE_SECONDS)
        except AssertionError:
            raise AssertionError(f"after {CONVERGE_SECONDS:g} s, {self._difference}") from None

    @property
    def listed(self) -> list[Session]:
        """The sessions that belong on the list now."""
        return [session for session in self.sessions if self._site.nodes[session.node].is_listed]

    @property
    def listed_ids(self) -> set[str]:
        """The ids of those of them that were seen on a list."""
        return {session.known["id"] for session in self.listed if session.known is not None}

    def _differ(self) -> str | None:
        """Say the first thing that is not as it should be; what never may be is an error at
        once."""
        wrong = [text for subscriber in self._all_subscribers() for text in subscriber.wrong]
        if wrong:
            raise AssertionError("\n".join(wrong))
        answering = [node for node in self._site.nodes.values() if node.answers]
        every = self.subscribers[answering[0].name][self._all].state
        if every is None:
            return f"{self._all.name} on {answering[0].name} has no connection"
        if difference := differs(self.listed, every.values()):
            return f"{self._all.name} on {answering[0].name}: {difference}"
        for node in answering:
            for question in self._questions:
                wanted = {
                    name: members for name, members in every.items() if question.may_see(members)
                }
                for where, found in self._answers(node, question):
                    if (
                        found is None
                        or len(found) != len(wanted)
                        or {members["id"]: members for members in found} != wanted
                    ):
                        return (
                            f"{question.name} of {where} on {node.name}: {found}, not"
                            f" {list(wanted.values())}"
                        )
            for where, found in self._answers(node, self._servers):
                if found is None or sorted(map(_server, found)) != sorted(self._true_servers()):
                    return (
                        f"servers of {where} on {node.name}: {found}, not"
                        f" {list(self._true_servers())}"
                    )
        for session in self.listed:
            session.learn(
                next(members for members in every.values() if differs([session], [members]) is None)
            )
        return None

    def _answers(
        self, node: Node, question: Question
    ) -> Iterator[tuple[str, Sequence[Members] | None]]:
        state = self.subscribers[node.name][question].state
        yield "the subscriber", None if state is None else list(state.values())
        answer = self._site.ask(node, f"{question.path}/{question.token}?{question.parameters}")
        fresh = answer is not None and answer.status == 200 and "Warning" not in answer.headers
        yield "the list", answer.json if answer is not None and fresh else None

    def _true_servers(self) -> Iterable[tuple[Any, ...]]:
        for node in self._site.nodes.values():
            if node.is_listed:
                mine = [session for session in self.sessions if session.node == node.name]
                yield (
                    node.name,
                    node.name,
                    node.name,
                    len(mine),
                    len({session.login for session in mine}),
                )

    def _all_subscribers(self) -> Iterator[Subscriber]:
        for subscribers in self.subscribers.values():
            yield from subscribers.values()


def _subscribe(question: Question, node: Node) -> Subscriber:
    url = f"{node.live_url}{question.path}?token={question.token}&{question.parameters}"
    return Subscriber(f"{question.name} on {node.name}", url, question.may_see)


def _of(login: str) -> Callable[[Members], bool]:
    return lambda members: bool(members["login"] == login)


def _server(members: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(
        members[name] for name in ("id", "serverId", "hostname", "sessions", "loggedInUsers")
    )
