"""What looks like a session's server from outside and belongs to no kind, for those who run the
machine: who listens on an X socket, or at a port of RFB or RDP (IANA's list of ports)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from fastx_list.agent.holders import Holders
from fastx_list.agent.machine import Machine
from fastx_list.agent.rfb import MIRRORS
from fastx_list.agent.sources.other import x_listeners

PORTS = {3389: "RDP", **dict.fromkeys(range(5900, 6000), "RFB")}
# They serve sessions that others are: RDP's door, and programs that show a display
_KNOWN = {"xrdp", *MIRRORS}


def find_unclaimed(machine: Machine) -> Iterator[str]:
    """Return a text about each such process of our own network; to be called when all sources have
    looked."""
    makers = dict(x_listeners(machine))
    why = dict.fromkeys(makers, "listens on an X socket")
    for port, inodes in machine.own_network.tcp_listeners().items():
        if port in PORTS:
            makers |= inodes
            why |= dict.fromkeys(inodes, f"waits at TCP port {port} ({PORTS[port]})")
    said = set()
    for inode, process in sorted(Holders().find(makers, machine).items()):
        text = (
            f"process {process.pid} ({process.stat.name}) of"
            f" {machine.logins.of(process.uid) or process.uid} {why[inode]} and is of no kind of"
            " session that is known"
        )
        if (
            process.identity not in machine.claimed
            and process.stat.name not in _KNOWN
            and text not in said
        ):
            said.add(text)
            yield text


def explain_unclaimed(machine: Machine) -> None:
    """Say it in the log, to those who want to know all."""
    if logging.getLogger("fastx_list.agent.machine").isEnabledFor(logging.DEBUG):
        for text in find_unclaimed(machine):
            machine.explain(text, "not listed", logging.DEBUG)
