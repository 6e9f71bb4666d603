"""Seeming to be somebody else, or to have what is somebody else's."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from fastx_list.agent.process import NOBODY, read_uid
from tests.support import program
from tests.system.sessions import User


@contextmanager
def acting_as(user: User) -> Iterator[None]:
    """Do as ``user`` does."""
    os.seteuid(user.ids[0])
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def su(user: User, name: str, *arguments: str, **environ: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run su(1) by another ``name``, which asks ``user`` for root's password and waits."""
    (user.home / name).symlink_to(program("su", "util-linux"))
    uid, gid = user.ids
    with subprocess.Popen(
        [user.home / name, "root", *arguments],
        user=uid,
        group=gid,
        extra_groups=[],
        env=user.environ(**environ),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as asking:
        try:
            assert asking.stdout is not None and asking.stdout.read(9) == b"Password:"
            assert read_uid(asking.pid) == NOBODY
            yield asking
        finally:
            asking.kill()


def forged_socket(inode: str, path: str) -> socket.socket:
    """Return an abstract socket whose name has a line of ``/proc/net/unix``: of a connection of
    another socket at ``path``."""
    forger = socket.socket(socket.AF_UNIX)
    forger.bind(f"\0\n0: 00000003 00000000 00000000 0001 03 {inode} {path}\n")
    return forger
