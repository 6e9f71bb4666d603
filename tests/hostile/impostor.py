"""A program that a hostile user runs by the name of an X server: it needs nothing but Python.

``IMPOSTOR`` in its environment says what it does besides: ``lease`` keeps a write lease on its
authority file, ``huge`` gives it a command line and an environment of 256 MiB each. It listens at
its display, says ``ready``, and sleeps.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import sys

SIZE = 256 << 20
PR_SET_MM, PR_SET_MM_MAP = 35, 14
F_SETLEASE = 1024


class Map(ctypes.Structure):
    """struct prctl_mm_map."""

    _fields_ = [
        *(
            (name, ctypes.c_uint64)
            for name in (
                *("start_code", "end_code", "start_data", "end_data", "start_brk", "brk"),
                *("start_stack", "arg_start", "arg_end", "env_start", "env_end", "auxv"),
            )
        ),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


def make_huge() -> bool:
    """Let the kernel show ``2 * SIZE`` bytes of nothing behind our command line; return whether it
    does."""
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = library.sbrk.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    start = library.mmap(None, 2 * SIZE, 3, 0x22, -1, 0)  # private, anonymous
    with open("/proc/self/cmdline", "rb") as file:
        args = file.read()
    ctypes.memmove(start, args, len(args))
    with open("/proc/self/stat", encoding="ascii") as file:
        fields = [
            0,
            0,
            0,
            *map(_number, file.read().rpartition(")")[2].split()),
        ]  # as proc(5) has them
    new = Map(
        *(fields[number] for number in (26, 27, 45, 46, 47)),
        *(library.sbrk(0), fields[28]),
        *(start, start + SIZE, start + SIZE, start + 2 * SIZE, 0, 0, 0xFFFFFFFF),
    )
    size = ctypes.c_ulong(ctypes.sizeof(new))
    done: int = library.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.byref(new), size, 0)
    return done == 0


def _number(field: str) -> int:
    return int(field) if field.isdigit() else 0


def main() -> None:
    does = os.environ.get("IMPOSTOR", "").split()
    display = next(arg for arg in sys.argv if arg.startswith(":"))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"/tmp/.X11-unix/X{display[1:]}")
        listener.listen()
        if "lease" in does:
            signal.signal(signal.SIGIO, signal.SIG_IGN)  # somebody waits for it to be given up
            path = sys.argv[sys.argv.index("-auth") + 1]
            lease = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.fcntl(lease, F_SETLEASE, fcntl.F_WRLCK)
        ready = make_huge() if "huge" in does else True
        print("ready" if ready else "refused", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
