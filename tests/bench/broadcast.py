"""What the live benchmarks compare with: a server that does nothing but ``websockets.broadcast``.

``python -m tests.bench.broadcast PORT deflate|none``. Who connects to ``/LOGIN`` gets what comes in
on ``/publish`` as ``LOGIN``, a newline and the message.
"""

from __future__ import annotations

import asyncio
import sys

from websockets.asyncio.server import ServerConnection, broadcast, serve


async def main(port: int, compression: str | None) -> None:
    logins: dict[str, set[ServerConnection]] = {}

    async def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        path = connection.request.path
        if path == "/publish":
            async for message in connection:
                login, _, text = str(message).partition("\n")
                broadcast(logins.get(login, ()), text)
            return
        subscribers = logins.setdefault(path[1:], set())
        subscribers.add(connection)
        try:
            await connection.wait_closed()
        finally:
            subscribers.discard(connection)

    async with serve(handle, "127.0.0.1", port, compression=compression, backlog=4096) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), None if sys.argv[2] == "none" else sys.argv[2]))
