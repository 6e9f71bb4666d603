from __future__ import annotations

import re
from pathlib import Path

from fastx_list.command.cli import main

PAGE = Path(__file__).parents[2] / "packaging" / "man" / "fastx-list.1"


def test_the_man_page_has_every_command_in_order() -> None:
    _, _, commands = PAGE.read_text(encoding="utf-8").partition(".SH COMMANDS\n")
    found = re.findall(r"^\.TP\n\.B ([a-z-]+)$", commands.partition(".SH ")[0], re.MULTILINE)
    assert found == sorted(main.commands)
