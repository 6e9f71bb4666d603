"""The declaration of members, and that what people read follows it."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated

import pytest
from marshmallow import ValidationError
from marshmallow.validate import Range

from fastx_list.agent.start import VARIABLES
from fastx_list.model.member import Member, check_members, declared, reading_schema, writing_schema
from fastx_list.model.server import Server
from fastx_list.model.session import COLUMNS, MEMBERS, Said, Session, Start

DOCS = Path(__file__).parents[2] / "docs"


@dataclass(frozen=True, kw_only=True)
class Lamp:
    watts: Annotated[int, Member("powerInWatts", "Power", "how bright it is", unit="W")]
    colour: Annotated[str | None, Member("colour", "Colour", "of its light", also="color")] = None
    spots: Annotated[tuple[float, float] | None, Member("spots", "Spots", "where it shines")] = None
    socket: int = 0  # which nobody is told of


def names(owner: type) -> set[str]:
    return {each.member.name for each in declared(owner)}


def first_cells(page: str, heading: str) -> set[str]:
    """Return what stands in backticks in the first column of the table with this ``heading``."""
    [table] = re.findall(rf"^\| {heading} \|.*\n((?:\|.*\n)+)", (DOCS / page).read_text(), re.M)
    return quoted(" ".join(row.split("|")[1] for row in table.splitlines()))


def quoted(text: str) -> set[str]:
    return set(re.findall(r"`(\w+)`", text))


@pytest.mark.parametrize("owner", [Session, Server])
def test_each_attribute_is_a_member_with_a_label_and_a_description(owner: type) -> None:
    members = [each.member for each in declared(owner)]
    assert {each.attribute for each in declared(owner)} == {each.name for each in fields(owner)}
    assert all(len(member.label) > 1 and len(member.description) > 5 for member in members)
    assert len({member.label for member in members}) == len(members)


def test_the_documents_say_each_member() -> None:
    assert first_cells("api.md", "member") >= set(MEMBERS)


def test_the_documents_say_where_each_member_comes_from() -> None:
    known = first_cells("sessions.md", "member")
    assert known >= names(Said) - names(Start) - {"params"}
    assert first_cells("sessions.md", "variable") >= set(VARIABLES)
    settings = (DOCS / "sessions.md").read_text().partition("## session.json")[2]
    assert quoted(settings) >= names(Start)


def test_the_documents_say_what_a_session_file_may_say() -> None:
    assert quoted((DOCS / "spool.md").read_text()) >= names(Said)


def test_a_column_that_is_a_member_has_its_label() -> None:
    labels = {name: MEMBERS[name].label for name in COLUMNS if name in MEMBERS}
    labels["idleSince"] = "Idle"  # a cell says for how long
    assert labels.items() <= COLUMNS.items()


def test_members_are_written_under_their_names_in_the_order_asked_for() -> None:
    schema = writing_schema(Lamp, order=("colour", "color"))()
    written = schema.dump(Lamp(watts=40, colour="red", spots=(1, 2)))
    assert list(written.items()) == [
        ("colour", "red"),
        ("color", "red"),
        ("powerInWatts", 40),
        ("spots", [1.0, 2.0]),
    ]


def test_readers_are_told_what_they_can_rely_on() -> None:
    written = writing_schema(Lamp)().fields
    assert all(field.required for field in written.values())
    assert {name for name, field in written.items() if field.allow_none} == {
        "colour",
        "color",
        "spots",
    }
    assert written["powerInWatts"].metadata["description"] == "how bright it is (W)"
    assert written["color"].metadata["description"] == "the same as colour"


@pytest.mark.parametrize(
    "said, refused",
    [
        ({}, "powerInWatts"),
        ({"powerInWatts": None}, "powerInWatts"),
        ({"powerInWatts": "40"}, "powerInWatts"),
        ({"powerInWatts": 40.5}, "powerInWatts"),
        ({"powerInWatts": 40, "colour": 1}, "colour"),
        ({"powerInWatts": 40, "colour": "red", "color": "blue"}, "color"),
        ({"powerInWatts": 40, "spots": [1, 2, 3]}, "spots"),
        ({"powerInWatts": 40, "socket": 1}, "socket"),
    ],
)
def test_who_says_members_keeps_to_their_types(said: dict[str, object], refused: str) -> None:
    with pytest.raises(ValidationError) as caught:
        reading_schema(Lamp)().load(said)
    assert list(caught.value.messages_dict) == [refused]


def test_limits_hold_for_who_says_a_member_and_no_reader_is_promised_them() -> None:
    @dataclass
    class Dimmed:
        share: Annotated[int, Member("share", "Share", "of the light", limits=Range(0, 100))]

    assert not writing_schema(Dimmed)().fields["share"].validators
    with pytest.raises(ValidationError):
        reading_schema(Dimmed)().load({"share": 101})


LAMP: dict[str, object] = {"powerInWatts": 40, "colour": "red", "spots": [1.5, 2]}


def test_what_was_read_somewhere_is_what_is_declared() -> None:
    check_members(LAMP, declared(Lamp))
    check_members({**LAMP, "of another release": object()}, declared(Lamp))


@pytest.mark.parametrize(
    "wrong",
    [
        {"powerInWatts": "40"},
        {"powerInWatts": True},
        {"powerInWatts": 2**53 + 1},
        {"powerInWatts": float("nan")},
        {"colour": 7},
        {"spots": "1"},
        {"spots": [1]},
        {"spots": [1, "2"]},
    ],
)
def test_what_was_read_somewhere_and_is_something_else_is_named(wrong: dict[str, object]) -> None:
    [name] = wrong
    with pytest.raises(ValueError, match=f"its {name} "):
        check_members({**LAMP, **wrong}, declared(Lamp))
