"""The fuzzer finds nothing, and would find what it looks for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.fuzz import judge, world
from tests.fuzz.__main__ import fuzz, summary
from tests.fuzz.ask import ask
from tests.fuzz.grammar import CREDENTIALS, RULES
from tests.fuzz.run import Fuzzer
from tests.fuzz.targets import Answer, Mistaken, parse

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

Mistake = Callable[..., Iterable[bytes]]
SEED, REQUESTS, WORKERS = 12, 20_000, 2

pytestmark = pytest.mark.programs


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("worker", range(WORKERS))
def test_nothing_is_found(worker: int) -> None:
    report = fuzz(SEED, 0, REQUESTS, worker, WORKERS)
    assert not report.findings, summary(report)
    assert report.requests == REQUESTS // WORKERS
    for answered in ("process 200", "process 304", "list 200", "list 400", "live 101", "live 401"):
        assert report.answers[answered] > 9, summary(report)
    every = {each.name for rule in RULES.values() for each in rule}
    assert len(every & report.productions.keys()) > 0.95 * len(every)


def test_a_request_follows_from_seed_and_number() -> None:
    for number in range(300):
        assert ask(1, number).raw == ask(1, number).raw != ask(2, number).raw


def test_one_request_can_be_asked_again() -> None:
    assert fuzz(SEED, in_process(0)[-1], 1).requests == 1


def test_tokens_are_not_shown() -> None:
    for number in range(300):
        shown = ask(1, number).shown().encode()
        assert not any(token.encode() in shown for token in CREDENTIALS.good.values())


# What it looks for


def _fails(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    raise RuntimeError("a mistake")


def _answers_500(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    start("500 Oh", [("Content-Type", "text/html")])
    return [b"Traceback (most recent call last):"]


def _answers_with_bobs(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    good = CREDENTIALS.good
    path = environ["PATH_INFO"].replace(good["alice"], good["bob"])
    return asked({**environ, "PATH_INFO": path}, start)


def _ignores_parameters(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    return asked({**environ, "QUERY_STRING": ""}, start)


def _logs_the_path(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    logging.getLogger().handle(logging.LogRecord("x", logging.ERROR, "", 0, path, None, None))
    return asked(environ, start)


def _redirects(environ: Any, start: Any, asked: WSGIApplication) -> Iterable[bytes]:
    start("308 There", [("Location", environ["PATH_INFO"])])
    return []


@pytest.fixture
def fuzzer(tmp_path: Path) -> Iterator[Fuzzer]:
    fuzzer = Fuzzer(tmp_path, SEED)
    yield fuzzer
    fuzzer.close()


def in_process(first: int) -> list[int]:
    """Return those of 400 requests that are asked in this process."""
    numbers = range(first, first + 400)
    return [number for number in numbers if ask(SEED, number).target == "process"]


def found(fuzzer: Fuzzer, kinds: set[str]) -> set[str]:
    """Ask until mistakes of all these ``kinds`` are found, or very much was asked; return the kinds
    of those that are found."""
    for first in range(0, 4000, 400):
        fuzzer.run(in_process(first))
        seen = {key.partition(" (")[0] for key in fuzzer.report.findings}
        if kinds <= seen:
            break
    return seen


@pytest.mark.parametrize(
    ("mistake", "kinds"),
    [
        (_fails, {"exception"}),
        (_answers_500, {"5xx", "traceback in the answer", "form of the error"}),
        (_answers_with_bobs, {"foreign canary", "foreign session", "foreign write", "meaning"}),
        (_ignores_parameters, {"meaning"}),
        (_logs_the_path, {"token in the log"}),
        (_redirects, {"redirect", "token in the answer"}),
    ],
)
def test_a_mistake_is_found(fuzzer: Fuzzer, mistake: Mistake, kinds: set[str]) -> None:
    for app in (fuzzer.here.quick, fuzzer.here.plain):
        app.wsgi_app = partial(mistake, asked=app.wsgi_app)  # type: ignore[method-assign]
    assert found(fuzzer, kinds) == kinds


def test_a_difference_of_the_short_cut_is_found(fuzzer: Fuzzer) -> None:
    quick = fuzzer.here.quick
    quick.wsgi_app = partial(_ignores_parameters, asked=quick.wsgi_app)  # type: ignore[method-assign]
    kinds = {"short cut differs"}
    assert found(fuzzer, kinds) == kinds


def test_a_write_to_anothers_session_is_found(fuzzer: Fuzzer) -> None:
    store = fuzzer.here.plain.extensions["fastx-list"].store
    patch = {"planted": world.canary("alice", "mark")}  # which nobody overwrites
    store.set_params(world.session_id("bob", 0), world.LOGINS["bob"], patch)
    kinds = {"foreign write", "foreign canary"}
    assert found(fuzzer, kinds) == kinds


def test_memory_that_grows_is_found(fuzzer: Fuzzer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.run.MAY_GROW", -(2**30))
    kinds = {"memory"}
    assert found(fuzzer, kinds) == kinds


@pytest.mark.parametrize(
    "came",
    [
        b"<html>",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\n\r\n",
    ],
)
def test_what_is_no_response_is_found(came: bytes) -> None:
    with pytest.raises(Mistaken):
        parse(came)


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        (b"\x81\x05ab", "frames"),
        (b"\x81\x01{", "frames"),
        (b"\xc1\x02{}", "frames"),
        (b"\x88\x02\x03\xe8\x89\x00", "frames"),
        (b"\x88\x02\x03\xf3", "close code"),
        (b'\x81\x23{"id":"a","data":{"id":"qzbocanary"}}', "foreign canary"),
    ],
)
def test_what_no_websocket_may_send_is_found(frames: bytes, kind: str) -> None:
    asked = next(each for each in (ask(1, n) for n in range(99)) if each.owners == {"alice"})
    problems = list(judge.problems(asked, Answer(101, [], frames)))
    assert problems and all(problem.startswith(kind) for problem in problems[:1])
