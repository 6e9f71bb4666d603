"""Prints the manual page, which is made from the commands::

python -m fastx_list.command.manual
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from fastx_list.command.cli import main

_HEAD = r"""\" Made by python -m fastx_list.command.manual
.TH FASTX-LIST 1 "" "fastx-list" "User Commands"
.SH NAME
fastx-list \- which sessions of remote desktops run, and who is connected
.SH SYNOPSIS
.B fastx-list
.I COMMAND
.RI [ OPTION ]...
.SH DESCRIPTION
"""
_FOOT = r""".SH FILES
.TP
.I /etc/fastx-list/fastx-list.conf
The settings; see
.BR fastx-list.conf (5).
.TP
.I /run/fastx-list/local.sock
Where users of this machine ask the list.
.TP
.I /var/lib/fastx-list
The database, the secret and the spool.
.TP
.I ~/.config/fastx-list/login.json
The service and the token that login keeps.
.SH SEE ALSO
.BR fastx-list.conf (5),
.I /usr/share/doc/fastx-list
"""


def manual() -> str:
    """Return the page, in the language of man(7)."""
    lines = [_text(main.help), ".SH COMMANDS"]
    context = click.Context(main, info_name="fastx-list")
    for name, command in sorted(main.commands.items()):
        lines += _command(name, command, context)
    lines += [".SH EXIT STATUS", _text(main.epilog)]
    return "." + _HEAD + "\n".join(lines) + "\n" + _FOOT


def _command(name: str, command: click.Command, parent: click.Context) -> Iterator[str]:
    context = click.Context(command, info_name=name, parent=parent)
    if isinstance(command, click.Group):
        for sub, each in sorted(command.commands.items()):
            yield from _command(f"{name} {sub}", each, context)
        return
    arguments = [each.make_metavar(context) for each in command.params
                 if isinstance(each, click.Argument)]  # fmt: skip
    yield f".TP\n.B {_escape(' '.join([name, *arguments]))}\n{_text(command.help)}"
    records = [each.get_help_record(context) for each in command.params
               if isinstance(each, click.Option)]  # fmt: skip
    options = [record for record in records if record]
    if options:
        yield ".RS"
        for written, meaning in options:
            yield f".TP\n.B {_escape(written)}\n{_text(meaning)}"
        yield ".RE"


def _text(text: str | None) -> str:
    paragraphs = inspect.cleandoc(text or "").split("\n\n")
    return "\n.PP\n".join(_escape(" ".join(each.split())) for each in paragraphs)


def _escape(text: str) -> str:
    """Return ``text`` as man(7) takes it: what begins a line there may be a request."""
    plain = text.replace("\\", r"\e").replace("-", r"\-").replace("…", r"\[u2026]")
    return rf"\&{plain}" if plain[:1] in (".", "'") else plain


if __name__ == "__main__":
    click.echo(manual(), nl=False)
