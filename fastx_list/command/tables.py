"""What stands in the tables of sessions and servers, and which columns matter most."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from operator import itemgetter, methodcaller
from typing import Any, get_origin

from fastx_list.command.terminal import (
    Column,
    Members,
    cut_end,
    cut_host,
    cut_words,
    fewest_of_display,
)
from fastx_list.model.json import to_json
from fastx_list.model.member import declared
from fastx_list.model.past import Course
from fastx_list.model.query import look_up
from fastx_list.model.server import Server
from fastx_list.model.session import COLUMNS, MEMBERS, Session
from fastx_list.text import ago, duration, size, state


def session_columns(with_login: bool) -> Mapping[str, Column]:
    """Return the columns of sessions by name; ``with_login`` says whose each is."""
    return _chosen(_OF_A_SESSION, with_login)


def past_columns(with_login: bool) -> Mapping[str, Column]:
    """Return the columns of sessions of the history; likewise."""
    return _chosen(_OF_THE_PAST, with_login)


def server_columns() -> Mapping[str, Column]:
    """Return the columns of servers."""
    return _OF_A_SERVER


def column_of(name: str, rank: int = 0) -> Column:
    """Return the column of a member or param by its ``name``, in words for people. Text is cut,
    nothing else."""
    member = _MEMBERS.get(name)
    unit = member.unit.partition(" ")[0] if member else ""
    form = _FORMS.get(name) or _FORMS.get(unit, _as_it_is)
    cut = None if unit or name in _NEVER_CUT else cut_words if name in _LISTS else cut_end

    def cell(members: Members) -> object:
        value = look_up(members, name)
        return value if value is None else form(value)

    return Column(member.label if member else name, cell, rank, cut)


def details(members: Members) -> list[tuple[str, object]]:
    """Return all that is known of one session or server, each with its label."""
    columns = [column_of(name) for name in members if name != "disconnectTImeout"]
    return [(column.heading, column.cell(members)) for column in columns]


def _as_it_is(value: Any) -> object:
    if isinstance(value, Mapping):
        return to_json(value)
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or None
    return {True: "yes", False: "no"}.get(value, value) if isinstance(value, bool) else value


def _chosen(columns: Mapping[str, Column], with_login: bool) -> Mapping[str, Column]:
    return {name: each for name, each in columns.items() if with_login or name != "login"}


def _name(session: Members) -> object:
    return session["params"].get("name") or session["command"]


def _where(session: Members) -> str:
    display = "" if session["display"] is None else f":{session['display']}"
    return f"{session['hostname']}{display}"


def local_time(milliseconds: int | None) -> str | None:
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


_OF_COURSE = {each.member.name: each.member.label for each in declared(Course)}
_OF_SERVERS = {each.member.name: each.member.label for each in declared(Server)}
_MEMBERS = {each.member.name: each.member for owner in (Server, Course) for each in declared(owner)}
_MEMBERS |= MEMBERS
SESSION_MEMBERS = [name for name, member in MEMBERS.items() if member.name == name]
SERVER_MEMBERS = [each.member.name for each in declared(Server)]
_LISTS = {
    each.member.name
    for owner in (Session, Server, Course)
    for each in declared(owner)
    if get_origin(each.type) is tuple
}
# How values are said, by the unit or the member
_FORMS: dict[str, Callable[[Any], object]] = {
    "milliseconds": ago,
    "bytes": size,
    "kB": lambda count: size(count * 1024),
    "seconds": duration,
    "minutes": lambda count: f"{count} min",
    "percent": "{} %".format,
    "idleSince": lambda moment: duration(max(0.0, time.time() - moment / 1000)),
    "began": local_time,
    "ended": local_time,
}
_NEVER_CUT = (
    *("id", "serverPid", "appPid", "clients", "display", "serverId", "geometry", "sessions"),
    *("loggedInUsers", "loadavg"),
)
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
    "kind": Column(COLUMNS["kind"], methodcaller("get", "kind"), 5, cut_end),
}
_OF_A_SESSION |= {
    name: column_of(name, 7)
    for name in COLUMNS
    if name not in (*_OF_A_SESSION, "hostname", "windowMode")
}
_OF_THE_PAST = {
    "name": _NAME,
    "login": _LOGIN,
    "display": _DISPLAY,
    "kind": Column(COLUMNS["kind"], methodcaller("get", "kind"), 6, cut_end),
    "began": Column(_OF_COURSE["began"], lambda session: local_time(session["began"]), 4),
    "ended": Column(_OF_COURSE["ended"], lambda session: local_time(session["ended"]), 3),
    "connectedSeconds": Column(
        _OF_COURSE["connectedSeconds"], lambda session: duration(session["connectedSeconds"]), 5
    ),
    "addresses": column_of("addresses", 7),
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
