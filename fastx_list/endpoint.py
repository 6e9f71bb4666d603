"""Where a service is that is asked over HTTP: at a URL, or at a Unix socket of this machine."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from urllib.parse import urlsplit

_UCRED = struct.Struct("iII")  # pid, uid and gid: unix(7)
PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}


class Endpoint:
    """A URL that can be connected to."""

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        """``url`` is https://HOST, http://HOST or unix:/PATH. ``context`` says whose certificates
        count; without it those that this machine trusts do.

        Raises ``ValueError`` for a URL of another kind.
        """
        parts = urlsplit(url)
        # The path of its socket, if it is one
        self.socket = parts.path if parts.scheme == "unix" else None
        # What the header Host says
        self.host = "localhost" if self.socket else parts.netloc.rpartition("@")[2]
        # What stands in front of each address
        self.prefix = "" if self.socket else parts.path.rstrip("/")
        # Where it is for the network, and whether it speaks TLS
        self.address = (parts.hostname or "", parts.port or PORTS.get(parts.scheme, 0))
        self._is_tls, self._context = parts.scheme in ("https", "wss"), context
        is_one = parts.scheme in PORTS and self.address[0] and re.fullmatch("[!-~]+", url)
        if not self.socket and not is_one:
            raise ValueError(f"takes https://HOST, http://HOST:PORT or unix:/PATH, not {url!r}")

    def connect(self, seconds: float) -> socket.socket:
        """Return a connection on which each wait takes so long at most. Raises ``OSError``, also if
        a socket is held by another user than root and us: anybody might have put it there."""
        if self.socket:
            sock = socket.socket(socket.AF_UNIX)
        else:
            sock = socket.create_connection(self.address, seconds)
        try:
            sock.settimeout(seconds)
            if self.socket:
                sock.connect(self.socket)
                if peer_uid(sock) not in (0, os.geteuid()):
                    raise PermissionError(0, f"{self.socket} is held by another user, not by root")
            elif self._is_tls:
                context = self._context or ssl.create_default_context()
                return context.wrap_socket(sock, server_hostname=self.address[0])
        except BaseException:
            sock.close()
            raise
        return sock


def peer_uid(sock: socket.socket) -> int:
    """Return which user the other process had when it connected to this Unix socket or, on the
    side of who connects, when it began to listen: SO_PEERCRED of unix(7). What that process does
    later, and to whom it gives its end, changes nothing."""
    uid: int = _UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))[1]
    return uid
