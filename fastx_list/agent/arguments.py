"""Command lines of X servers and of what belongs to them. Options are those of Xserver(1) and
Xvnc(1)."""

from __future__ import annotations

import re
from collections.abc import Iterable

# As opposed to flags, these options take the next argument. Only those matter whose value could be
# mistaken for something else.
_VALUED = {
    *(
        "auth",
        "config",
        "desktop",
        "display",
        "displayfd",
        "geometry",
        "logfile",
        "name",
        "options",
    ),
    *("rfbauth", "rfbport", "rfbunixpath", "screen", "websocketport"),
}


def parse_args(args: Iterable[str]) -> tuple[int | None, dict[str, str]]:
    """Return the display number, if it is given, and the options by lower-case name, of an X
    server's command line.

    Xvnc's parameters are written ``-name value``, ``-name=value``, ``--name=value`` or
    ``name=value``, in any case.
    """
    display: int | None = None
    options: dict[str, str] = {}
    rest = iter(args)
    next(rest, None)
    for arg in rest:
        name, equals, value = arg.lstrip("-").partition("=")
        name = name.lower()
        if re.fullmatch(r":[0-9]{1,5}", arg):
            display = int(arg[1:])
        elif equals:
            options[name] = value
        elif arg.startswith("-"):
            options[name] = next(rest, "") if name in _VALUED else ""
            # Xvfb(1): -screen NUMBER WIDTHxHEIGHTxDEPTH
            if name == "screen" and options[name].isdigit():
                options[name] = next(rest, "")
    return display, options
