"""What the workers of a list, or of a sidecar, count together: requests by route and status, how
long they took, connections, messages.

The master imports this before it has workers, so that all of them share its memory. Each adds to a
part of its own, and none waits for another. Who takes over the part of a worker that has ended goes
on with its numbers, so what is counted never becomes less. What there is of something now ends with
its worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from mmap import mmap
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from flask import Flask, Request, Response

WORKERS = 32  # that have a part, old ones among them that end while new ones begin
ROUTES = 64
OTHER = "other"  # what is at none of our addresses, or is refused before that is known
SECONDS = (0.005, 0.025, 0.1, 0.5, 2.5)  # up to which the times of requests are told apart
BEGAN = "fastx_list.began"  # in the environ of a request: when it was taken up
STATUSES = (
    *(200, 101, 304, 400, 401, 403, 404, 405, 408, 413, 414, 415, 426, 429, 431, 500, 503),
    0,  # any other
)
NAMES = ("connections", "messages", "slowClientsDropped")
NOW = ("openConnections", "webSockets")  # how many there are, not how many there were
_PLACE = {status: place for place, status in enumerate(STATUSES)}
_TIMES = len(STATUSES)  # behind the statuses: one for each range of times, and the sum of all
_SUM = _TIMES + len(SECONDS) + 1
_OF_ROUTE = _SUM + 1
_NAMED = {name: ROUTES * _OF_ROUTE + place for place, name in enumerate([*NAMES, *NOW])}
_WORDS = ROUTES * _OF_ROUTE + len(_NAMED)  # of eight bytes


class Requests(NamedTuple):
    """How many requests of one route there were."""

    route: str  # the rule of its addresses, which has no token
    by_status: dict[str, int]
    by_time: list[int]  # up to each of SECONDS, and longer
    seconds: float  # that all of them took


class Counters:
    """What is counted by this process, and read of all."""

    def __init__(self) -> None:
        # All parts; what is never written takes no memory
        self._words = memoryview(mmap(-1, WORKERS * _WORDS * 8)).cast("Q")
        # Which of them is this process's own
        self.part = 0
        # The places of the routes, in all processes alike
        self._routes = {OTHER: 0}

    def learn(self, rules: Iterable[str]) -> None:
        """Give each of these routes a place."""
        self._routes = {
            name: min(place, ROUTES - 1) for place, name in enumerate([OTHER, *sorted({*rules})])
        }

    def route(self, rule: str | None) -> int:
        """Return the place of a route."""
        return self._routes.get(rule or OTHER, 0)

    def request(self, route: int, status: int, seconds: float = 0.0) -> None:
        """Count a request, which took so long."""
        words, first = self._words, self.part * _WORDS + route * _OF_ROUTE
        words[first + _PLACE.get(status, _TIMES - 1)] += 1
        place = first + _TIMES
        for most in SECONDS:
            if seconds <= most:
                break
            place += 1
        words[place] += 1
        words[first + _SUM] += int(seconds * 1e6)

    def add(self, name: str, number: int = 1) -> None:
        """Count so many more of one of :data:`NAMES` or :data:`NOW`."""
        self._words[self.part * _WORDS + _NAMED[name]] += number

    def total(self, name: str) -> int:
        """Return how many all workers have counted."""
        return sum(self.of(part, name) for part in range(WORKERS))

    def of(self, part: int, name: str) -> int:
        """Return how many the worker with this part has counted, and those before it."""
        return self._words[part * _WORDS + _NAMED[name]]

    def has_ended(self, part: int) -> None:
        """Take note that the worker with this part has nothing any more."""
        for name in NOW:
            self._words[part * _WORDS + _NAMED[name]] = 0

    def requests(self) -> Iterator[Requests]:
        """Yield what all workers have counted of each route. How often it was 500 is there from
        the beginning: Prometheus sees that a number grows, not that a first one comes."""
        for name, place in self._routes.items():
            first = place * _OF_ROUTE
            parts = (self._words[part * _WORDS + first :] for part in range(WORKERS))
            words = [sum(each) for each in zip(*(part[:_OF_ROUTE] for part in parts), strict=True)]
            yield Requests(
                name,
                {
                    str(status or OTHER): words[number]
                    for number, status in enumerate(STATUSES)
                    if words[number] or status == 500
                },
                words[_TIMES:_SUM],
                words[_SUM] / 1e6,
            )


counters = Counters()


def count(request: Request, status: int) -> None:
    """Count ``request``, which is answered with ``status``."""
    rule, seconds = request.url_rule, time.perf_counter() - request.environ[BEGAN]
    counters.request(counters.route(rule.rule if rule else None), status, seconds)


def count_requests(app: Flask) -> None:
    """Let ``app`` count its requests; to be called once it has all its routes."""
    from flask import request

    counters.learn(rule.rule for rule in app.url_map.iter_rules())

    def begin() -> None:
        request.environ.setdefault(BEGAN, time.perf_counter())

    def count_answer(response: Response) -> Response:
        count(request, response.status_code)
        return response

    app.before_request(begin)
    app.after_request(count_answer)
