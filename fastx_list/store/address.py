"""What the address of a store looks like: a file of SQLite's, or a Redis. Nobody outside this
package knows."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from fastx_list.store import redis_address
from fastx_list.store.redis_address import Address

TAKES = (
    "sqlite:///PATH, redis://HOST[:PORT][/DB], rediss://…, redis+unix:///PATH, or"
    " redis+sentinel://HOST,HOST/NAME[/DB]"
)
_SQLITE = "sqlite://"


def parse(url: str) -> Path | Address:
    """Return where the store at ``url`` is: the file of SQLite's database, or what is said of a
    Redis. As text, either is for people to read and holds no password. Nothing is opened or made.

    Raises ``ValueError`` if this is no address of a store that can be used. Its message says what
    is, and does not repeat ``url``, since that may hold a password.
    """
    if url.startswith(_SQLITE):
        return Path(url.removeprefix(_SQLITE).replace("/", "", 1))
    try:
        address = redis_address.parse(url)
    except ValueError as error:
        raise ValueError(f"{TAKES}; {error}") from None
    if find_spec("redis") is None:
        raise ValueError("Redis only with its client: pip install 'fastx-list[redis]'")
    return address


def of_file(path: Path) -> str:
    """Return the address of the store whose database is ``path``."""
    return f"{_SQLITE}/{path}"
