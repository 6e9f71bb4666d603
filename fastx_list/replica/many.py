"""What is done for very many sessions at once."""

from __future__ import annotations

import gc


class kept_at_once:
    """While very many objects are made that all stay: Python's collector would look at those that
    are there already again and again, which takes longer than making them."""

    def __enter__(self) -> None:
        self._was_on = gc.isenabled()
        gc.disable()

    def __exit__(self, *_: object) -> None:
        if self._was_on:
            gc.enable()
