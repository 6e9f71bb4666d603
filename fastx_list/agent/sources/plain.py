"""Plain X servers that serve as sessions: Xvfb and Xephyr started for a user, Xorg on a seat. Only
where they are asked for."""

from __future__ import annotations

import re

from fastx_list.agent.display import find_display
from fastx_list.agent.machine import Machine
from fastx_list.agent.process import Process
from fastx_list.agent.sockets import Sockets
from fastx_list.agent.xserver import XServers, XSession, parse_args

# What shows a login screen: these start an X server of their own.
DISPLAY_MANAGERS = {
    "gdm",
    "gdm3",
    "gdm-session-wor",
    "gdm-wayland-ses",
    "lightdm",
    "sddm",
    "sddm-helper",
    "xdm",
    "lxdm",
    "lxdm-binary",
    "slim",
    "wdm",
    "nodm",
    "kdm",
    "greetd",
}
GREETERS = {
    "gdm",
    "Debian-gdm",
    "lightdm",
    "sddm",
    "lxdm",
    "slim",
    "xdm",
    "greetd",
    "_greetd",
    "greeter",
    "gnome-initial-setup",
}
XORG = ("Xorg", "Xorg.bin", "X")
# Where display managers keep the cookies of the servers that they start: these go on when their
# parent was killed. GDM's are not told by that, for its users' own sessions have theirs there, too.
_COOKIES = re.compile(r"/(?:var/)?(?:run|lib)/(?:lightdm|sddm|xdm|lxdm|slim|wdm|nodm|kdm)\b.*")
# Xvfb(1), Xephyr(1): where the command line gives none
_SIZES = {"Xvfb": "1280x1024", "Xephyr": "640x480"}


class _Plain(XSession):
    serves_viewers = False

    def connections(self, sockets: Sockets) -> None:
        return None  # who looks at the screen, if anybody, the kernel does not know


def _display_of(process: Process, machine: Machine) -> int | None:
    display = parse_args(process.args)[0]
    return find_display(process, machine) if display is None else display


def is_for_people(process: Process, machine: Machine) -> bool:
    """Return whether the X server ``process`` shows something else than a login screen."""
    return (
        machine.parent_name(process) not in DISPLAY_MANAGERS
        and not _COOKIES.fullmatch(parse_args(process.args)[1].get("auth", ""))
        and machine.logins.of(process.uid) not in GREETERS
    )


class _PlainSource(XServers):
    def recognises(self, process: Process, machine: Machine) -> bool:
        return is_for_people(process, machine)

    def wants(self, process: Process, machine: Machine) -> bool:
        """Whether it was asked for, or its display is shown to viewers."""
        if self.listed:
            return True
        display = _display_of(process, machine)
        return display is not None and bool(machine.mirrors.of(process, display, machine))

    def session(self, process: Process, machine: Machine) -> _Plain | None:
        options = parse_args(process.args)[1]
        display = _display_of(process, machine)
        if display is None or machine.is_claimed(process, display):
            return None
        screen = options.get("screen", "").partition("x")
        size = (
            "x".join([screen[0], screen[2].partition("x")[0]])
            if screen[1]
            else _SIZES.get(process.stat.name)
        )
        lingers = "noreset" in options and "terminate" not in options
        return _Plain(process, display, options, machine, geometry=size, lingers=lingers)


class Xvfb(_PlainSource):
    programs = ("Xvfb",)


class Xephyr(_PlainSource):
    programs = ("Xephyr",)


class Xorg(_PlainSource):
    programs = XORG
