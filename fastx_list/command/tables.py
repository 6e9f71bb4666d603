"""Sessions and servers as tables for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from fastx_list.text import ago, duration, printable, size, state

Members = Mapping[str, Any]  # of one session or server, as the API has them


def session_table(sessions: Sequence[Members], with_login: bool) -> Table:
    """Return a table of ``sessions`` in their order; ``with_login`` says whose each is."""
    rows = []
    for members in sessions:
        where = "" if members["display"] is None else f":{members['display']}"
        rows.append(
            (
                members["params"].get("name") or members["command"],
                *([members["login"]] if with_login else []),
                f"{members['hostname']}{where}",
                state(members),
                ago(members["started"]),
                members["geometry"],
            )
        )
    return _table(
        ("SESSION", *(["LOGIN"] if with_login else []), "DISPLAY", "STATE", "STARTED", "GEOMETRY"),
        rows,
    )


def server_table(servers: Sequence[Members]) -> Table:
    """Return a table of ``servers`` in their order."""
    rows = []
    for members in servers:
        free, total = members["freemem"], members["totalmem"]
        rows.append(
            (
                members["serverId"],
                members["hostname"],
                members["serverPool"],
                None if members["cpu"] is None else f"{members['cpu']:.0f} %",
                None if free is None or total is None else f"{size(total - free)} of {size(total)}",
                members["sessions"],
                members["loggedInUsers"],
                (
                    None
                    if members["loadavg"] is None
                    else " ".join(f"{load:.2f}" for load in members["loadavg"])
                ),
                duration(members["uptime"]),
            )
        )
    return _table(
        ("SERVER", "HOST", "POOL", "CPU", "MEMORY", "SESSIONS", "LOGINS", "LOAD", "UP"), rows
    )


def _table(headings: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in headings:
        table.add_column(heading, no_wrap=heading != "SESSION", overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(cell)) for cell in row))
    return table
