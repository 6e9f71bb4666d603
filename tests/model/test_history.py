from __future__ import annotations

import csv
import io
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastx_list.model.history import columns, moment, to_csv
from fastx_list.model.session import MEMBERS


@given(st.datetimes(datetime(1970, 1, 2), datetime(9999, 1, 1), timezones=st.just(timezone.utc)))
def test_a_moment_may_be_written_in_several_ways(time: datetime) -> None:
    time = time.replace(microsecond=0)
    expected = round(time.timestamp()) * 1000
    assert moment(time.strftime("%Y-%m-%dT%H:%M:%SZ")) == expected
    assert moment(time.strftime("%Y-%m-%d %H:%M:%S")) == expected
    assert moment(str(expected)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-27", 1_795_737_600_000),
        ("2026-11-27T01:30", 1_795_743_000_000),
        ("2026-11-27T02:30+01:00", 1_795_743_000_000),
        ("2026-11-27T02:30 01:00", 1_795_743_000_000),
        ("2026-11-26T20:30-05:00", 1_795_743_000_000),
        ("1969-01-01", 0),
        ("", None),
        ("12", 12),
        ("-1", None),
        ("2026-13-01", None),
        ("2026-11-27T25:00", None),
        ("27.11.2026", None),
        ("9" * 16, None),
    ],
)
def test_what_a_moment_is(text: str, expected: int | None) -> None:
    assert moment(text) == expected


@pytest.mark.parametrize("year", [1999, 2000, 2023, 2024, 2100, 2400])
def test_a_day_that_no_month_has_is_no_moment(year: int) -> None:
    for month in range(1, 13):
        for day in range(1, 32):
            try:
                time = datetime(year, month, day, tzinfo=timezone.utc)
                expected = round(time.timestamp()) * 1000
            except ValueError:
                expected = None
            assert moment(f"{year}-{month:02}-{day:02}") == expected


def cells(**members: Any) -> dict[str, str]:
    [row] = csv.DictReader(io.StringIO(to_csv([members], hides_ours=False)))
    return row


@pytest.mark.parametrize("separator", [",", ";", "\t"])  # what spreadsheets take for one
@given(text=st.text(max_size=20) | st.text("=+-@\uff1d;\t\r\n\"', x", max_size=8))
@example(text="x;=1+1").via("of a country whose spreadsheets have semicolons")
def test_no_cell_of_csv_is_taken_for_a_formula_and_none_is_lost(text: str, separator: str) -> None:
    of_session = {"command": text, "params": {"name": text}, "addresses": [text]}
    cell = cells(**of_session)["command"]
    assert cell.replace("'", "") == text.replace("'", "")
    written = to_csv([of_session], hides_ours=False)
    for row in csv.reader(io.StringIO(written, newline=""), delimiter=separator):
        for cell in row:
            assert not cell.lstrip(' "').startswith(("=", "+", "-", "@", "\uff1d"))


def test_csv_says_each_member_once_and_times_as_people_write_them() -> None:
    names = columns(hides_ours=False)
    assert names == [
        *(name for name in MEMBERS if name != "disconnectTImeout"),
        *("began", "ended", "connectedSeconds", "addresses"),
    ]
    assert "kind" not in columns(hides_ours=True)
    row = cells(began=0, ended=None, started=10**17, clients=0, sharing=True, addresses=["a", "b"])
    assert row["began"] == "1970-01-01 00:00:00" and row["ended"] == ""
    assert row["started"] == "1" + "0" * 17 and row["clients"] == "0"
    assert row["sharing"] == "true" and row["addresses"] == "a b"
