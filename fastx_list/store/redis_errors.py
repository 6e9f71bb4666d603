"""What is wrong with Redis, in words for people that say what helps."""

from __future__ import annotations

from redis import exceptions, sentinel

from fastx_list.store import StoreError
from fastx_list.store.redis_address import Address

FORMAT = 1  # of what this release writes and reads; a store that says none has it
MADE_BY_A_NEWER = (
    "was made by a newer fastx-list; install that here, or use another ?prefix= or database"
)
_CANNOT_SAVE = "MISCONF"  # the first word of Redis when it cannot write to its disk


class StoreFull(StoreError):
    """Redis takes no changes, for want of memory or disk; what it has can be read."""


class TooLong(exceptions.InvalidResponse):
    """An answer is longer than any to what stores write."""


def store_error(error: BaseException | None, address: Address) -> StoreError:
    """Return the error to tell of the store at ``address``, where ``error`` (``None``: unknown)
    has happened. It holds no password."""
    is_full = isinstance(error, exceptions.OutOfMemoryError) or str(error).startswith(_CANNOT_SAVE)
    return (StoreFull if is_full else StoreError)(
        f"the store, {address}, {_reason(error, address)}"
    )


def _reason(error: BaseException | None, address: Address) -> str:
    text = str(error or "")
    for kinds, reason in (
        (
            (exceptions.AuthenticationError, exceptions.AuthenticationWrongNumberOfArgsError),
            (
                "does not take the password: give it in the URL of FASTX_LIST_STORE, or a file that"
                " holds it with ?password_file="
            ),
        ),
        (
            (exceptions.NoPermissionError,),
            "does not let this user do all that it takes: see ACL SETUSER in its documentation",
        ),
        ((exceptions.BusyLoadingError,), "is still loading its data"),
        (
            (exceptions.ReadOnlyError,),
            "is a replica, which takes no changes: FASTX_LIST_STORE takes its master, or Sentinels",
        ),
        ((exceptions.OutOfMemoryError,), "has no memory left for changes: raise its maxmemory"),
        ((exceptions.TimeoutError,), "does not answer"),
        ((TooLong,), "holds more than stores write"),
    ):
        if isinstance(error, kinds):
            return reason
    if text.startswith(_CANNOT_SAVE):
        return (
            "cannot save its data, so it takes no changes: its disk may be full, and its log says"
            " more"
        )
    if "made by a newer fastx-list" in text:  # redis.lua
        return MADE_BY_A_NEWER
    if isinstance(error, sentinel.MasterNotFoundError):
        return (
            "cannot be found: no Sentinel that answers knows a master of this name; "
            "if they ask for a password, name a file that holds it with ?sentinel_password_file="
        )
    if address.password:
        text = text.replace(address.password, "***")
    return f"cannot be used: {text or type(error).__name__}"
