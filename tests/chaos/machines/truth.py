"""What sessions there are in truth, beside which lists and subscribers are held."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.truth import MOVES

Members = Mapping[str, Any]  # of a session or server, as the API has them

TIMES = ("lastConnect", "lastDisconnect")


@dataclass(eq=False)
class Session:
    """One session: ``stated`` are the members that were chosen for it, all others must stay what
    they were when it was first seen.

    It may have any of ``params``: several where nobody can know whether the last ones were kept.
    Since ``touched``, in milliseconds since the Unix epoch, clients may have come or gone.
    """

    node: str
    stated: dict[str, Any]
    initial: dict[str, Any] = field(default_factory=dict)
    params: list[dict[str, Any]] = field(default_factory=list)
    times: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(TIMES))
    touched: int | None = None
    known: Members | None = None

    def __post_init__(self) -> None:
        self.stated["serverId"] = self.stated["hostname"] = self.node
        self.params = self.params or [self.initial]

    @property
    def login(self) -> str:
        return str(self.stated["login"])

    @property
    def key(self) -> object:
        return key_of(self.stated)

    def differs(self, found: Members) -> str | None:
        """Say what is wrong with what was ``found`` of it."""
        wanted = {**(self.known or {}), **self.stated}
        for name, value in wanted.items():
            if name not in ("params", *TIMES, *MOVES) and found[name] != value:
                return f"{name} of {self.key} is {found[name]!r}, not {value!r}"
        for name in TIMES:
            if found[name] != self.times[name] and (
                self.touched is None or (found[name] or 0) < self.touched
            ):
                return (
                    f"{name} of {self.key} is {found[name]!r}, not {self.times[name]!r}, nor later"
                    f" than {self.touched!r}"
                )
        if found["params"] not in self.params:
            return f"params of {self.key} are {found['params']!r}, not one of {self.params!r}"
        return None

    def learn(self, found: Members) -> None:
        """Take over what was found of it; from now on it has to stay so."""
        self.known, self.params, self.touched = found, [found["params"]], None
        self.times = {name: found[name] for name in TIMES}

    def lose_params(self) -> None:
        self.params = [self.initial]

    def lose_times(self) -> None:
        self.times = dict.fromkeys(TIMES)


def key_of(members: Members) -> object:
    """Return what tells a session from all others here, but is not its id."""
    return members.get("command") or (members["serverId"], members["display"])


def differs(sessions: Iterable[Session], found: Iterable[Members]) -> str | None:
    """Say how what was ``found`` differs from the truth."""
    left = {session.key: session for session in sessions}
    for members in found:
        session = left.pop(key_of(members), None)
        if session is None:
            return f"{key_of(members)} is there, and should not be, or not twice"
        if wrong := session.differs(members):
            return wrong
    return f"{list(left)} are missing" if left else None
