"""Options that several commands have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


def together(*options: Callable[[Any], Any]) -> Callable[[F], F]:
    """Return what gives a command all these ``options``, the first of which it shows last."""

    def add(command: F) -> F:
        for option in options:
            command = option(command)
        return command

    return add
