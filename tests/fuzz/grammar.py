"""The grammar: each rule has alternatives, one of which is taken by chance, and a request is made
of them. A request follows from the seed and its number alone."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tests.fuzz.world import Credentials

T = TypeVar("T")
Make = Callable[["Asked"], Any]


class Alternative(NamedTuple):
    name: str
    weight: float
    make: Make


RULES: dict[str, list[Alternative]] = {}
CREDENTIALS = Credentials()
_TOKEN = re.compile(rb"[\w%-]+\.[\w%-]{40,}\.[\w%-]*")


def alternative(rule: str, weight: float = 1) -> Callable[[Make], Make]:
    """Make a function an alternative of ``rule``, that is taken as often as its ``weight`` says."""

    def add(make: Make) -> Make:
        name = f"{rule}: {make.__name__.strip('_')}"
        RULES.setdefault(rule, []).append(Alternative(name, weight, make))
        return make

    return add


def literals(rule: str, *texts: bytes, weight: float = 1) -> None:
    """Add alternatives of ``rule`` that are always the same."""
    for text in texts:
        name = f"{rule}: {text[:40]!r}"
        RULES.setdefault(rule, []).append(Alternative(name, weight, partial(_same, text)))


def _same(text: bytes, asked: Asked) -> bytes:
    return text


@dataclass
class Asked:
    """A request, first while it is made, then as it was made."""

    target: str  # "process", "list" or "live"
    random: random.Random
    method: bytes = b"GET"
    address: bytes = b""  # of the table, before anything was done to it
    path: bytes = b""
    query: bytes = b""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    form: list[tuple[bytes, bytes]] = field(default_factory=list)  # what stands in a form or JSON
    body: bytes = b""  # as sent
    after: bytes = b""  # follows the request on the same connection; frames once it is a WebSocket
    raw: bytes = b""  # all of it
    # Whose good tokens are in it, wherever they stand; nobody else's sessions may come back
    owners: set[str] = field(default_factory=set)
    # The parameters, while the oracle can read them; None once something odd is among them
    meaning: dict[str, Any] | None = field(default_factory=dict)
    # Whether it is framed so that there has to be an answer
    is_whole: bool = True
    productions: list[str] = field(default_factory=list)

    def say(self, rule: str) -> Any:
        """Return what an alternative of ``rule`` makes."""
        alternatives, weights = _weighed(rule)
        [taken] = self.random.choices(alternatives, cum_weights=weights)
        self.productions.append(taken.name)
        return taken.make(self)

    def chance(self, share: float) -> bool:
        return self.random.random() < share

    def noise(self, low: int, high: int) -> bytes:
        return self.random.randbytes(self.random.randint(low, high))

    def pick(self, *values: T) -> T:
        return self.random.choice(values)

    def is_odd(self) -> None:
        """Note that the oracle cannot read it."""
        self.meaning = None

    def header(self, name: bytes) -> bytes | None:
        return next((value for each, value in self.headers if each.lower() == name), None)

    def shown(self) -> str:
        """Return its beginning for people to read, without tokens."""
        text = self.raw[:3000]
        for who, token in {**CREDENTIALS.good, **CREDENTIALS.bad}.items():
            text = text.replace(token.encode(), f"<token: {who}>".encode())
        text = _TOKEN.sub(b"<token>", text)
        return f"{self.target}: {text!r} ({len(self.raw)} bytes)"


_cumulative: dict[str, tuple[list[Alternative], list[float]]] = {}


def _weighed(rule: str) -> tuple[list[Alternative], list[float]]:
    found = _cumulative.get(rule)
    if found is None:
        total, sums = 0.0, []
        for each in RULES[rule]:
            total += each.weight
            sums.append(total)
        found = _cumulative[rule] = RULES[rule], sums
    return found
