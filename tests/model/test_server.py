from __future__ import annotations

import json

import pytest

from fastx_list.model.server import Server, encode_server, first_part

# As on the published page.
PUBLISHED = [
    *("serverId", "id", "serverPool", "hostname", "url", "cpu", "freemem", "totalmem"),
    *("loggedInUsers", "sessions", "uptime", "loadavg"),
]


def test_a_server_has_the_published_members_in_their_order_before_ours() -> None:
    members = list(json.loads(encode_server(Server(id="node7", hostname="host"))))
    assert members[: len(PUBLISHED)] == PUBLISHED


def test_a_server_of_which_little_is_known_has_nobody_and_nulls() -> None:
    members = json.loads(encode_server(Server(id="node7", hostname="host")))
    known = {"serverId": "node7", "id": "node7", "hostname": "host"}
    nobody = {"loggedInUsers": 0, "sessions": 0}
    published = {name: members[name] for name in PUBLISHED}
    assert published == {**dict.fromkeys(PUBLISHED), **known, **nobody}


def test_what_was_added_can_be_left_out_byte_for_byte() -> None:
    server = Server(
        *("node7", "höst"),
        cpu=0.1,
        load=(1, 0.25, 3.0),
        problems=("a",),
        version="1.0",
        rights=("b",),
    )
    text = encode_server(server)
    before, added, _ = text.partition(',"version":')
    assert first_part(text) == before + "}" and added


def test_a_server_is_what_it_was_made() -> None:
    with pytest.raises(AttributeError):
        Server(id="node7", hostname="host").id = "other"  # type: ignore[misc]
