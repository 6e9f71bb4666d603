"""What is kept of questions makes no difference to what they ask."""

from __future__ import annotations

from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from marshmallow import ValidationError as SchemaError

from fastx_list.api.parameters import parse_query_string
from fastx_list.api.request import pairs_of
from fastx_list.errors import ValidationError
from fastx_list.model.query import QuerySchema, describe
from fastx_list.model.spelling import asked_for

_TEXTS = st.sampled_from(["", " 7 ", "007", "true", "maybe", "a==1,2", "==x", "id", "é", "\udcff"])
_SAID = st.lists(
    st.tuples(st.sampled_from([*QuerySchema().fields, "filter[]", "_"]), _TEXTS), max_size=6
)


@given(_SAID)
def test_a_query_string_says_what_the_schema_makes_of_it(said: list[tuple[str, str]]) -> None:
    """Its values are kept one by one."""
    schema = QuerySchema()

    def plainly() -> object:
        try:
            given = [pair for pair in said if pair[1]]
            return schema.load(asked_for(given, frozenset(schema.fields)))
        except SchemaError as error:
            return describe(error)

    def quickly() -> object:
        try:
            return parse_query_string(urlencode(said, errors="surrogateescape").encode())
        except ValidationError as error:
            return str(error.message)

    assert quickly() == plainly()


@pytest.mark.parametrize("text", ["a=1&b=2", "a;b=1&=x&y&z=&q=a=b&&", "&", "="])
def test_what_is_not_encoded_is_read_as_what_is(text: str) -> None:
    pairs = [(name, value or "") for name, value in pairs_of(text.encode()) if name[:1] != ";"]
    assert [pair for pair in pairs if pair != ("", "")] == [
        pair for pair in parse_qsl(text, keep_blank_values=True) if pair != ("", "")
    ]
