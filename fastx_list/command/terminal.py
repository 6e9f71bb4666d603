"""What reaches a terminal: no character that steers it or deceives who reads it, none that its
encoding lacks, and tables that fit its width without a wrong figure."""

from __future__ import annotations

import codecs
import io
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import click
from rich.cells import cell_len, set_cell_size

from fastx_list.text import printable

GAP = 2  # cells between two columns
FEWEST = 8  # cells that text is cut to before a column goes
_PLAINER = {"–": "-", "…": "...", "\N{REPLACEMENT CHARACTER}": "?"}

Members = Mapping[str, Any]  # of one session or server, as the API has them
Cut = Callable[[str, int, str], str]  # text, the cells it is to take, and what tells of the cut


def prepare() -> None:
    """Let nothing that this process says fail for want of a character, such as the dash in a
    terminal of Latin-1."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_PLAINER_ERRORS)


def _plainer(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    lacking = error.object[error.start : error.end]
    return "".join(_PLAINER.get(each, "?") for each in lacking), error.end


_PLAINER_ERRORS = "fastx-list-plainer"
codecs.register_error(_PLAINER_ERRORS, _plainer)


def shown(value: object, encoding: str) -> str:
    """Return ``value`` as it can be shown in ``encoding``."""
    text = printable(value)
    return text if text.isascii() else text.encode(encoding, _PLAINER_ERRORS).decode(encoding)


def encoding_of(stream: object) -> str:
    """Return what texts on ``stream`` are encoded in."""
    return getattr(stream, "encoding", None) or "utf-8"


def put(text: str) -> None:
    """Print ``text`` at once, so that click meets the end of who reads it, as of ``head``."""
    sys.stdout.write(text)
    sys.stdout.flush()


def echo_json(text: str) -> None:
    """Print JSON. What would steer a terminal, or is not in its encoding, is written as an escape,
    which is the same JSON (RFC 8259 section 7)."""
    click.echo(escaped(text, encoding_of(sys.stdout)))


def escaped(text: str, encoding: str, in_yaml: bool = False) -> str:
    """Return JSON or YAML with escapes in place of what would steer a terminal, or is not in
    ``encoding``."""
    if text.isascii() and text.isprintable():
        return text

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        try:
            character.encode(encoding)
            if character.isprintable() or character == "\n":  # none stands within a text of JSON
                return character
        except UnicodeEncodeError:
            pass
        if in_yaml:
            return f"\\U{ord(character):08x}"
        units = character.encode("utf-16-be", "surrogatepass")
        return "".join(f"\\u{units[i : i + 2].hex()}" for i in range(0, len(units), 2))

    return re.sub(r"[^ -~]", escape, text)


def echo_csv(text: str) -> None:
    """Print CSV: in UTF-8 as the API has it, or in a terminal as that can show it."""
    if sys.stdout.isatty():
        click.echo(re.sub(r"[^\r\n]+", lambda line: printable(line[0]), text), nl=False)
    else:
        sys.stdout.buffer.write(text.encode("utf-8", "surrogateescape"))
        sys.stdout.flush()


def cut_end(text: str, width: int, mark: str) -> str:
    """Cut the end of ``text`` off."""
    return set_cell_size(text, max(0, width - cell_len(mark))).rstrip() + mark


def cut_words(text: str, width: int, mark: str) -> str:
    """Leave words out at the end, whole ones: half an address would be another one."""
    kept: list[str] = []
    for word in text.split():
        if cell_len(" ".join([*kept, word, mark])) > width:
            break
        kept.append(word)
    return " ".join([*kept, mark])


def cut_host(text: str, width: int, mark: str) -> str:
    """Cut the host of ``HOST:DISPLAY``; the display stays."""
    host, colon, display = text.rpartition(":")
    if not colon:
        return cut_end(text, width, mark)
    return cut_end(host, width - cell_len(colon + display), mark) + colon + display


def fewest_of_text(text: str) -> int:
    """Return to how few cells text may be cut."""
    return min(cell_len(text), FEWEST)


def fewest_of_display(text: str) -> int:
    """Likewise of ``HOST:DISPLAY``."""
    host, colon, display = text.rpartition(":")
    return fewest_of_text(host) + cell_len(colon + display) if colon else fewest_of_text(text)


class Column(NamedTuple):
    """A column of a table for people."""

    heading: str
    cell: Callable[[Members], object]  # what stands there
    rank: int  # where there is no room for all, the column with the highest goes first
    cut: Cut | None = None  # None: never. Numbers, ids, times and displays would be others
    fewest: Callable[[str], int] = fewest_of_text


def print_table(
    columns: Sequence[Column], rows: Iterable[Members], is_bounded: bool = True
) -> None:
    """Print a table for people that fits the terminal if it ``is_bounded``; as wide as it takes for
    who reads what is piped on."""
    is_terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if is_terminal and is_bounded else None
    head, *rest = lines_of(columns, rows, width, encoding_of(sys.stdout))
    lines = [click.style(head, bold=True) if is_terminal else head, *rest]
    put("".join(f"{line}\n" for line in lines))


def lines_of(
    columns: Sequence[Column], rows: Iterable[Members], width: int | None, encoding: str = "utf-8"
) -> list[str]:
    """Return a table, the headings first, that is at most ``width`` cells wide; ``None`` is as wide
    as it takes. It is wider only where one column that may not be cut does not fit alone."""
    table = [[shown(each.heading.upper(), encoding) for each in columns]]
    table += [[shown(each.cell(row), encoding) for each in columns] for row in rows]
    widths = [max(map(cell_len, cells)) for cells in zip(*table, strict=True)]
    if width is not None:
        widths = _fit(columns, table, widths, width)
    mark = shown("…", encoding)
    places = [(i, columns[i].cut, cells) for i, cells in enumerate(widths) if cells]
    return [_line([(row[i], cut, cells) for i, cut, cells in places], mark) for row in table]


def _fit(
    columns: Sequence[Column], table: Sequence[Sequence[str]], widths: list[int], width: int
) -> list[int]:
    """Return how wide each column is to be; 0 for one that has no room."""
    fewest = [
        wanted
        if column.cut is None
        else min(wanted, max(cell_len(table[0][i]), *(column.fewest(row[i]) for row in table)))
        for i, (column, wanted) in enumerate(zip(columns, widths, strict=True))
    ]
    kept = sorted(range(len(columns)), key=lambda i: columns[i].rank)
    while len(kept) > 1 and sum(fewest[i] + GAP for i in kept) - GAP > width:
        kept.pop()
    result = [wanted if i in kept else 0 for i, wanted in enumerate(widths)]
    too_many = sum(result) + GAP * (len(kept) - 1) - width
    while too_many > 0:  # of those that may be cut the widest gives a cell
        spare = [i for i in kept if result[i] > fewest[i]]
        if not spare:
            break
        result[max(spare, key=lambda i: result[i])] -= 1
        too_many -= 1
    return result


def _line(cells: Iterable[tuple[str, Cut | None, int]], mark: str) -> str:
    fitted = []
    for cell, cut, width in cells:
        if cut is not None and cell_len(cell) > width:
            cell = cut(cell, width, mark)
        fitted.append(cell + " " * (width - cell_len(cell)))
    return (" " * GAP).join(fitted).rstrip()
