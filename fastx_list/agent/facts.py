"""What a source says of a session that it sees now."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from fastx_list.agent.machine import Machine
from fastx_list.model.session import Said


@dataclass(frozen=True, kw_only=True)
class Facts(Said):
    """One session as one source sees it now: its members, and what is no member but tells sessions,
    clients and commands apart."""

    identity: str  # what no other session of this server has or will have; the same for its life
    connections: frozenset[int] | None = None  # names of the clients' connections, where known
    # Somebody says so whom the machine's owner trusts: it does not count as one of its login's.
    is_vouched: bool = False
    has_name: bool = True  # else its login is only its user's number, since nobody says the name
    # The look before has seen that nothing was served yet: who is connected has come since.
    is_new: bool = False
    has_clients: bool = True  # else nobody could tell now who is connected
    has_idle: bool = True  # else it is not known yet when the last input came
    is_measured: bool = True  # else nobody has measured yet what it uses
    # A launcher says all this itself, so that it may also correct the command; a command that was
    # found out holds for the session's life.
    stated: bool = False


class Source(Protocol):
    """Finds the sessions of one kind."""

    def scan(self, machine: Machine) -> Iterable[Facts]:
        """Return the sessions that run now. Never waits; the same object for a session that has not
        changed is cheapest."""
