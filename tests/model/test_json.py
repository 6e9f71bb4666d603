from __future__ import annotations

import pytest

from fastx_list.model.json import from_json, to_json


def test_what_is_written_is_read_again() -> None:
    value = {"a": [1, 2.5, None, True, "ü"], "b": {}}
    assert from_json(to_json(value)) == value
    assert from_json(to_json(value).encode()) == value


@pytest.mark.parametrize("name", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have_is_neither_written_nor_read(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is no JSON number$"):
        from_json(f'{{"a": [{name}]}}')
    with pytest.raises(ValueError):
        to_json([float(name)])
