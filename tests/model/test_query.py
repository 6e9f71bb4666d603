from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from marshmallow import ValidationError

from fastx_list.model import query
from fastx_list.model.query import LiveQuerySchema, Query, QuerySchema, describe
from fastx_list.model.session import Session, encode
from fastx_list.replica.view import Entry, View
from tests.model.oracle import MEMBERS, Members, Refused, expected, kind, text

_schema = QuerySchema()
# No deadline: how long an example takes says something of the machine only.
usual, thorough = settings(deadline=None), settings(deadline=None, max_examples=200)


def session(name: str, **members: Any) -> Members:
    """Return a session of which only ``members`` are known."""
    return {**dict.fromkeys(MEMBERS), "params": {}, **members, "id": name}


def listed(sessions: list[Members], **parameters: Any) -> list[str]:
    """Return the ids in the answer to a request with these parameters."""
    asked: Query = _schema.load(parameters)
    return [members["id"] for members in paged(sessions, asked)[0]]


def paged(sessions: list[Members], asked: Query) -> tuple[list[Members], int]:
    """Return the page that ``asked`` names, and how many sessions there are before paging."""
    view = View(entry(members) for members in sessions).narrow(asked.filters)
    return [dict(entry.members) for entry in view.page(asked)], len(view.entries)


def entry(members: Members) -> Entry:
    return Entry(members["id"], "alice", json.dumps(members).encode())


def refusal(**parameters: Any) -> str:
    """Return the message of the error that a request with these parameters gets."""
    with pytest.raises(ValidationError) as caught:
        _schema.load(parameters)
    return describe(caught.value)


# The product and the oracle over generated sessions.

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


@st.composite
def filters(draw: st.DrawFn, sessions: list[Members]) -> str:
    """A filter of which the name and the values are often those of a session."""
    name = draw(names)
    wanted = draw(st.lists(words, max_size=2))
    for members in sessions:
        value = members["params"].get(name.removeprefix("params."), members.get(name))
        if kind(value) != "nothing to sort by" and draw(st.booleans()):
            wanted.append(
                text(value)
                if not isinstance(value, bool)
                else draw(st.sampled_from([str(value), str(value).lower()]))
            )
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
        asked: Query = _schema.load(parameters)
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


# filter


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("red", "red"),
        ("", ""),
        ("dark red", "dark red"),
        ("größe", "größe"),
        ("a==b", "a==b"),
        ("=b", "=b"),
        (0, "0"),
        (-7, "-7"),
        (10**30, "1" + 30 * "0"),
        (50.0, "50"),
        (12.5, "12.5"),
        (1e22, "1" + 22 * "0"),
        (True, "true"),
        (True, "TRUE"),
        (False, "False"),
        (None, ""),
    ],
)
def test_a_filter_finds_the_text_of_a_value(value: Any, wanted: str) -> None:
    assert listed([session("s", params={"color": value})], filter=f"color=={wanted}") == ["s"]


@pytest.mark.parametrize(
    "value, wanted",
    [
        ("red", "Red"),
        ("red", "re"),
        ("red", ""),
        (" red ", "red"),  # the filter is trimmed, the session is not
        ("True", "true"),  # only booleans are found in any case
        (1, "1.0"),
        (1, "01"),
        (1, "+1"),
        (1, "true"),
        (10, "1"),
        (0, ""),
        (0, "false"),
        (0, "-0"),
        (True, "1"),
        (True, "yes"),
        (False, ""),
        (False, "0"),
        (None, "null"),
        (None, "None"),
        ([], ""),
        ({}, ""),
        ([], "[]"),
        ({}, "{}"),
        (["red"], "red"),
        ({"red": 1}, "red"),
    ],
)
def test_a_filter_does_not_find_what_only_looks_alike(value: Any, wanted: str) -> None:
    assert listed([session("s", params={"color": value})], filter=f"color=={wanted}") == []


def test_a_comma_is_or() -> None:
    sessions = [session(name, params={"color": name}) for name in ("blue", "green", "red")]
    assert listed(sessions, filter="color==red,blue,black") == ["blue", "red"]


def test_a_repeated_filter_is_and() -> None:
    sessions = [
        session("a", clients=0, display=1),
        session("b", clients=0, display=2),
        session("c", clients=1, display=1),
    ]
    assert listed(sessions, filter=["clients==0", "display==1"]) == ["a"]
    assert listed(sessions, filter=["clients==0", "clients==1"]) == []


def test_an_array_with_no_filter_in_it_filters_nothing() -> None:
    assert listed([session("a")], filter=[]) == ["a"]


def test_a_filter_is_split_at_the_first_equals_signs() -> None:
    sessions = [session("a", command="b==c"), session("b", command="=c"), session("c", command="c")]
    assert listed(sessions, filter="command==b==c") == ["a"]
    assert listed(sessions, filter="command===c") == ["b"]


def test_space_around_a_filters_name_and_values_does_not_count() -> None:
    sessions = [session("a", clients=0), session("b", clients=1), session("c", clients=2)]
    assert listed(sessions, filter=" clients == 0 ,\t2 ") == ["a", "c"]


def test_an_empty_filter_value_finds_null_and_absent_and_empty() -> None:
    sessions = [
        session("absent"),
        session("empty", params={"color": ""}),
        session("null", params={"color": None}),
        session("red", params={"color": "red"}),
        session("zero", params={"color": 0}),
    ]
    assert listed(sessions, filter="color==") == ["absent", "empty", "null"]
    assert listed(sessions, filter="color==red,") == ["absent", "empty", "null", "red"]


def test_an_empty_filter_value_finds_a_member_that_is_not_known() -> None:
    assert listed(
        [session("a", geometry=None), session("b", geometry="640x480")], filter="geometry=="
    ) == ["a"]


def test_the_params_as_a_whole_never_match() -> None:
    assert listed([session("a"), session("b", params={"a": 1})], filter="params==") == []


def test_a_filter_looks_among_the_members_before_the_params() -> None:
    sessions = [session("a", login="alice", params={"login": "bob"}), session("b", login="bob")]
    assert listed(sessions, filter="login==bob") == ["b"]


def test_a_null_member_still_hides_a_param() -> None:
    assert (
        listed([session("a", command=None, params={"command": "xterm"})], filter="command==xterm")
        == []
    )


def test_a_prefix_reaches_a_param_that_a_member_hides() -> None:
    sessions = [session("a", login="alice", params={"login": "bob"}), session("b", login="bob")]
    assert listed(sessions, filter="params.login==bob") == ["a"]
    assert listed(sessions, filter="params.login==") == ["b"]


def test_a_prefix_reaches_a_param_that_nothing_hides() -> None:
    assert listed(
        [session("a", params={"color": "red"}), session("b")], filter="params.color==red"
    ) == ["a"]


def test_a_prefix_is_part_of_a_params_name_if_the_param_is_called_so() -> None:
    assert listed([session("a", params={"params.color": "red"})], filter="params.color==red") == [
        "a"
    ]


def test_names_are_told_apart_by_case() -> None:
    assert listed([session("a", login="alice")], filter="Login==alice") == []


@pytest.mark.parametrize("spelling", ["disconnectTimeout", "disconnectTImeout"])
def test_both_spellings_of_the_disconnect_timeout_filter_and_sort(spelling: str) -> None:
    sessions = [
        json.loads(encode(Session(name, "alice", "server", "host", disconnect_timeout=minutes), {}))
        for name, minutes in (("a", 30), ("b", 5), ("c", None), ("d", 30))
    ]
    assert listed(sessions, filter=f"{spelling}==30") == ["a", "d"]
    assert listed(sessions, filter=f"{spelling}==") == ["c"]
    assert listed(sessions, sortBy=spelling) == ["b", "a", "d", "c"]
    assert listed(sessions, sortBy=spelling, sortReverse="true") == ["a", "d", "b", "c"]


def test_a_whole_number_with_a_fraction_of_nothing_is_found_in_a_dumped_session() -> None:
    members = json.loads(encode(Session("a", "alice", "server", "host", cpu_percentage=50), {}))
    assert listed([members], filter="cpuPercentage==50") == ["a"]


# sortBy and sortReverse


def test_numbers_sort_by_value() -> None:
    sessions = [
        session("a", display=10),
        session("b", display=9),
        session("c", display=1),
        session("d", display=0),
    ]
    assert listed(sessions, sortBy="display") == ["d", "c", "b", "a"]


def test_numbers_that_no_float_can_hold_sort_by_value() -> None:
    sessions = [
        session("a", started=2**53 + 1),
        session("b", started=2**53),
        session("c", started=10**400),
    ]
    assert listed(sessions, sortBy="started") == ["b", "a", "c"]


def test_numbers_sort_before_strings() -> None:
    sessions = [
        session(name, params={"rank": value})
        for name, value in (("a", "1"), ("b", 10), ("c", "0"), ("d", 2.5))
    ]
    assert listed(sessions, sortBy="rank") == ["d", "b", "c", "a"]
    assert listed(sessions, sortBy="rank", sortReverse=True) == ["a", "c", "b", "d"]


def test_booleans_sort_false_before_true() -> None:
    assert listed([session("a", sharing=True), session("b", sharing=False)], sortBy="sharing") == [
        "b",
        "a",
    ]


def test_strings_sort_without_regard_to_case() -> None:
    sessions = [
        session(name, command=name)
        for name in ("banana", "Apple", "STRASSE", "straße", "Strassf", "Date")
    ]
    assert listed(sessions, sortBy="command") == [
        "Apple",
        "banana",
        "Date",
        "STRASSE",
        "straße",
        "Strassf",
    ]


@pytest.mark.parametrize("backwards, ids", [("false", ["b", "a"]), ("true", ["a", "b"])])
def test_missing_and_null_and_what_has_no_order_sort_last_in_both_directions(
    backwards: str, ids: list[str]
) -> None:
    sessions = [
        session("w", params={"rank": {}}),
        session("x", params={"rank": None}),
        session("y"),
        session("z", params={"rank": [1]}),
        session("a", params={"rank": "first"}),
        session("b", params={"rank": 1}),
    ]
    assert listed(sessions, sortBy="rank", sortReverse=backwards) == [*ids, "w", "x", "y", "z"]


@pytest.mark.parametrize(
    "backwards, ids", [(False, ["d", "A", "b", "c"]), (True, ["A", "b", "c", "d"])]
)
def test_ties_sort_by_id_ascending_in_both_directions(backwards: bool, ids: list[str]) -> None:
    sessions = [
        session("c", clients=2),
        session("A", clients=2),
        session("d", clients=1),
        session("b", clients=2),
    ]
    assert listed(sessions, sortBy="clients", sortReverse=backwards) == ids


@pytest.mark.parametrize("name", [None, "", "  "])
def test_without_a_name_to_sort_by_it_is_by_start_and_then_by_id(name: str | None) -> None:
    sessions = [
        session("d"),
        session("c", started=2),
        session("b", started=2),
        session("a", started=3),
        session("e", started=1),
    ]
    assert listed(sessions, sortBy=name) == ["e", "b", "c", "a", "d"]
    assert listed(sessions, sortBy=name, sortReverse=True) == ["a", "b", "c", "e", "d"]


def test_it_sorts_by_one_of_the_params() -> None:
    sessions = [
        session("a", params={"rank": 2}),
        session("b", params={"rank": 1}),
        session("c", params={"rank": 3}),
    ]
    assert listed(sessions, sortBy=" rank ") == ["b", "a", "c"]


def test_it_sorts_by_a_param_that_a_member_hides() -> None:
    sessions = [
        session("a", display=1, params={"display": 2}),
        session("b", display=2, params={"display": 1}),
    ]
    assert listed(sessions, sortBy="display") == ["a", "b"]
    assert listed(sessions, sortBy="params.display") == ["b", "a"]


def test_sorting_by_what_no_session_has_sorts_by_id() -> None:
    assert listed([session("b", started=1), session("a", started=2)], sortBy="nothing") == [
        "a",
        "b",
    ]


@pytest.mark.parametrize("value", [True, 1, "1", "true", "TRUE", " True ", "yes", "on"])
def test_it_sorts_in_reverse_for_whatever_means_true(value: object) -> None:
    assert listed([session("a", started=1), session("b", started=2)], sortReverse=value) == [
        "b",
        "a",
    ]


@pytest.mark.parametrize("value", [None, False, 0, "0", "false", "FALSE", "no", "off"])
def test_it_does_not_sort_in_reverse_for_whatever_means_false(value: object) -> None:
    assert listed([session("a", started=1), session("b", started=2)], sortReverse=value) == [
        "a",
        "b",
    ]


# start and limit


@pytest.mark.parametrize(
    "start, limit, ids",
    [
        (None, None, "abcd"),
        (0, None, "abcd"),
        (1, None, "bcd"),
        (4, None, ""),
        (5, None, ""),
        (10**30, None, ""),
        (None, 0, ""),
        (None, 1, "a"),
        (None, 4, "abcd"),
        (None, 10**30, "abcd"),
        (1, 2, "bc"),
        (3, 2, "d"),
        (10**30, 10**30, ""),
        (2, 0, ""),
    ],
)
def test_it_returns_the_page_from_start_of_limit_sessions(
    start: int | None, limit: int | None, ids: str
) -> None:
    sessions = [session(name) for name in "abcd"]
    assert listed(sessions, start=start, limit=limit) == list(ids)
    texts = {
        name: str(value)
        for name, value in (("start", start), ("limit", limit))
        if value is not None
    }
    assert listed(sessions, **texts) == list(ids)


def test_paging_comes_after_filtering_and_sorting() -> None:
    sessions = [session(name, display=ord(name), clients=ord(name) % 2) for name in "abcdefg"]
    assert listed(
        sessions, filter="clients==1", sortBy="display", sortReverse="1", start="1", limit="2"
    ) == ["e", "c"]


def test_the_number_of_sessions_is_that_before_paging() -> None:
    asked: Query = _schema.load({"filter": "clients==1", "limit": "1"})
    assert (
        paged([session("a", clients=1), session("b", clients=1), session("c", clients=0)], asked)[1]
        == 2
    )


# The parameters as a whole


def test_unknown_parameters_are_ignored() -> None:
    assert (
        _schema.load({"_": "1700000000", "sortby": "id", "limits": "none", "token": "x"}) == Query()
    )


@pytest.mark.parametrize("name", ["sortBy", "sortReverse", "start", "limit", "filter"])
def test_a_null_parameter_is_one_left_out(name: str) -> None:
    assert _schema.load({name: None}) == Query()


def test_the_same_question_is_the_same_key() -> None:
    parameters = {
        "sortBy": "id",
        "sortReverse": "1",
        "start": "2",
        "limit": 3,
        "filter": ["a==1,2", "b=="],
    }
    same = {
        "sortBy": " id",
        "sortReverse": True,
        "start": 2,
        "limit": "3",
        "filter": [" a == 2, 1", "b=="],
    }
    assert len({_schema.load(parameters), _schema.load(same)}) == 1


def test_listing_changes_no_session() -> None:
    sessions = [session("b", params={"x": [1]}), session("a")]
    before = json.dumps(sessions)
    listed(sessions, sortBy="x", filter="x==", start=1, limit=1)
    assert json.dumps(sessions) == before


# What is refused

NO_WHOLE_NUMBERS = [
    "-1",
    -1,
    "-0",
    "1_0",
    "５",
    "٣",
    "1.5",
    1.5,
    "1e3",
    "+1",
    "0x10",
    "",
    " ",
    "one",
    "1 0",
    "1,0",
    "NaN",
    "Infinity",
    True,
    False,
    [],
    [1],
    {},
    "9" * 5000,
]


@pytest.mark.parametrize("name", ["start", "limit"])
@pytest.mark.parametrize("value", NO_WHOLE_NUMBERS, ids=lambda value: repr(value)[:20])
def test_it_refuses_a_start_or_limit_that_is_no_whole_number(name: str, value: object) -> None:
    message = refusal(**{name: value})
    assert message.startswith(f"{name}: takes a whole number")
    assert "0 or more" in message


@pytest.mark.parametrize(
    "value", ["", "maybe", "y", "2", 2, -1, 1.0, "truee", "真", [], [True], {}], ids=repr
)
def test_it_refuses_an_unknown_boolean(value: object) -> None:
    assert refusal(sortReverse=value).startswith("sortReverse: takes true or false")


@pytest.mark.parametrize("value", [1, True, [], ["id"], {}], ids=repr)
def test_it_refuses_a_name_to_sort_by_that_is_no_text(value: object) -> None:
    assert refusal(sortBy=value).startswith("sortBy: takes the name of a member")


def test_it_refuses_a_name_to_sort_by_of_over_256_characters() -> None:
    assert refusal(sortBy="n" * 257).startswith("sortBy: takes the name of a member")
    assert listed([session("a", params={"n" * 256: 1})], sortBy="n" * 256) == ["a"]


@pytest.mark.parametrize(
    "value",
    ["", "clients", "clients=0", "clients= =0", "==0", "  ==0", "===", "clients!=0"],
    ids=repr,
)
def test_it_refuses_a_filter_without_a_name_and_equals_signs(value: str) -> None:
    assert refusal(filter=value).startswith("filter: takes name==value1,value2")
    assert refusal(filter=["id==a", value]).startswith("filter: takes name==value1,value2")


@pytest.mark.parametrize(
    "value", [1, True, {}, {"id": "a"}, [1], [None], ["id==a", 1], [["id==a"]]], ids=repr
)
def test_it_refuses_a_filter_that_is_no_text(value: object) -> None:
    assert refusal(filter=value).startswith("filter: takes text of the form name==value1,value2")


def test_it_takes_32_filters_and_no_more() -> None:
    assert listed([session("a", clients=0)], filter=["clients==0"] * 32) == ["a"]
    message = refusal(filter=["clients==0"] * 33)
    assert message.startswith("filter: takes at most 32 filters")
    assert "33" in message


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
def test_it_takes_4096_bytes_of_filter_and_no_more(letter: str) -> None:
    room = 4096 - len(b"command==")
    wanted = letter * (room // len(letter.encode())) + "-" * (room % len(letter.encode()))
    assert len(f"command=={wanted}".encode()) == 4096
    assert listed([session("a", command=wanted)], filter=f"command=={wanted}") == ["a"]
    assert refusal(filter=f"command=={wanted}x").startswith("filter: takes at most 4096 bytes")


def test_it_counts_the_bytes_of_all_filters_together() -> None:
    texts = ["clients==0", "command==" + "x" * (4096 - len(b"clients==0command=="))]
    assert listed([session("a", clients=0)], filter=texts) == []
    assert refusal(filter=[*texts[:-1], texts[-1] + "x"]).startswith(
        "filter: takes at most 4096 bytes"
    )


def test_a_filter_with_half_a_character_is_counted_and_finds_nothing() -> None:
    # JSON can write a lone surrogate, which is no Unicode text and cannot be encoded.
    assert listed([session("a", command="x")], filter=json.loads(r'"command==\ud800"')) == []


def test_an_error_names_every_parameter_that_was_refused() -> None:
    message = refusal(limit="x", start="y", sortReverse="z")
    assert {part.partition(": takes ")[0] for part in message.split("; ")} == {
        "limit",
        "start",
        "sortReverse",
    }


def test_an_error_is_described_without_the_place_it_stood_in() -> None:
    assert (
        describe(ValidationError({"query": {"limit": ["takes a number"]}}))
        == "limit: takes a number"
    )


def test_an_error_inside_an_array_is_described_with_its_place() -> None:
    assert (
        describe(ValidationError({"a": {0: ["is wrong"], 1: "too"}, "b": ["no", "no"]}))
        == "a: 0: is wrong 1: too; b: no no"
    )


# The parameters of the WebSocket


@pytest.mark.parametrize(
    "value, wanted", [("0", False), ("false", False), ("1", True), ("TRUE", True)]
)
def test_the_feed_takes_whether_to_send_a_snapshot(value: str, wanted: bool) -> None:
    assert LiveQuerySchema().load({"snapshot": value})["snapshot"] is wanted


def test_the_feed_sends_a_snapshot_of_everything_unless_told_otherwise() -> None:
    assert LiveQuerySchema().load({}) == {"snapshot": True, "filter": ()}


def test_the_feed_filters_as_the_list_does() -> None:
    text = ["clients==0", " login == a,b "]
    found = LiveQuerySchema().load({"filter": text})["filter"]
    assert found == _schema.load({"filter": text}).filters
    assert query.matches(session("a", clients=0, login="b"), found)
    assert not query.matches(session("a", clients=1, login="b"), found)


def test_the_feed_ignores_what_orders_and_pages_a_list() -> None:
    assert LiveQuerySchema().load({"limit": "none", "start": "-1", "sortBy": "id"}) == {
        "snapshot": True,
        "filter": (),
    }


@pytest.mark.parametrize(
    "parameters, message",
    [
        ({"snapshot": "maybe"}, "snapshot: takes true or false"),
        ({"filter": "clients"}, "filter: takes name==value1,value2"),
    ],
)
def test_the_feed_refuses_what_the_list_refuses(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LiveQuerySchema().load(parameters)
    assert describe(caught.value).startswith(message)
