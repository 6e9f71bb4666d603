"""What makes an agent wait: impostors of X servers, and file systems that never answer."""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import struct
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
FUSE_INIT, FUSE_READ_BYTES = 26, 1 << 20
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
def silent(directory: Path, owner: User | None = None, listens: bool = False) -> Iterator[None]:
    """Mount at ``directory`` a file system of ``owner`` that never answers; in the end whoever
    waits for it fails. One that ``listens`` takes requests: who waits for it cannot be killed."""
    try:
        kernel = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        pytest.skip(f"no file systems in user space here: {error}")
    answering = threading.Lock()
    is_over = threading.Event()
    listener = threading.Thread(target=_listen, args=(kernel, is_over), daemon=True)

    def give_up() -> None:
        """Close the file system, once: then whoever waits for it fails, also who ignores SIGKILL,
        such as a program that looks up a name that another one looks up already."""
        if answering.acquire(blocking=False):
            is_over.set()
            if listener.ident:
                listener.join()
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
        if listens:
            listener.start()
        yield
    finally:
        watchdog.cancel()
        give_up()
        library.umount2(os.fsencode(directory), MNT_DETACH)


def _listen(kernel: int, is_over: threading.Event) -> None:
    """Read what is asked of a file system, and answer nothing but the first request, with which
    the kernel introduces itself (linux/fuse.h)."""
    poller = select.poll()
    poller.register(kernel, select.POLLIN)
    while not is_over.is_set():
        if poller.poll(50):
            request = os.read(kernel, FUSE_READ_BYTES)
            operation, unique = struct.unpack_from("=4xIQ", request)
            if operation == FUSE_INIT:
                major, minor = struct.unpack_from("=40xII", request)
                told = struct.pack("=IIIIHHIIHHI28x", major, minor, 0, 0, 12, 9, 65536, 1, 0, 0, 0)
                os.write(kernel, struct.pack("=IiQ", 16 + len(told), 0, unique) + told)


def memory(pid: int) -> int:
    """Return the most memory that the process has had, in bytes."""
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        [line] = [line for line in file if line.startswith("VmHWM:")]
    return int(line.split()[1]) * 1024
