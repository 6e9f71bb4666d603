from __future__ import annotations

from pathlib import Path

import pytest

from fastx_list.store import address, open_store


@pytest.mark.parametrize("path", ["/state/sessions.db", "/state dir/ö%20?x#y.db", "/a//b"])
def test_the_address_of_a_file_names_that_file(path: str) -> None:
    assert address.parse(address.of_file(Path(path))) == Path(path)


def test_a_relative_file_is_named_with_two_slashes_or_three() -> None:
    assert address.parse("sqlite://sessions.db") == Path("sessions.db")
    assert address.parse("sqlite:///sessions.db") == Path("sessions.db")


def test_redis_without_its_client_is_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(address, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install 'fastx-list\[redis\]'"):
        address.parse("redis://host")


def test_a_store_is_opened_only_at_an_address() -> None:
    with pytest.raises(ValueError, match="sqlite:///PATH, redis://"):
        open_store("/state/sessions.db")
