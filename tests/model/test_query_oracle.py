from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError

from fastx_list.model.query import Query, describe
from tests.model.asking import SCHEMA, listed, paged, session, thorough, usual
from tests.model.oracle import MEMBERS, Members, Refused, expected, kind

# Few different values, so that filters find something and sorting meets ties; each group holds what
# is easily taken for one.
NAMES = (
    "name",
    "color",
    "login",
    "started",
    "id",
    "params",
    "params.login",
    "params.",
    "Name",
    "",
    " name",
    "größe",
)
TEXTS = (
    "",
    "a",
    "A",
    "b",
    "B",
    "ß",
    "ss",
    "SS",
    "İ",
    "i",
    "ı",
    "ﬁ",
    "fi",
    "Ǆ",
    "ǆ",
    "1",
    "1.0",
    "01",
    "true",
    "True",
    "null",
    "a,b",
    'a,"b',
    "a==b",
    "a b",
    " a ",
    "10",
    "9",
    "-1",
    "１",
    "\N{NO-BREAK SPACE}a",
    "🙂",
)
NUMBERS = (
    0,
    1,
    -1,
    9,
    10,
    1.0,
    1.5,
    -0.0,
    1e-7,
    1e22,
    10**22,
    10**22 + 1,
    2**53,
    float(2**53),
    2**53 + 1,
    10**400,
    5e-324,
    1e308,
)

words = st.sampled_from(TEXTS) | st.text(max_size=4)
numbers = (
    st.sampled_from(NUMBERS) | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
)
scalars = st.none() | st.booleans() | numbers | words
values = scalars | st.lists(scalars, max_size=2) | st.dictionaries(words, scalars, max_size=2)
counts = st.none() | st.integers(0, 3) | st.integers(0, 2**53)


@st.composite
def session_lists(draw: st.DrawFn) -> list[Members]:
    """Sessions with every member, each of its kind or null, in no particular order."""
    sessions = []
    for name in draw(
        st.lists(
            st.sampled_from("abcABC") | st.text(min_size=1, max_size=3), max_size=5, unique=True
        )
    ):
        minutes = draw(counts)
        members = {
            "id": name,
            "serverPid": draw(counts),
            "geometry": draw(st.none() | st.sampled_from(["1280x720", "640x480"])),
            "windowMode": draw(st.sampled_from([None, "desktop", "rootless"])),
            "started": draw(counts),
            "lastConnect": draw(counts),
            "lastDisconnect": draw(counts),
            "command": draw(st.none() | words),
            "appPid": draw(counts),
            "clients": draw(counts),
            "params": draw(st.dictionaries(st.sampled_from(NAMES), values, max_size=5)),
            "hostname": draw(words),
            "login": draw(words),
            "display": draw(counts),
            "serverId": draw(words),
            "cpuPercentage": draw(st.sampled_from([None, 0.0, 50.0, 12.5])),
            "videoRam": draw(counts),
            "sharing": draw(st.none() | st.booleans()),
            "disconnectTimeout": minutes,
            "disconnectTImeout": minutes,
            "clientAddresses": draw(st.none() | st.lists(words, max_size=2)),
            "idleSince": draw(counts),
            "cpu": draw(counts),
            "memory": draw(counts),
            "kind": draw(st.none() | words),
        }
        assert tuple(members) == MEMBERS
        sessions.append(members)
    return sessions


names = st.sampled_from((*MEMBERS, *NAMES, *(f"params.{name}" for name in NAMES)))
spaces = st.sampled_from(("", "", " ", "\t "))
wholes = st.sampled_from((0, 1, 2, 5, 10**30)) | st.integers(0, 8)
booleans = st.sampled_from(
    (True, False, 1, 0, "true", "false", "TRUE", "False", "1", "0", "yes", "no", "on", "Off")
)


def writings(value: bool | float | str) -> list[str]:
    """Return how a filter may write a value that it is to find, and some ways that look so."""
    if isinstance(value, str):
        return [value, '"{}"'.format(value.replace('"', '""'))]
    if isinstance(value, bool):
        return [str(value), str(value).lower()]
    texts = [str(value), json.dumps(value)]
    if abs(value) < 1e308:
        texts += [f"{value:.20e}", f"{value:g}", f"{value:f}", f"{int(value)}.0"]
    return texts


@st.composite
def filters(draw: st.DrawFn, sessions: list[Members]) -> str:
    """A filter of which the name and the values are often those of a session."""
    name = draw(names)
    wanted = draw(st.lists(words, max_size=2))
    for members in sessions:
        value = members["params"].get(name.removeprefix("params."), members.get(name))
        if kind(value) != "nothing to sort by" and draw(st.booleans()):
            wanted.append(draw(st.sampled_from(writings(value))))
    spaced = [draw(spaces) + value + draw(spaces) for value in draw(st.permutations(wanted))]
    return draw(spaces) + name + draw(spaces) + "==" + ",".join(spaced)


@st.composite
def requests(draw: st.DrawFn) -> tuple[list[Members], dict[str, Any]]:
    """Sessions, and the raw parameters of a request for them."""
    sessions = draw(session_lists())
    parameters: dict[str, Any] = {}
    several = st.lists(filters(sessions), max_size=2)
    for name, values in (
        ("filter", several | filters(sessions)),
        ("sortBy", names | words),
        ("sortReverse", booleans),
        ("start", wholes | wholes.map(str)),
        ("limit", wholes | wholes.map(str)),
        ("_", words),
    ):
        if draw(st.booleans()):
            parameters[name] = draw(st.none() | values)
    return sessions, parameters


def answer(sessions: list[Members], parameters: dict[str, Any]) -> tuple[list[Members], int] | str:
    """Return what the product answers, or the parameter that its refusal names."""
    try:
        asked: Query = SCHEMA.load(parameters)
    except ValidationError as error:
        return describe(error).partition(":")[0]
    return paged(sessions, asked)


def oracle_answer(
    sessions: list[Members], parameters: dict[str, Any]
) -> tuple[list[Members], int] | str:
    try:
        return expected(sessions, parameters)
    except Refused as error:
        return str(error)


@thorough
@given(requests())
def test_it_answers_as_the_oracle_does(request_: tuple[list[Members], dict[str, Any]]) -> None:
    sessions, parameters = request_
    # Compared as text, since to Python 1, 1.0 and True are equal.
    assert repr(answer(sessions, parameters)) == repr(oracle_answer(sessions, parameters))


@thorough
@given(session_lists(), st.data())
def test_it_filters_as_the_oracle_does(sessions: list[Members], data: st.DataObject) -> None:
    parameters = {"filter": data.draw(filters(sessions))}
    assert repr(answer(sessions, parameters)) == repr(oracle_answer(sessions, parameters))


@thorough
@given(session_lists(), names, st.booleans())
def test_it_sorts_as_the_oracle_does(sessions: list[Members], name: str, backwards: bool) -> None:
    parameters = {"sortBy": name, "sortReverse": backwards}
    assert repr(answer(sessions, parameters)) == repr(oracle_answer(sessions, parameters))


@usual
@given(requests(), st.randoms(use_true_random=False))
def test_the_order_sessions_come_in_makes_no_difference(
    request_: tuple[list[Members], dict[str, Any]], random: Any
) -> None:
    sessions, parameters = request_
    before = answer(sessions, parameters)
    random.shuffle(sessions)
    assert answer(sessions, parameters) == before


@thorough
@given(st.sampled_from(("filter", "sortBy", "sortReverse", "start", "limit")), values)
def test_it_takes_or_refuses_any_json_value_as_the_oracle_does(name: str, value: Any) -> None:
    sessions = [session("a", started=1), session("b", started=2)]
    if isinstance(value, str):
        value = value.strip()  # the design leaves open whether space around a number counts
    assert answer(sessions, {name: value}) == oracle_answer(sessions, {name: value})


@usual
@given(session_lists(), wholes, wholes)
def test_pages_laid_end_to_end_are_the_whole_list(
    sessions: list[Members], size: int, start: int
) -> None:
    size = max(1, min(size, 8))
    whole = listed(sessions, sortBy="name")
    pages = [
        listed(sessions, sortBy="name", start=place, limit=size)
        for place in range(0, len(whole), size)
    ]
    assert [each for page in pages for each in page] == whole
    assert listed(sessions, sortBy="name", start=start) == whole[start:]
