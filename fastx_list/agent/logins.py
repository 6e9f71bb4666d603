"""Whose a process is: the kernel knows the user's id, and the name services which login that is
now.

They may be slow, away, or not up yet, and an id may be given to somebody else. So no failure is
taken for an answer, answers age, a session that is new asks anew, and nothing waits for an answer.
"""

from __future__ import annotations

import pwd
import time
from typing import NamedTuple

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.subordinates import payer

FRESH_SECONDS = 60.0  # an answer is good for
RETRY_SECONDS = 5.0  # in which it is not asked again after a failure
MAX_KEPT = 10_000


class _Answer(NamedTuple):
    login: str | None  # None if nobody said it
    answered: float  # when it was said, by the monotonic clock
    until: float  # it is not asked again before


class Logins:
    """What the name services say of users."""

    def __init__(self) -> None:
        self._answers: dict[int, _Answer] = {}

    def of(self, uid: int) -> str | None:
        """Return the login of ``uid`` as it was within the last minute; ``None`` if nobody said
        it."""
        known = self._answers.get(uid)
        return known.login if known and time.monotonic() < known.until else self.of_new(uid)

    def of_new(self, uid: int) -> str | None:
        """Return the login of ``uid`` as it is now; if the name services hang, as it was within the
        last minute."""
        now, owner = time.monotonic(), payer(uid)
        owner = f"user {owner}" if isinstance(owner, int) else owner
        known = self._answers.pop(uid, _Answer(None, now, now))
        try:
            login = ask(f"the name of {owner}", "what it is", lambda: pwd.getpwuid(uid).pw_name)
            answer = _Answer(login, now, now + FRESH_SECONDS)
        except Unanswered:
            is_fresh = now < known.answered + FRESH_SECONDS
            answer = _Answer(known.login if is_fresh else None, known.answered, now + RETRY_SECONDS)
        except (KeyError, UnicodeDecodeError):
            answer = _Answer(None, now, now + RETRY_SECONDS)
        if len(self._answers) >= MAX_KEPT:
            del self._answers[next(iter(self._answers))]
        self._answers[uid] = answer
        return answer.login
