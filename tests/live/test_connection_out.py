"""What a connection sends, to a peer that reads quickly, slowly or not at all."""

from __future__ import annotations

from tests.live.wire import GOING_AWAY, INTERVAL, Wire, fill, messages, text_of


def test_it_sends_what_is_in_the_mailbox_and_waits_for_nothing(wire: Wire) -> None:
    wire.put("s2", b'{"a":1}')
    wire.put("s1", None)
    wire.tell()
    assert messages(wire.reads_all()) == [("s2", {"a": 1}), ("s1", None)]
    assert wire.watching.starts == 0


def test_it_knows_whose_it_is_and_what_it_follows(wire: Wire) -> None:
    assert (wire.connection.claims.login, wire.connection.topic) == ("alice", "alice")


def test_flushing_an_empty_mailbox_sends_nothing(wire: Wire) -> None:
    wire.tell()
    assert wire.reads_all() == []


def test_it_sends_more_frames_than_fit_into_one_write(wire: Wire) -> None:
    for number in range(500):
        wire.put(f"s{number}", b"{}")
    wire.tell()
    assert messages(wire.reads_all()) == [(f"s{number}", {}) for number in range(500)]


def test_it_waits_for_a_full_socket_and_then_goes_on(narrow: Wire) -> None:
    fill(narrow, 20)
    assert narrow.watching.starts == 1
    assert [name for name, _ in messages(narrow.reads_all())] == [
        f"s{number}" for number in range(20)
    ]
    assert narrow.watching.callback is None


def test_it_stops_watching_when_everything_is_out_and_starts_again_when_need_be(
    narrow: Wire,
) -> None:
    for _ in range(3):
        fill(narrow, 20)
        narrow.reads_all()
        assert narrow.watching.callback is None
    assert narrow.watching.starts >= 3
    assert len(narrow.reads_all()) == 60


def test_a_frame_bigger_than_the_socket_holds_arrives(narrow: Wire) -> None:
    narrow.publish("s1", text_of(300_000))
    assert messages(narrow.reads_all()) == [("s1", {"x": "x" * 300_000})]


def test_a_reader_that_reads_nothing_costs_one_frame_a_session(narrow: Wire) -> None:
    for number in range(2000):
        narrow.publish(f"s{number % 100}", text_of(100, number=number))
    sent = messages(narrow.reads_all())
    # What was taken out of the mailbox before the socket was full, and then one newest state of
    # each.
    assert len(sent) < 300
    assert {name: data["number"] for name, data in sent} == {
        f"s{number % 100}": number for number in range(1900, 2000)
    }


def test_what_waits_for_a_slow_reader_is_the_newest_state(narrow: Wire) -> None:
    for state in (1, 2):
        for number in range(500):
            narrow.put(f"s{number}", text_of(100, state=state))
        narrow.tell()
    states = [data["state"] for _, data in messages(narrow.reads_all())]
    assert states.count(2) == 500
    assert states.count(1) < 200  # no more than the socket held and one write was going to take


def test_a_peer_that_has_gone_is_noticed_and_nothing_is_sent_to_it(wire: Wire) -> None:
    wire.peer.close()
    wire.publish("s1", b"{}")
    wire.publish("s2", b"{}")
    wire.let_it_read()
    assert not wire.is_served
    assert wire.watching.callback is None


def test_a_connection_ends_as_soon_as_sending_fails(wire: Wire) -> None:
    wire.peer.close()
    wire.publish("s1", b"{}")
    assert not wire.is_served


def test_a_peer_that_goes_while_it_is_waited_for_is_not_waited_for_any_longer(narrow: Wire) -> None:
    fill(narrow)
    narrow.hangs_up()
    assert not narrow.is_served
    assert narrow.watching.callback is None


def test_nothing_is_sent_on_a_dropped_connection(wire: Wire) -> None:
    wire.connection.drop()
    wire.publish("s1", b"{}")
    wire.tend(INTERVAL)
    wire.connection.close(GOING_AWAY, "")
    wire.let_it_read()
    assert not wire.is_served
    assert wire.reads_all() == []
    assert wire.ended


def test_dropping_twice_does_no_harm(narrow: Wire) -> None:
    fill(narrow)
    narrow.connection.drop()
    narrow.connection.drop()
    narrow.let_it_read()
    assert not narrow.is_served
