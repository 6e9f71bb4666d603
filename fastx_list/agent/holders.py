"""The way from a socket to the program behind it, whatever that calls itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from fastx_list.agent.door import Unanswered
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process, by_age
from fastx_list.agent.subordinates import payer

AGAIN_LOOKS = 10  # after so many looks a socket whose holder was not found is looked for again


class _Search(NamedTuple):
    """One that takes more than one look, since there is not so much time for what is a user's."""

    inodes: set[int]  # of which nobody was found yet
    asked: set[str]  # the identities of the processes that have none of them


class Holders:
    """Finds the processes that have sockets open, each once."""

    def __init__(self, likely: Collection[str] = ()) -> None:
        """Programs whose names begin with one of ``likely`` are asked first."""
        self._likely = tuple(likely)
        # By inode: who has it, and until that is found in how many looks nobody is asked.
        self._found: dict[int, Process | int] = {}
        # Those that go on, by user.
        self._searches: dict[int, _Search] = {}

    def find(self, listeners: Mapping[int, int | None], machine: Machine) -> dict[int, Process]:
        """Return who has each of ``listeners`` open, which are sockets of our own network, with the
        users who made them: a process of that user alone. Of no user more sockets are looked at
        than may serve sessions. A socket without a maker, and one that cannot be found now, is left
        out."""
        found: dict[int, Process] = {}
        known, self._found = self._found, {}
        by_user: dict[int, list[int]] = {}
        for inode, uid in listeners.items():
            if uid is not None:
                by_user.setdefault(uid, []).append(inode)
        for uid, inodes in by_user.items():
            most, new = 2 * machine.limits.sessions, set[int]()
            if len(inodes) > most:
                machine.limits.over.add(payer(uid))
            for inode in sorted(inodes)[:most]:
                before = known.get(inode, 0)
                holder = self._as_now(before, machine) if isinstance(before, Process) else None
                if holder is not None:
                    found[inode] = self._found[inode] = holder
                elif isinstance(before, int) and before > 0:
                    self._found[inode] = before - 1
                else:
                    new.add(inode)
            if new and payer(uid) not in machine.limits.left_out:
                self._seek(new, uid, machine)
                found |= {
                    inode: sought
                    for inode in new
                    if isinstance(sought := self._found.get(inode), Process)
                }
        return found

    def _as_now(self, holder: Process, machine: Machine) -> Process | None:
        process = machine.processes.get(holder.pid)
        if process is holder:
            return holder
        return process if process is not None and process.identity == holder.identity else None

    def _seek(self, inodes: set[int], uid: int, machine: Machine) -> None:
        theirs = {each.pid: each for each in machine.processes.values() if each.uid == uid}
        likely = self._likely

        def holds(process: Process, sought: Collection[int]) -> frozenset[int]:
            return machine.own_listeners(process, dict.fromkeys(sought, uid)) or frozenset()

        left, asked = self._searches.pop(uid, _Search(set(), set()))
        left &= inodes
        if not left:
            left, asked = set(inodes), set()
        youngest = sorted(theirs.values(), key=by_age, reverse=True)
        for process in sorted(youngest, key=lambda each: not each.stat.name.startswith(likely)):
            if not left:
                break
            if process.identity in asked:
                continue
            try:
                with machine.limits.spending(process.payer):
                    held = holds(process, left)
                    for inode in held:
                        holder = process
                        # Who has started a program may have it open as well, and serves then
                        while (above := theirs.get(holder.stat.parent)) and holds(above, {inode}):
                            holder = above
                        self._found[inode] = holder
            except Unanswered:
                self._searches[uid] = _Search(left, asked)
                return
            asked.add(process.identity)
            left -= held
        self._found.update(dict.fromkeys(left, AGAIN_LOOKS))
