"""The size of an X server's screen, as it is now, asked of the server itself.

This speaks the X11 protocol (https://www.x.org/releases/current/doc/xproto/x11protocol.html) for
five things: the connection's setup (section 8), one request for events about the root window
(section 9, ChangeWindowAttributes), one for its size (GetGeometry), since that may have changed
between the two, and the events that tell its size (section 11, ConfigureNotify). A library would
wait for the server; a server that hangs must not stop the agent, so nothing here waits.

Two dangers shape the rest. A server may be set to end when its last client leaves, so ours must
never be the last: see :meth:`DisplayWatch.close`. And a server's command line is its owner's
choice, so an authority file only counts if it belongs to that owner, and its cookie only goes to a
server of that owner.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from fastx_list.agent.door import Unanswered, ask
from fastx_list.agent.files import FileDenied, FileError, read_owned
from fastx_list.agent.idle import IDLE_SECONDS, Idle

MAX_AUTHORITY_BYTES = 256 * 1024
# That a server may send between two looks. An X server's setup is a few KiB, and an event that we
# asked for comes when somebody changes the screen.
MAX_BYTES = 64 * 1024
FIRST_PORT = 6000  # X(7): TCP, of display 0
_COOKIE = b"MIT-MAGIC-COOKIE-1"
_FAMILY_LOCAL, _FAMILY_WILD = 256, 65535  # Xauth.h
_STRUCTURE_NOTIFY = 1 << 17
_CONFIGURE_NOTIFY = 22
_ASKED_SIZE = 2  # the number of the request for the size
_UCRED = struct.Struct("3i")


class X11Error(Exception):
    """The server cannot be asked; the message says why."""


class Denied(X11Error):
    """We are not allowed what asking takes."""


class Flood(X11Error):
    """The server sends more than is ours to read."""


@dataclass(frozen=True)
class Cookie:
    """One entry of an authority file."""

    family: int
    address: bytes
    display: bytes
    name: bytes
    data: bytes


def parse_authority(data: bytes) -> list[Cookie]:
    """Return the entries of an authority file (Xsecurity(7), libXau's AuFileName); raises
    ``ValueError`` if it is none."""
    entries, position = [], 0

    def field() -> bytes:
        nonlocal position
        (length,) = struct.unpack_from(">H", data, position)
        value = data[position + 2 : position + 2 + length]
        if len(value) != length:
            raise ValueError("it is cut off")
        position += 2 + length
        return value

    try:
        while position < len(data):
            (family,) = struct.unpack_from(">H", data, position)
            position += 2
            entries.append(Cookie(family, field(), field(), field(), field()))
    except struct.error:
        raise ValueError("it is cut off") from None
    return entries


def find_cookie(entries: list[Cookie], hostname: str, display: int) -> bytes | None:
    """Return the cookie for ``display`` on this host, as libXau's XauGetBestAuthByAddr picks it."""
    for entry in entries:
        here = entry.family == _FAMILY_WILD or (
            entry.family == _FAMILY_LOCAL and entry.address == hostname.encode()
        )
        if here and entry.display in (b"", str(display).encode()) and entry.name == _COOKIE:
            return entry.data
    # A host that was renamed since has cookies under its old name, and only its local ones can be
    # meant.
    for entry in entries:
        if (
            entry.family == _FAMILY_LOCAL
            and entry.display == str(display).encode()
            and entry.name == _COOKIE
        ):
            return entry.data
    return None


def read_authority(path: str, owner: int) -> list[Cookie]:
    """Return the entries of the authority file at ``path``, which has to belong to the user
    ``owner``.

    Raises :class:`Denied` if we may not read it, :class:`X11Error` if it is nothing to read.
    """
    try:
        return parse_authority(read_owned(path, owner, MAX_AUTHORITY_BYTES))
    except FileDenied as error:
        raise Denied(f"its authority file {error}") from None
    except FileError as error:
        raise X11Error(f"its authority file {error}") from None
    except ValueError as error:
        raise X11Error(f"its authority file {path!r} is not well-formed: {error}") from None


def setup_request(cookie: bytes | None) -> bytes:
    """Return the bytes that open a connection, in little-endian order."""
    name, data = (_COOKIE, cookie) if cookie else (b"", b"")
    return (
        struct.pack("<BxHHHHxx", 0x6C, 11, 0, len(name), len(data)) + _padded(name) + _padded(data)
    )


class ScreenSize:
    """Follows the size of the first screen through the bytes that a server sends. Does no input or
    output, and keeps at most a few hundred bytes, whatever comes."""

    def __init__(self, idle_seconds: float = IDLE_SECONDS) -> None:
        """``idle_seconds`` are those of :class:`fastx_list.agent.idle.Idle`."""
        # Width and height in pixels; None until the server has told.
        self.size: tuple[int, int] | None = None
        # What was received and is not taken yet: less than is needed.
        self._rest = b""
        # How many bytes to pass over, how many are needed then, and what takes them and returns
        # what is to be sent.
        self._skip, self._need, self._take = 0, 8, self._take_answer
        # The root window's id, and how much of the setup lies behind the first bytes of its answer.
        self._root = 0
        # Its input. Two requests come before.
        self.idle = Idle(_ASKED_SIZE, idle_seconds)
        self._setup_bytes = 0

    def receive(self, data: bytes) -> bytes:
        """Take what the server sent; return what is to be sent to it.

        Raises :class:`X11Error` if the server refuses us or does not speak X11.
        """
        data, position, answer = self._rest + data, 0, b""
        while True:
            skipped = min(self._skip, len(data) - position)
            position, self._skip = position + skipped, self._skip - skipped
            end = position + self._need
            if self._skip or end > len(data):
                self._rest = data[position:]
                return answer
            answer += self._take(data[position:end])
            position = end

    def request(self) -> bytes:
        """Return what is to be sent besides."""
        return self.idle.request(self._root) if self.size is not None else b""

    def _take_answer(self, data: bytes) -> bytes:
        status, reason_bytes, units = struct.unpack("<BBxxxxH", data)
        self._setup_bytes = 4 * units
        if status == 1:
            self._need, self._take = 32, self._take_counts
        else:
            self._need, self._take = min(reason_bytes, self._setup_bytes), self._take_reason
        return b""

    def _take_reason(self, data: bytes) -> bytes:
        reason = data.decode("latin-1").strip()
        raise Denied(f"it refuses us: {reason if reason.isprintable() else 'no reason given'}")

    def _take_counts(self, data: bytes) -> bytes:
        vendor_bytes, screens, formats = struct.unpack("<16xHxxBB10x", data)
        self._skip = (vendor_bytes + 3) // 4 * 4 + 8 * formats
        self._setup_bytes -= 32 + self._skip + 24
        if not screens or self._setup_bytes < 0:
            raise X11Error("it does not speak X11")
        self._need, self._take = 24, self._take_screen
        return b""

    def _take_screen(self, data: bytes) -> bytes:
        self._root, width, height = struct.unpack("<I16xHH", data)
        if not width or not height:
            raise X11Error("it does not speak X11")
        self.size = (width, height)
        self._skip, self._need, self._take = self._setup_bytes, 32, self._take_event
        # ChangeWindowAttributes of the root window: its event mask for this client becomes
        # StructureNotify. Then GetGeometry
        return struct.pack("<BxHIII", 2, 4, self._root, 1 << 11, _STRUCTURE_NOTIFY) + struct.pack(
            "<BxHI", 14, 2, self._root
        )

    def _take_event(self, data: bytes) -> bytes:
        kind = data[0] & 0x7F
        if kind in (1, 35):  # a reply or a generic event, of which more follows
            self._skip = 4 * int.from_bytes(data[4:8], "little")
            window, width, height = struct.unpack("<8xI4xHH12x", data)
            is_size = kind == 1 and not self.idle.take(data) and window == self._root
            if is_size and width and height:
                self.size = (width, height)
        elif kind == 0:
            self.idle.take(data)
        elif kind == _CONFIGURE_NOTIFY:
            window, width, height = struct.unpack("<8xI8xHH8x", data)
            if window == self._root and width and height:
                self.size = (width, height)
        return b""


class DisplayWatch:
    """A connection to one X server that follows the size of its screen and never waits for it."""

    def __init__(
        self,
        display: int,
        addresses: Sequence[str],
        is_server: Callable[[int], bool],
        owner: int,
        authority: str | None,
        hostname: str,
        idle_seconds: float = IDLE_SECONDS,
    ) -> None:
        """Connect to the server of ``display`` at the first of ``addresses`` at which a process
        listens that ``is_server``, by its pid, and whose user is ``owner``. An abstract address
        begins with a zero character. Raises :class:`X11Error`."""
        # What the bytes mean.
        self._screen = ScreenSize(idle_seconds)
        self._socket = _connect(addresses, is_server, owner)
        # What the server has not taken yet.
        self._unsent = b""
        # How many bytes more it may send before the next look.
        self._room = MAX_BYTES
        try:
            cookie = (
                None
                if authority is None
                else find_cookie(read_authority(authority, owner), hostname, display)
            )
            self._unsent = setup_request(cookie)
            self.poll()
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in pixels as far as the server has told; ``None`` until it has."""
        return self._screen.size

    @property
    def idle(self) -> Idle:
        """What the server tells of its input."""
        return self._screen.idle

    def poll(self) -> None:
        """Take what the server has sent since the last look and send what is owed, without waiting.
        Raises :class:`X11Error`; :class:`Flood` if it is too much."""
        self._room = MAX_BYTES
        request = self._screen.request()
        self.poll_again()
        self._unsent += request
        self._flush()

    def poll_again(self) -> None:
        """Do the same once more in the same look."""
        try:
            self._flush()
            data = self._socket.recv(self._room)
            if not data:
                raise X11Error("it has closed the connection")
            self._room -= len(data)
            if not self._room:
                raise Flood("it sends more than an X server would")
            self._unsent += self._screen.receive(data)
            self._flush()
        except BlockingIOError:
            return
        except OSError as error:
            raise X11Error(f"the connection to it broke: {error.strerror or error}") from None

    def _flush(self) -> None:
        try:
            while self._unsent:
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        except BlockingIOError:
            return
        except OSError as error:
            raise X11Error(f"the connection to it broke: {error.strerror or error}") from None

    def close(self) -> None:
        """Leave. To be called as soon as ours is the last client, for the server may end itself
        only then."""
        self._socket.close()


def socket_path(display: int) -> str:
    """Return the path of the unix socket that the server of ``display`` listens on."""
    return f"/tmp/.X11-unix/X{display}"


def _connect(
    addresses: Sequence[str], is_server: Callable[[int], bool], owner: int
) -> socket.socket:
    last: OSError | None = None
    stranger = False
    for address in addresses:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        connection.setblocking(False)
        try:
            if address.startswith("\0"):
                connection.connect(address)
            else:  # its directory may be on a file system that hangs
                ask(owner, f"the socket {address!r}", partial(connection.connect, address))
            # Who listens, as the kernel noted when it began to
            pid, uid, _ = _UCRED.unpack(
                connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
            )
            if uid == owner and is_server(pid):
                return connection
            stranger = True
        except OSError as error:
            last = error
        except Unanswered:
            last = TimeoutError(errno.ETIMEDOUT, "its file system does not answer")
        connection.close()
    if stranger or last is None:
        raise X11Error("its socket belongs to another process")
    if last.errno in (errno.EACCES, errno.EPERM):
        raise Denied("its socket may not be opened")
    raise X11Error(f"its socket does not answer: {last.strerror}")


def _padded(data: bytes) -> bytes:
    return data + b"\0" * (-len(data) % 4)
