"""What stands in the tables of sessions and servers, and which columns matter most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from fastx_list.command.terminal import (
    Column,
    Members,
    cut_end,
    cut_host,
    cut_words,
    fewest_of_display,
)
from fastx_list.model.member import declared
from fastx_list.model.past import Course
from fastx_list.model.server import Server
from fastx_list.model.session import BYTES, COLUMNS, MEMBERS, MILLISECONDS, PERCENT
from fastx_list.text import ago, duration, size, state


def session_columns(with_login: bool) -> Sequence[Column]:
    """Return the columns of sessions; ``with_login`` says whose each is."""
    return _chosen(_OF_A_SESSION, with_login)


def past_columns(with_login: bool) -> Sequence[Column]:
    """Return the columns of sessions of the history; likewise."""
    return _chosen(_OF_THE_PAST, with_login)


def server_columns() -> Sequence[Column]:
    """Return the columns of servers."""
    return _chosen(_OF_A_SERVER, True)


def _chosen(columns: Mapping[str, Column], with_login: bool) -> Sequence[Column]:
    return [column for name, column in columns.items() if with_login or name != "login"]


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


def _member(name: str, session: Members) -> object:
    value = session.get(name)  # which an older agent may not have written
    if isinstance(value, list):
        return " ".join(value) or None
    show = _BY_UNIT.get(MEMBERS[name].unit) if name in MEMBERS else None
    return value if value is None or show is None else show(value)


def _busy(server: Members) -> str | None:
    return None if server["cpu"] is None else f"{server['cpu']:.0f} %"


def _memory(server: Members) -> str | None:
    free, total = server["freemem"], server["totalmem"]
    return None if free is None or total is None else f"{size(total - free)} of {size(total)}"


def _load(server: Members) -> str | None:
    averages = server["loadavg"]
    return None if averages is None else " ".join(f"{load:.2f}" for load in averages)


_BY_UNIT: dict[str, Callable[[Any], str]] = {BYTES: size, MILLISECONDS: ago, PERCENT: "{} %".format}
_OF_COURSE = {each.member.name: each.member.label for each in declared(Course)}
_OF_SERVERS = {each.member.name: each.member.label for each in declared(Server)}
_NAME = Column(COLUMNS["name"], _name, 1, cut_end)
_LOGIN = Column(COLUMNS["login"], itemgetter("login"), 2, cut_end)
_DISPLAY = Column(COLUMNS["display"], _where, 0, cut_host, fewest_of_display)

# A terminal is narrower than the page: the host stands with the display, and the window mode
# nowhere. What is declared besides comes last.
_OF_A_SESSION = {
    "name": _NAME,
    "login": _LOGIN,
    "display": _DISPLAY,
    "state": Column(COLUMNS["state"], state, 3),
    "started": Column(COLUMNS["started"], lambda session: ago(session["started"]), 4),
    "geometry": Column(COLUMNS["geometry"], itemgetter("geometry"), 6),
    "kind": Column(COLUMNS["kind"], partial(_member, "kind"), 5, cut_end),
}
_OF_A_SESSION |= {
    name: Column(COLUMNS[name], partial(_member, name), 7, cut_words)
    for name in COLUMNS
    if name not in (*_OF_A_SESSION, "hostname", "windowMode")
}
_OF_THE_PAST = {
    "name": _NAME,
    "login": _LOGIN,
    "display": _DISPLAY,
    "kind": Column(COLUMNS["kind"], partial(_member, "kind"), 6, cut_end),
    "began": Column(_OF_COURSE["began"], lambda session: _local(session["began"]), 4),
    "ended": Column(_OF_COURSE["ended"], lambda session: _local(session["ended"]), 3),
    "connectedSeconds": Column(
        _OF_COURSE["connectedSeconds"], lambda session: duration(session["connectedSeconds"]), 5
    ),
    "addresses": Column(_OF_COURSE["addresses"], partial(_member, "addresses"), 7, cut_words),
}
_OF_A_SERVER = {
    "id": Column(_OF_SERVERS["id"], itemgetter("id"), 6),
    "hostname": Column(_OF_SERVERS["hostname"], itemgetter("hostname"), 0, cut_end),
    "serverPool": Column(_OF_SERVERS["serverPool"], itemgetter("serverPool"), 8, cut_end),
    "cpu": Column(_OF_SERVERS["cpu"], _busy, 2),
    "totalmem": Column(_OF_SERVERS["totalmem"], _memory, 3),
    "sessions": Column(_OF_SERVERS["sessions"], itemgetter("sessions"), 1),
    "loggedInUsers": Column(_OF_SERVERS["loggedInUsers"], itemgetter("loggedInUsers"), 5),
    "loadavg": Column(_OF_SERVERS["loadavg"], _load, 7),
    "uptime": Column(_OF_SERVERS["uptime"], lambda server: duration(server["uptime"]), 4),
}
