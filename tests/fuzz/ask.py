"""Makes a whole request out of the rules of all modules."""

from __future__ import annotations

import random

from tests.fuzz import bodies, frames, headers, questions, tokens  # noqa: F401 - for their rules
from tests.fuzz.grammar import Asked


def ask(seed: int, number: int) -> Asked:
    """Return request ``number`` of those that ``seed`` stands for."""
    chance = random.Random(f"{seed}/{number}")
    [target] = chance.choices(("process", "list", "live"), (70, 20, 10))
    asked = Asked(target, chance)
    questions.address_it(asked)
    if target == "live":
        frames.shake_hands(asked)
    for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
        asked.say("header")
    if target != "live" or asked.chance(0.1):
        bodies.fill(asked)
    asked.raw = head(asked) + asked.body
    if target != "process":
        asked.say("connection")
    return asked


def head(asked: Asked, version: bytes = b"HTTP/1.1") -> bytes:
    target = asked.path + (b"?" + asked.query if asked.query else b"")
    if asked.target != "process":
        version = asked.say("version")
    lines = [b"%s %s %s" % (asked.method, target, version)]
    if asked.header(b"host") is None:
        lines.append(b"Host: list.example")
    separator = b": "
    lines += [name + separator + value for name, value in asked.headers]
    return b"\r\n".join(lines) + b"\r\n\r\n"
