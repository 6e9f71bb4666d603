from __future__ import annotations

import socket
from contextlib import ExitStack

import pytest

from fastx_list.agent.diag import Diag
from fastx_list.agent.diag_ports import MAX_RANGES, only_at, ranges


def test_each_port_is_a_range_while_there_are_few() -> None:
    assert ranges([7, 5, 5, 9], 3) == [(5, 5), (7, 7), (9, 9)]
    assert ranges([], 3) == []


def test_of_many_ports_those_that_are_nearest_share_a_range() -> None:
    assert ranges([1, 2, 90, 93, 300], 3) == [(1, 2), (90, 93), (300, 300)]
    assert ranges(range(0, 60_000, 7), 1) == [(0, 59_997)]
    assert len(only_at(range(0, 60_000, 7))) == len(only_at(range(MAX_RANGES)))


@pytest.mark.parametrize("more", [0, 5, 3000], ids=["few", "some", "very many"])
def test_the_kernel_tells_of_the_connections_at_the_ports_that_are_asked_for(more: int) -> None:
    with ExitStack() as stack:
        ports = []
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")) * 2:
            server = stack.enter_context(socket.create_server((host, 0), family=family))
            client = stack.enter_context(socket.socket(family))
            client.connect(server.getsockname())
            stack.enter_context(server.accept()[0])
            ports.append(server.getsockname()[1])
        others = range(1, 1 + more)
        with Diag() as diag:
            for asked in (ports, ports[:1], ports[1:], ports[::3]):
                told = [port for _, port, *_ in diag.tcp_at([*asked, *others])]
                assert {*asked} <= {*told} <= {*asked, *others, *(ports if more > 60 else ())}
                assert len(told) == len({*told})
            assert diag.tcp_at([1]) == []
            assert {*ports} <= {port for _, port, *_ in diag.tcp_listening()}
            every = [port for _, port, *_ in diag.tcp() if port in ports]
            assert sorted(every) == sorted(ports * 2)
