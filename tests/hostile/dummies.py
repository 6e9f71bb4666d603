"""Many processes that seem to be X servers, started by a hostile user; it needs nothing but Python.

Its arguments: what they do, how many they are, and the display of the first one, as ``:00061``.
Each one does as one of these says:

``quiet``   answers as an X server does, and says nothing more;
``flood``   sends events without end after that;
``deaf``    does not answer;
``shared``  has the same socket as all the others, at the same display, and does not answer.
"""

from __future__ import annotations

import ctypes
import gc
import os
import select
import signal
import socket
import struct
import sys

NAME = b"Xvnc"
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
ROOT = 77
SETUP = (
    struct.pack("<BxHHH", 1, 11, 0, 18)
    + struct.pack("<IIIIHHBB10x", 1, 2, 3, 4, 0, 65535, 1, 0)
    + struct.pack("<IIIIIHH16x", ROOT, 1, 2, 3, 4, 640, 480)
)
EVENT = struct.pack("<BxHIIhhHHHBx4x", 22, 1, ROOT, ROOT, 0, 0, 641, 481, 0, 0)


def listen(display: int) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"/tmp/.X11-unix/X{display}")
    listener.listen(4096)
    return listener


def rename(display: int) -> None:
    """Let proc(5) show this process as an X server of ``display``."""
    library = ctypes.CDLL(None)
    library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    library.prctl(PR_SET_NAME, NAME)
    with open("/proc/self/stat", "rb") as file:
        fields = file.read().rpartition(b") ")[2].split()
    end = int(fields[46])  # of the arguments, the last of which is the display
    text = b":%05d" % display
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(end - 1 - len(text))
        memory.write(text)


def serve(listener: socket.socket, floods: bool) -> None:
    clients = []
    while True:
        if not floods:
            select.select([listener], [], [])
        client, _ = listener.accept()
        try:
            client.sendall(SETUP)
            while floods:
                client.sendall(EVENT * 2000)
        except OSError:
            client.close()
        else:
            clients.append(client)


def main() -> None:
    kind, count, first = sys.argv[-3], int(sys.argv[-2]), int(sys.argv[-1][1:])
    listener = listen(first) if kind == "shared" else None
    ready, told = os.pipe()
    gc.freeze()
    for number in range(count):
        if os.fork() == 0:
            display = first if kind == "shared" else first + number
            rename(display)
            mine = listener or listen(display)
            os.write(told, b".")
            if kind in ("quiet", "flood"):
                serve(mine, kind == "flood")
            signal.pause()
    for _ in range(count):
        os.read(ready, 1)
    print("ready", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
