from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.shell_completion import BashComplete, FishComplete, ZshComplete

from fastx_list.command.cli import main
from fastx_list.command.manual import manual

PACKAGING = Path(__file__).parents[2] / "packaging"


def test_the_man_page_is_what_the_commands_say() -> None:
    """python -m fastx_list.command.manual > packaging/man/fastx-list.1"""
    assert (PACKAGING / "man" / "fastx-list.1").read_text(encoding="utf-8") == manual()


def test_completion_is_what_click_makes_for_the_commands() -> None:
    for shell, name in (
        (BashComplete, "fastx-list"),
        (ZshComplete, "_fastx-list"),
        (FishComplete, "fastx-list.fish"),
    ):
        completion = (PACKAGING / "completion" / name).read_text(encoding="utf-8")
        made = shell(main, {}, "fastx-list", "_FASTX_LIST_COMPLETE").source()
        assert completion.split() == made.split()
    done = subprocess.run(
        [sys.executable, "-m", "fastx_list"],
        env={
            "_FASTX_LIST_COMPLETE": "bash_complete",
            "COMP_WORDS": "fastx-list ls -o ",
            "COMP_CWORD": "3",
        },
        capture_output=True,
        text=True,
    )
    assert "plain,yaml" in done.stdout.split()
