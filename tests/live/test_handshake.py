"""Who may connect: what a running sidecar answers before the upgrade."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import jwt
import pytest
from websockets.sync.client import connect

from tests.conftest import session
from tests.live.clients import Observe, follow, head_of_answer, raw_answer, refused, take, upgrade
from tests.support import Service, fetch, standing


@pytest.fixture(scope="module")
def sidecar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One for all tests here, as none of them does it any harm."""
    with standing(tmp_path_factory.mktemp("sidecar")) as service:
        service.start_live()
        yield service
    assert "Traceback" not in service.processes.log("live")


@pytest.fixture
def live(sidecar: Service) -> Service:
    return sidecar


@pytest.fixture
def environ(live: Service) -> dict[str, str]:
    return {"FASTX_LIST_STATE_DIR": str(live.state), "FASTX_LIST_SERVER_ID": "here"}


@pytest.mark.parametrize(
    ("query", "status", "word"),
    [
        ("", 401, "there is none"),
        ("?token=x", 401, "well-formed"),
        ("?token={good}&filter=x", 400, "filter: takes name==value1"),
        ("?token={good}&snapshot=perhaps", 400, "snapshot: takes true or false"),
        ("?token={expired}", 401, "expired"),
        ("?token={good}&filters=clients==0", 400, "filter: is spelt filter=name==value1"),
        ("?token={good}&Filter[]=clients==0", 400, "filter: is spelt filter=name==value1"),
        ("?token={good}&snapshots=0", 400, "snapshot: is spelt snapshot"),
        ("?token={good}&filter=name==Zo%EB", 400, "filter: takes text in UTF-8"),
        ("?token={good}&filter_by=clients==0", 400, "filter: is spelt filter=name==value1"),
        ("?token={good}&bookmark=1", 400, "bookmarks: is spelt bookmarks"),
        ("/{good}?bookmarks%3D1", 400, "bookmarks: is spelt bookmarks"),
        ("?token={good}&filter%3Dclients%3D%3D0", 400, "filter: is spelt filter=name==value1"),
        ("/{good}?filters", 400, "filter: is spelt filter=name==value1"),
        ("?token={good}&%EB=1", 400, "takes names in UTF-8"),
        ("?_=1;filter[]=clients==0&token={good}", 400, "takes & between them"),
        ("/{good}?_=1;%66ilter=clients==0", 400, "takes & between them"),
        ("/{good}?snapshot=1;bookmarks=1", 400, "takes & between them"),
        ("?token={good};filter=clients==0", 400, "takes & between them"),
        ("?token={good};_=1", 400, "takes & between them"),
        ("/{good}?filter=x", 400, "filter: takes name==value1"),
        ("/x", 401, "well-formed"),
    ],
)
def test_it_is_refused_before_the_upgrade(
    live: Service, alice: str, query: str, status: int, word: str
) -> None:
    expired = jwt.encode(
        {"sub": "alice", "aud": "api", "exp": 1}, (live.state / "secret").read_text().strip()
    )
    answer, error = refused(live, query.format(good=alice, expired=expired))
    assert answer == status and word in error["message"]


def test_the_token_may_stand_in_a_header(live: Service, alice: str, observe: Observe) -> None:
    observe(session("a"))
    with connect(
        live.live_url, additional_headers={"Authorization": f"Bearer {alice}"}
    ) as connection:
        assert take(connection)[0] == "a"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("Sec-WebSocket-Protocol", "é"),
        ("Sec-WebSocket-Extensions", "é"),
        ("Host", "x" * 64),
        ("Host", "é"),
        ("Connection", "é, Upgrade"),
    ],
)
def test_a_header_that_is_odd_keeps_nobody_out(
    live: Service, alice: str, observe: Observe, name: str, value: str
) -> None:
    observe(session("a"))
    request = upgrade(live, alice, **{name: value})
    with socket.create_connection(("127.0.0.1", live.live_port), timeout=20) as connection:
        connection.sendall(request)
        assert connection.recv(65536).startswith(b"HTTP/1.1 101")


@pytest.mark.parametrize(
    "address",
    ["/?token={}", "/{}", "/{}/", "/{}?token=", "/{}?limit=&filter=", "/{}?filter&_&token"],
)
def test_the_token_may_stand_in_the_path_and_a_slash_at_the_end_changes_nothing(
    live: Service, alice: str, observe: Observe, address: str
) -> None:
    observe(session("a"))
    with connect(live.live_url + address.format(alice)) as connection:
        assert take(connection)[0] == "a"
    admin = live.token("carol", admin=True)
    everybody = live.live_url.replace("/list", "/admin/session")
    with connect(everybody + address.format(admin)) as connection:
        assert take(connection)[0] == "a"
    assert "eyJ" not in live.processes.log("live")


@pytest.mark.parametrize("name", ["filter", "filter[]", "filter%5B0%5D"])
def test_a_list_of_filters_is_taken_as_libraries_spell_it(
    live: Service, alice: str, observe: Observe, name: str
) -> None:
    observe(session("a", clients=1), session("b", clients=0), session("c", clients=0))
    question = f"&{name}=clients%3D%3D0&{name}=id%3D%3Dc&_=1"
    with follow(live, alice, question) as connection:
        assert take(connection)[0] == "c"


def test_a_body_is_refused_and_not_waited_for(live: Service, alice: str) -> None:
    """What came of it would be taken for frames."""
    for header in ({"Content-Length": "10"}, {"Transfer-Encoding": "chunked"}):
        for kind in (
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=b",
            "application/json",
        ):
            for token in ("", alice):
                request = upgrade(live, token, **header, **{"Content-Type": kind})
                head, message = raw_answer(live, request)
                assert head.startswith("HTTP/1.1 400") and message.startswith("body: ")
    head = head_of_answer(live, upgrade(live, alice, **{"Content-Length": "0"}))
    assert head.startswith("HTTP/1.1 101")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "POST", "DELETE"])
def test_a_handshake_is_a_get(live: Service, alice: str, method: str) -> None:
    request = upgrade(live, alice).replace(b"GET", method.encode(), 1)
    head = head_of_answer(live, request)
    assert head.startswith("HTTP/1.1 405") and "GET" in head.partition("\r\nAllow: ")[2]


@pytest.mark.parametrize(
    ("offers", "answer"),
    [
        ("permessage-deflate; client_max_window_bits", "client_no_context_takeover"),
        (
            "permessage-deflate; x, permessage-deflate; server_max_window_bits=10",
            "client_no_context_takeover; server_max_window_bits=10",
        ),
        (
            "permessage-deflate; server_no_context_takeover",
            "client_no_context_takeover; server_no_context_takeover",
        ),
    ],
)
def test_compression_is_agreed_on_as_it_was_offered(
    live: Service, alice: str, offers: str, answer: str
) -> None:
    request = upgrade(live, alice, **{"Sec-WebSocket-Extensions": offers})
    lines = head_of_answer(live, request).splitlines()
    assert f"Sec-WebSocket-Extensions: permessage-deflate; {answer}" in lines


@pytest.mark.parametrize("offers", [None, "permessage-deflate; server_max_window_bits=1", "\xff;="])
def test_who_offers_no_compression_that_can_be_kept_gets_none(
    live: Service, alice: str, offers: str | None
) -> None:
    headers = {} if offers is None else {"Sec-WebSocket-Extensions": offers}
    head = head_of_answer(live, upgrade(live, alice, **headers))
    assert head.startswith("HTTP/1.1 101") and "extensions" not in head.lower()


def test_a_wrong_handshake_is_refused(live: Service, alice: str) -> None:
    here = f"http://127.0.0.1:{live.live_port}"
    for headers, status, word in (
        ({"Sec-WebSocket-Version": "8"}, 426, "Sec-WebSocket-Version: takes 13"),
        ({"Sec-WebSocket-Version": ""}, 426, "Sec-WebSocket-Version: takes 13"),
        ({"Sec-WebSocket-Key": "short"}, 400, "Sec-WebSocket-Key"),
        ({"Origin": "http://["}, 403, "Origin"),
        ({"Origin": here, "Host": "[x"}, 403, "Origin"),
        ({"Origin": "null"}, 403, "Origin"),
        ({"Origin": "null", "Host": ":80"}, 403, "Origin"),
    ):
        head, message = raw_answer(live, upgrade(live, alice, **headers))
        assert head.startswith(f"HTTP/1.1 {status}") and word in message
        # RFC 6455 section 4.4 and RFC 9110 section 15.5.22: who speaks another version is told
        # which one is understood.
        for header in ("Sec-WebSocket-Version: 13", "Upgrade: websocket", "Connection: upgrade"):
            assert (header in head) == (status == 426)


def test_a_request_without_an_upgrade_is_told_where_it_is(live: Service, alice: str) -> None:
    answer = fetch(f"http://127.0.0.1:{live.live_port}/api/list?token={alice}")
    assert answer.status == 400 and "WebSocket" in answer.json["error"]["message"]
    assert fetch(f"http://127.0.0.1:{live.live_port}/nothing").json["error"]["name"] == "NotFound"
