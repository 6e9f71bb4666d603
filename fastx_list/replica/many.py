"""What is done for very many sessions at once."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def kept_at_once() -> Iterator[None]:
    """Make very many objects that all stay: Python's collector would look at those that are there
    already again and again, which takes longer than making them."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
