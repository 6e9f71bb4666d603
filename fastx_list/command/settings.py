"""The settings for people: ``python -m fastx_list.command.settings`` prints their table for
``docs/settings.md``, and with ``file`` behind it the file ``docs/deploy/fastx-list.conf``."""

from __future__ import annotations

import re
import sys
import textwrap

from fastx_list.config import PREFIX, declared_settings

# What the units need
_DEPLOYED = {"STATE_DIR": "/var/lib/fastx-list", "TRUSTED_PROXIES": "unix"}
_HEAD = """\
# Settings of fastx-list on this machine, for its services and its command line. Each line is
# NAME=value, or begins with # and says nothing. What stands here without # is in force; a variable
# of the same name in the environment wins. docs/settings.md says more.
#
# After a change: fastx-list check
# and then: systemctl restart fastx-list fastx-list-live fastx-list-agent
#
# It belongs to root, and its group, which the services run as, may read it: there may be a secret
# or a password in it.
"""
_TAIL = """
# how many processes the list has, and the sidecar
# without it: 2, or 1 on a machine with one processor
#WEB_CONCURRENCY=
"""


def table() -> str:
    """Return the table of settings, in Markdown."""
    rows = [
        f"| `{PREFIX}{name}` | {declared.default} | {declared.takes} |"
        for name, declared in declared_settings().items()
    ]
    return "\n".join(["| variable | default | takes |", "|---|---|---|", *rows])


def file() -> str:
    """Return the file of settings, with those in force that the units need."""
    parts = [_HEAD]
    for name, declared in declared_settings().items():
        parts.append(f"\n{_comment(declared.takes)}{_comment(f'without it: {declared.default}')}")
        value = _DEPLOYED.get(name)
        parts.append(f"{'#' if value is None else ''}{PREFIX}{name}={value or ''}\n")
    return "".join(parts) + _TAIL


def _comment(markdown: str) -> str:
    text = re.sub(r"\[[^]]*\]\(([^)]*)\)", r"docs/\1", markdown).replace("`", "")
    lines = textwrap.wrap(text, 98, break_long_words=False, break_on_hyphens=False)
    return "".join(f"# {line}\n" for line in lines)


if __name__ == "__main__":
    sys.stdout.write(file() if "file" in sys.argv else f"{table()}\n")
