from __future__ import annotations

import pytest

from fastx_list.api.arrival import LOOK_SECONDS, Patience, WaitingRoom

ALICE, BOB = ("192.0.2.1", 1), ("192.0.2.2", 2)


@pytest.fixture
def room() -> WaitingRoom[str]:
    return WaitingRoom()


def test_of_one_address_the_first_goes_first(room: WaitingRoom[str]) -> None:
    for name in "abc":
        room.add(name, ALICE)
    assert room.first_to_go() == "a"
    room.discard("a")
    assert room.first_to_go() == "b" and list(room) == ["b", "c"]


def test_the_address_with_the_most_pays(room: WaitingRoom[str]) -> None:
    room.add("old", BOB)
    room.add("new", ALICE)
    room.add("newer", ALICE)
    assert room.first_to_go() == "new"


def test_it_is_the_size_that_counts(room: WaitingRoom[str]) -> None:
    room.add("small", ALICE)
    room.add("smaller", ALICE)
    room.add("large", BOB, 10)
    assert room.first_to_go() == "large" and room.size == 12
    room.discard("large")
    assert room.first_to_go() == "small" and room.size == len(room) == 2


def test_who_is_not_there_may_go(room: WaitingRoom[str]) -> None:
    room.discard("nobody")
    assert len(room) == room.size == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (("2001:db8::1", 1, 0, 0), ("2001:db8::ffff:0:2", 2, 0, 0)),
        (("fe80::1%eth0", 1, 0, 2), ("fe80::2%eth0", 2, 0, 2)),
        (("::ffff:192.0.2.1", 1, 0, 0), ("::ffff:192.0.2.1", 2, 0, 0)),
        ("", b""),
        (1000, 1000),
    ],
)
def test_addresses_of_one_client_count_as_one(
    room: WaitingRoom[str], one: object, other: object
) -> None:
    room.add("a", BOB)
    room.add("b", one)
    room.add("c", other)
    assert room.first_to_go() == "b"


def test_addresses_of_ipv4_are_apart_also_on_a_socket_of_ipv6(room: WaitingRoom[str]) -> None:
    room.add("a", ("::ffff:192.0.2.1", 1, 0, 0))
    room.add("b", ("::ffff:192.0.2.2", 2, 0, 0))
    room.add("c", ("::ffff:192.0.2.2", 3, 0, 0))
    assert room.first_to_go() == "b"


def test_users_of_the_machine_are_apart(room: WaitingRoom[str]) -> None:
    room.add("a", 1000)
    room.add("b", 1001)
    room.add("c", 1001)
    assert room.first_to_go() == "b"


def test_patience_stands_still_while_nobody_looks_after_clients() -> None:
    now = 0.0
    patience = Patience(lambda: now)
    began = patience.now()
    for now in (0.5, 1.0, 1.5):
        assert patience.now() == patience.look() == began + now
    now = 100.0
    assert patience.now() == began + 1.5 + LOOK_SECONDS and patience.unseen() == 98.5
    patience.look()
    now = 100.5
    assert patience.now() == began + 2 + LOOK_SECONDS
