"""For how long, how much and how many a request is waited for, by list and sidecar alike.

Like the settings for gunicorn, this imports nothing that gevent patches.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import IPv6Address
from typing import Generic, TypeVar

T = TypeVar("T")

ARRIVAL_SECONDS = 20.0  # from its connection until all of a request is there
MAX_REQUEST_BYTES = 128 * 1024  # head and body; a body may have half of it
EARLY_BYTES = 8192  # that are read of a request at first: as a rule all of it
MAX_HELD_BYTES = 128 * 2**20  # for all clients that are waited for: of 1,000, or some long answers
LOOK_SECONDS = 2.0  # within which all clients are looked after, unless something keeps us from it


class Patience:
    """A clock for how long clients are waited for. It stands still while this process does not look
    after them, as it is stopped, or others have the processor: what clients did then is not known.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        # The clock that never stands still, in seconds
        self._clock = clock
        # What it said when clients were last looked after, and what this one said then
        self._looked = self._passed = clock()

    def now(self) -> float:
        """Return the seconds that have passed; how many it begins with means nothing."""
        return self._passed + min(self.unseen(), LOOK_SECONDS)

    def unseen(self) -> float:
        """Return for how many seconds, of any clock, clients have not been looked after."""
        return self._clock() - self._looked

    def look(self) -> float:
        """Take note that clients are looked after now; return :meth:`now`."""
        self._passed, self._looked = self.now(), self._clock()
        return self._passed


class WaitingRoom(Generic[T]):
    """The clients that are waited for, and of too many those that have to go.

    Who takes much room pays for it: at the address that takes the most, the client that has been
    waited for the longest goes first.
    """

    def __init__(self) -> None:
        # Address and size of each, in the order in which they came
        self._clients: dict[T, tuple[object, int]] = {}
        # The sum of the sizes at each address
        self._sizes: Counter[object] = Counter()
        # The sum of all sizes
        self.size = 0

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[T]:
        """Go through those that wait now; on the way some may come and go."""
        return iter(list(self._clients))

    def add(self, client: T, peer: object, size: int = 1) -> None:
        """Wait for ``client``; ``peer`` is what ``accept`` said of it, or which user it is."""
        address = _address(peer)
        self._clients[client] = address, size
        self._sizes[address] += size
        self.size += size

    def discard(self, client: T) -> None:
        """Wait no longer for ``client``, if it was waited for."""
        if client in self._clients:
            address, size = self._clients.pop(client)
            self.size -= size
            self._sizes[address] -= size
            if not self._sizes[address]:
                del self._sizes[address]

    def first_to_go(self) -> T:
        """Return who has to go where there are too many; there has to be somebody."""
        largest = max(self._sizes, key=self._sizes.__getitem__)
        return next(client for client, (address, _) in self._clients.items() if address == largest)


def _address(peer: object) -> object:
    """Return what a client has one of: an IPv4 address, a network of IPv6 (RFC 6177), or the id of
    a user of this machine. On a Unix socket that does not tell users apart there is one for all."""
    if isinstance(peer, int):
        return peer
    if not isinstance(peer, tuple):
        return ""
    if ":" not in peer[0]:
        return peer[0]
    address = IPv6Address(peer[0].partition("%")[0])
    return address.ipv4_mapped or address.packed[:8]
