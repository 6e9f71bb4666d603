"""What makes an agent wait: impostors of X servers, and file systems that never answer."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.hostile import impostor
from tests.support import Processes, wait_for
from tests.system.sessions import User, free_display

MNT_DETACH = 2
MOUNTED_SECONDS = 150.0  # at the most, so that a test which hangs fails


def interpreter() -> str:
    """Return a Python that any user may run."""
    usual = ("/usr/bin/python3", "/usr/local/bin/python3")
    return next(filter(os.path.exists, usual), os.path.realpath(sys.executable))


def start_impostor(
    processes: Processes,
    user: User,
    *options: str,
    does: str = "",
    name: str = "Xtigervnc",
    **environ: str,
) -> subprocess.Popen[bytes]:
    """Start a process of ``user`` that seems to be an X server, as ``tests.hostile.impostor``
    does."""
    server, script = user.home / name, user.home / "impostor.py"
    if not server.is_symlink():
        server.symlink_to(interpreter())
        shutil.copy(impostor.__file__, script)
    display = free_display()
    log = f"impostor-{display}"
    process = user.start(
        processes,
        [str(server), str(script), f":{display}", *options],
        log,
        IMPOSTOR=does,
        **environ,
    )
    wait_for("the impostor", lambda: processes.log(log).strip())
    if "refused" in processes.log(log):
        pytest.skip(f"this kernel does not let a user be {does}")
    return process


@contextmanager
def silent(directory: Path, owner: User | None = None) -> Iterator[None]:
    """Mount at ``directory`` a file system of ``owner`` that never answers; in the end whoever
    waits for it fails."""
    try:
        kernel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        pytest.skip(f"no file systems in user space here: {error}")
    answering = threading.Lock()

    def give_up() -> None:
        """Close the file system, once: then whoever waits for it fails, also who ignores SIGKILL,
        such as a program that looks up a name that another one looks up already."""
        if answering.acquire(blocking=False):
            os.close(kernel)

    watchdog = threading.Timer(MOUNTED_SECONDS, give_up)
    watchdog.daemon = True
    uid, gid = owner.ids if owner is not None else (0, 0)
    options = f"fd={kernel},rootmode=40000,user_id={uid},group_id={gid},allow_other"
    library = ctypes.CDLL(None, use_errno=True)
    try:
        if library.mount(b"silent", os.fsencode(directory), b"fuse", 0, options.encode()):
            pytest.skip(f"nothing may be mounted here: {os.strerror(ctypes.get_errno())}")
        watchdog.start()
        yield
    finally:
        watchdog.cancel()
        give_up()
        library.umount2(os.fsencode(directory), MNT_DETACH)


def memory(pid: int) -> int:
    """Return the most memory that the process has had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
