"""What may be spent on somebody, of time or of processor time: a little at once, and with time as
much again."""

from __future__ import annotations

from dataclasses import dataclass

from fastx_list.agent.subordinates import Payer

MAX_OWNERS = 1024  # that are kept in mind, unless they have spent something


@dataclass
class Account:
    """At most ``most`` seconds, and of the time that goes by a ``share``."""

    most: float
    share: float
    at: float  # when it was last changed, by the monotonic clock
    left: float = 0.0

    def __post_init__(self) -> None:
        self.left = self.most

    def balance(self, now: float) -> float:
        """Return how many seconds may be spent ``now``, by the monotonic clock."""
        self.left = min(self.most, self.left + (now - self.at) * self.share)
        self.at = now
        return self.left

    def spend(self, seconds: float, now: float) -> None:
        """Take ``seconds`` off it; of more than there are, all."""
        self.left = max(0.0, self.left - seconds)
        self.at = now


class Accounts:
    """An account for each owner, all alike."""

    def __init__(self, most: float, share: float) -> None:
        self._most, self._share = most, share
        self._accounts: dict[Payer | None, Account] = {}

    def of(self, owner: Payer | None, now: float) -> Account:
        """Return that of ``owner``, as of ``now`` by the monotonic clock; ``None`` is whoever
        cannot be told."""
        account = self._accounts.get(owner)
        if account is None:
            if len(self._accounts) >= MAX_OWNERS:
                self._accounts = {
                    each: kept
                    for each, kept in self._accounts.items()
                    if kept.balance(now) < kept.most
                }
            account = self._accounts[owner] = Account(self._most, self._share, now)
        return account
