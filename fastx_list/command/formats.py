"""``-o table|wide|json|yaml|csv|name``: how what was found is printed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence

import click

from fastx_list.command.options import together
from fastx_list.command.tables import SESSION_MEMBERS, column_of
from fastx_list.command.terminal import (
    Column,
    Members,
    echo_csv,
    echo_json,
    encoding_of,
    escaped,
    print_table,
    put,
    shown,
)
from fastx_list.model.history import csv_of
from fastx_list.model.json import to_json
from fastx_list.model.query import look_up

FORMATS = ("table", "wide", "json", "yaml", "csv", "name")
FOR_PROGRAMS = ("json", "yaml", "csv")


def complete_names(context: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the last of several names of a session's members."""
    before, comma, last = incomplete.rpartition(",")
    return [before + comma + name for name in SESSION_MEMBERS if name.startswith(last)]


# The options that say how to print.
format_options = together(
    click.option(
        "--columns",
        metavar="NAME,…",
        shell_complete=complete_names,
        help="Only these members or params, such as id,login,params.name.",
    ),
    click.option("--json", "output", flag_value="json", help="The same as -o json."),
    click.option(
        "-o",
        "--output",
        type=click.Choice(FORMATS),
        help="table for people; wide: all members; json: what the API answers; yaml, csv, and"
        " name: ids alone.",
    ),
)


def print_found(
    items: Sequence[Members],
    output: str | None,
    names: str | None,
    usual: Mapping[str, Column],
    members: Iterable[str] = (),
) -> None:
    """Print ``items``, as a table of the ``usual`` columns unless ``output`` or ``names`` say
    otherwise; ``members`` are all that one may have, each once."""
    chosen = [name.strip() for name in names.split(",") if name.strip()] if names else []
    if output in FOR_PROGRAMS:
        plain = [{name: look_up(each, name) for name in chosen} for each in items]
        known = [name for name in members if not items or name in items[0]]
        _print_for_programs(plain if chosen else items, output or "", chosen or known)
    elif output == "name":
        for each in items:
            put(shown(each["id"], encoding_of(sys.stdout)) + "\n")
    elif items:
        if output == "wide" and not chosen:
            chosen = [*usual, *(name for name in members if name in items[0] and name not in usual)]
        columns = {name: usual.get(name) or column_of(name, 9) for name in chosen} or usual
        print_table(list(columns.values()), items, is_bounded=output != "wide")


def _print_for_programs(items: Sequence[Members], output: str, names: Sequence[str]) -> None:
    if output == "json":
        echo_json(to_json(items))
    elif output == "yaml":
        text = "".join(_yaml(each) for each in items) or "[]\n"
        put(escaped(text, encoding_of(sys.stdout), in_yaml=True))
    else:
        echo_csv(csv_of(items, names))


def _yaml(members: Members) -> str:
    """Return an item of a YAML sequence. What JSON has for a value is one of YAML 1.2, too
    (section 1.3 there), so that nothing but names is to be written in another way."""
    lines = [f"{to_json(name)}: {_flow(value)}" for name, value in members.items()]
    return f"- {lines[0]}\n" + "".join(f"  {line}\n" for line in lines[1:])


def _flow(value: object) -> str:
    """Return a value of JSON as one of YAML, where a name of over 1024 characters is marked as one
    (section 7.4.2). An escape takes ten."""
    if isinstance(value, Mapping):
        pairs = (
            f"{name}:{_flow(each)}" if len(name) <= 100 else f"? {name} : {_flow(each)}"
            for name, each in ((to_json(name), each) for name, each in value.items())
        )
        return f"{{{','.join(pairs)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_flow, value))}]"
    return to_json(value)
