"""What looks like a session's server from outside and belongs to no kind, for those who run the
machine: who listens on an X or Wayland socket, or at a port of RFB or RDP (IANA's list of ports).
Login screens are left out."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from fastx_list.agent.holders import Holders
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.rfb import MIRRORS
from fastx_list.agent.sources.other import x_listeners
from fastx_list.agent.sources.plain import is_for_people
from fastx_list.agent.sources.wayland import BRIDGES, COMPOSITORS, RDP_PORT, wayland_listeners

PORTS = {RDP_PORT: "RDP", **dict.fromkeys(range(5900, 6000), "RFB")}
# They serve sessions that others are: RDP's door, and programs that show a display
_KNOWN = {name[:15] for name in ("xrdp", *MIRRORS, *BRIDGES)}  # TASK_COMM_LEN
_COMPOSITORS = {name[:15] for name in COMPOSITORS}


def find_unclaimed(machine: Machine) -> Iterator[str]:
    """Return a text about each such process of our own network; to be called when all sources have
    looked."""
    on_wayland, on_x = wayland_listeners(machine), x_listeners(machine)
    makers = {**on_wayland, **on_x}
    why = dict.fromkeys(on_wayland, "listens on a Wayland socket")
    why |= dict.fromkeys(on_x, "listens on an X socket")
    for port, inodes in machine.own_network.tcp_listeners().items():
        if port in PORTS:
            makers |= inodes
            why |= dict.fromkeys(inodes, f"waits at TCP port {port} ({PORTS[port]})")
    said = set()
    for inode, process in sorted(Holders().find(makers, machine).items()):
        if process.identity in machine.claimed or process.stat.name in _KNOWN:
            continue
        text = (
            f"process {process.pid} ({process.stat.name}) of"
            f" {machine.logins.of(process.uid) or process.uid} {why[inode]} and"
            f" {_what_it_lacks(process)}"
        )
        if text not in said and is_for_people(process, machine):
            said.add(text)
            yield text


def _what_it_lacks(process: Process) -> str:
    if process.stat.name in _COMPOSITORS:
        return "nothing lets viewers in to it"
    return "is of no kind of session that is known"


def explain_unclaimed(machine: Machine) -> None:
    """Say it in the log, to those who want to know all."""
    if logging.getLogger("fastx_list.agent.machine").isEnabledFor(logging.DEBUG):
        for text in find_unclaimed(machine):
            machine.explain(text, "not listed", logging.DEBUG)
