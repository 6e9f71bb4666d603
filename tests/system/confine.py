"""``python confine.py FD CALLS COMMAND…`` runs ``COMMAND`` as systemd runs a service of
docs/deploy/systemd.

That is: with the socket ``FD`` handed over (sd_listen_fds(3); none if it is empty), with no system
calls but ``CALLS``, and with no memory that can be both written and run (systemd.exec(5)). What
systemd does with namespaces is left out.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import subprocess
import sys
from collections.abc import Iterable

FIRST_SOCKET = 3  # SD_LISTEN_FDS_START
ALLOW, FAIL = 0x7FFF0000, 0x00050000 | errno.EPERM  # seccomp_init(3)
MASKED_EQ = 7  # SCMP_CMP_MASKED_EQ
PROT_WRITE, PROT_EXEC = 2, 4
PR_SET_NO_NEW_PRIVS = 38


class Compare(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def allowed_calls(filters: Iterable[str]) -> list[str]:
    """Return the system calls that the values of ``SystemCallFilter=`` in a unit let through."""
    allowed = _members("@default")
    for line in filters:
        named = set().union(*map(_members, line.removeprefix("~").split()))
        allowed = allowed - named if line.startswith("~") else allowed | named
    return sorted(allowed | _members("@default"))


def _members(name: str) -> set[str]:
    if not name.startswith("@"):
        return {name}
    listed = subprocess.run(
        ["systemd-analyze", "syscall-filter", name], check=True, capture_output=True, text=True
    ).stdout
    return set().union(*map(_members, re.findall(r"^    ([@\w-]+)$", listed, re.MULTILINE)))


def confine(calls: Iterable[str]) -> None:
    """Let this process, and what it becomes, make no other system calls."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(FAIL))

    def without(protection: int) -> ctypes.Array[Compare]:
        return (Compare * 1)(Compare(2, MASKED_EQ, protection, 0))

    conditions = {
        "mmap": [without(PROT_WRITE), without(PROT_EXEC)],
        "mprotect": [without(PROT_EXEC)],
        "pkey_mprotect": [without(PROT_EXEC)],
    }
    for call in calls:
        number = library.seccomp_syscall_resolve_name(call.encode())
        for condition in conditions.get(call, [None]) if number >= 0 else []:
            library.seccomp_rule_add_array(
                context, ALLOW, number, 0 if condition is None else 1, condition
            )
    if ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or library.seccomp_load(context):
        sys.exit("the system calls cannot be restricted")


if __name__ == "__main__":
    _, handed, calls, *command = sys.argv
    if handed:
        os.dup2(int(handed), FIRST_SOCKET)
        os.set_inheritable(FIRST_SOCKET, True)
        os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
    confine(calls.split(","))
    os.execvp(command[0], command)
