"""Steps: the histories that follow from a seed, and how they are told."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from random import Random
from typing import Any, NamedTuple

from tests.simulation.disk import CONDITIONS, KINDS

PROCESSES = ("agent a", "agent b", "list 1", "list 2", "sidecar")
SUBSCRIBERS = 4
JUMPS = (-7200, -5, 5, 7200, 10**5, 10**7, -(10**7))  # of the clock, in seconds
STEPS = 40  # of a history, as a rule


class Step(NamedTuple):
    """One step of a history."""

    name: str  # of the method of the world that does it
    arguments: tuple[Any, ...] = ()

    def __str__(self) -> str:
        said = (str(each) if isinstance(each, Step) else repr(each) for each in self.arguments)
        return f"{self.name}({', '.join(said)})"


def _run(random: Random) -> tuple[Any, ...]:
    seconds = random.choice((0.05, 0.3, 1.0, 1.0, 2.5, 5.0))
    return seconds, random.getrandbits(30)


def _meanwhile(random: Random) -> tuple[Any, ...]:
    steps = tuple(_step(random, _INNER) for _ in range(random.randint(1, 3)))
    return random.randrange(5), random.randint(1, 12), *steps


# By kind of step: how often it comes, and its arguments
_Kinds = dict[str, tuple[int, Callable[[Random], tuple[Any, ...]]]]
_USUAL: _Kinds = {
    "run": (30, _run),
    "begin": (8, lambda random: (random.randrange(2), random.randrange(2))),
    "change": (10, lambda random: (random.randrange(8), random.randrange(3))),
    "end": (5, lambda random: (random.randrange(8),)),
    "set_param": (5, lambda random: (random.randrange(8), random.randrange(2))),
    "revoke": (2, lambda random: (random.randrange(2),)),
}
# Those of a group come together, beside the usual ones
_GROUPS: tuple[_Kinds, ...] = (
    {
        "wait": (4, lambda random: (random.choice((9.0, 12.0, 30.0)), random.getrandbits(30))),
        "stop": (6, lambda random: (random.randrange(5),)),
        "go_on": (4, lambda random: (random.randrange(5),)),
    },
    {
        "kill": (4, lambda random: (random.randrange(5),)),
        "start": (6, lambda random: (random.randrange(5),)),
        "start_again": (2, lambda random: (random.randrange(5),)),
        "lose_name": (1, lambda random: (random.randrange(2),)),
        "reboot": (1, lambda random: ()),
    },
    {
        "hang": (2, lambda random: (random.randrange(2), random.choice((3.0, 12.0)))),
        "blind": (4, lambda random: (random.randrange(2), random.random() < 0.4)),
    },
    {
        "reconnect": (4, lambda random: (random.randrange(SUBSCRIBERS),)),
        "be_slow": (4, lambda random: (random.randrange(SUBSCRIBERS), random.random() < 0.6)),
        "take": (4, lambda random: (random.randrange(SUBSCRIBERS), random.randint(1, 3))),
    },
    {
        "freeze": (2, lambda random: (random.choice((3.0, 9.0, 60.0)),)),
        "suspend": (2, lambda random: (random.choice((9.0, 3600.0)),)),
        "set_clock": (3, lambda random: (random.choice(JUMPS),)),
    },
    {"condition": (5, lambda random: (random.choice((*CONDITIONS, None, None, None)),))},
    {"cue": (9, lambda random: (random.randrange(5), random.randint(1, 15), random.choice(KINDS)))},
    {"meanwhile": (8, _meanwhile)},
    {
        "copy": (3, lambda random: ()),
        "restore": (3, lambda random: (random.randrange(3), random.random() < 0.5)),
        "wipe": (1, lambda random: ()),
    },
)
_FAULTS: _Kinds = {name: kind for group in _GROUPS for name, kind in group.items()}
_INNER: _Kinds = {
    **_USUAL,
    **{
        name: _FAULTS[name]
        for name in ("stop", "kill", "start", "reconnect", "set_clock", "wipe", "restore")
    },
}


def _step(random: Random, kinds: _Kinds) -> Step:
    weights = [weight for weight, _ in kinds.values()]
    [name] = random.choices(list(kinds), weights)
    return Step(name, kinds[name][1](random))


def history(seed: int, without: Collection[str] = ()) -> list[Step]:
    """Return the steps that follow from ``seed``, but for those of the kinds ``without``. Each
    history has some kinds of faults only, so that those come together in many ways."""
    random = Random(seed)
    kinds = dict(_USUAL)
    for group in random.sample(_GROUPS, random.choice((0, 1, 1, 2, 2, 3, 4))):
        kinds.update(group)
    steps = [_step(random, kinds) for _ in range(random.choice((STEPS // 2, STEPS, 2 * STEPS)))]
    steps.append(Step("settle", (random.getrandbits(30), random.random() < 0.5)))
    if seed % 4 == 3:
        steps = _twice(steps, Random(f"twice {seed}"))
    return _filtered(steps, without)


def _twice(steps: Sequence[Step], random: Random) -> list[Step]:
    """Let others have their turns at two statements of some turns: the store is restored in the
    middle of an agent's, say, and a reader looks before its end."""
    has_copies = any(step.name == "copy" for step in steps)
    return [
        step._replace(arguments=(*step.arguments, *_more(step.arguments[0], has_copies, random)))
        if step.name == "meanwhile"
        else step
        for step in steps
    ]


def _more(process: int, has_copies: bool, random: Random) -> Iterator[Step]:
    if has_copies and random.random() < 0.7:
        yield Step("restore", _FAULTS["restore"][1](random))
    run = Step("run", (random.choice((0.3, 1.0, 2.5)), random.getrandbits(30)))
    yield Step("meanwhile", (process, random.randint(1, 15), run))


def _filtered(steps: Iterable[Step], without: Collection[str]) -> list[Step]:
    return [
        step._replace(
            arguments=tuple(
                each
                for each in step.arguments
                if not (isinstance(each, Step) and each.name in without)
            )
        )
        for step in steps
        if step.name not in without
    ]
