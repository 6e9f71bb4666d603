"""Sessions and servers as tables for a terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from operator import itemgetter, methodcaller
from typing import Any

from rich.table import Table
from rich.text import Text

from fastx_list.model.member import declared
from fastx_list.model.past import Course
from fastx_list.model.server import Server
from fastx_list.model.session import COLUMNS
from fastx_list.text import ago, duration, printable, size, state

Members = Mapping[str, Any]  # of one session or server, as the API has them
Cells = Mapping[str, Callable[[Members], object]]  # by column: what stands there


def session_table(sessions: Iterable[Members], with_login: bool) -> Table:
    """Return a table of ``sessions`` in their order; ``with_login`` says whose each is."""
    cells = {name: cell for name, cell in _OF_A_SESSION.items() if with_login or name != "login"}
    return _table(cells, COLUMNS, sessions)


def past_table(sessions: Iterable[Members], with_login: bool) -> Table:
    """Return a table of ``sessions`` of the history in their order; likewise."""
    cells = {name: cell for name, cell in _OF_THE_PAST.items() if with_login or name != "login"}
    labels = {each.member.name: each.member.label for each in declared(Course)}
    return _table(cells, COLUMNS | labels, sessions)


def server_table(servers: Iterable[Members]) -> Table:
    """Return a table of ``servers`` in their order."""
    labels = {each.member.name: each.member.label for each in declared(Server)}
    return _table(_OF_A_SERVER, labels, servers)


def _table(cells: Cells, headings: Mapping[str, str], rows: Iterable[Members]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for name in cells:
        table.add_column(headings[name].upper(), no_wrap=name != "name", overflow="fold")
    for members in rows:
        table.add_row(*(Text(printable(cell(members))) for cell in cells.values()))
    return table


def _name(session: Members) -> object:
    return session["params"].get("name") or session["command"]


def _where(session: Members) -> str:
    display = "" if session["display"] is None else f":{session['display']}"
    return f"{session['hostname']}{display}"


def _local(milliseconds: int | None) -> str | None:
    """Return a moment by the clock on the wall."""
    if milliseconds is None:
        return None
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(milliseconds / 1000))
    except (ValueError, OverflowError):  # a year that no calendar has
        return str(milliseconds)


def _busy(server: Members) -> str | None:
    return None if server["cpu"] is None else f"{server['cpu']:.0f} %"


def _memory(server: Members) -> str | None:
    free, total = server["freemem"], server["totalmem"]
    return None if free is None or total is None else f"{size(total - free)} of {size(total)}"


def _load(server: Members) -> str | None:
    averages = server["loadavg"]
    return None if averages is None else " ".join(f"{load:.2f}" for load in averages)


# A terminal is narrower than the page: the host stands with the display, and the window mode
# nowhere. What is declared besides comes last.
_OF_A_SESSION: dict[str, Callable[[Members], object]] = {
    "name": _name,
    "login": itemgetter("login"),
    "display": _where,
    "state": state,
    "started": lambda session: ago(session["started"]),
    "geometry": itemgetter("geometry"),
}
_OF_A_SESSION |= {
    name: methodcaller("get", name)  # which an older agent may not have written
    for name in COLUMNS
    if name not in (*_OF_A_SESSION, "hostname", "windowMode")
}
_OF_THE_PAST: Cells = {
    "name": _name,
    "login": itemgetter("login"),
    "display": _where,
    "kind": methodcaller("get", "kind"),
    "began": lambda session: _local(session["began"]),
    "ended": lambda session: _local(session["ended"]),
    "connectedSeconds": lambda session: duration(session["connectedSeconds"]),
    "addresses": lambda session: " ".join(session["addresses"]) or None,
}
_OF_A_SERVER: Cells = {
    "id": itemgetter("id"),
    "hostname": itemgetter("hostname"),
    "serverPool": itemgetter("serverPool"),
    "cpu": _busy,
    "totalmem": _memory,
    "sessions": itemgetter("sessions"),
    "loggedInUsers": itemgetter("loggedInUsers"),
    "loadavg": _load,
    "uptime": lambda server: duration(server["uptime"]),
}
