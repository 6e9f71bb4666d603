"""Makes the pictures of the documents: ``python -m tests.page.pictures``.

``docs/page.png`` and ``docs/page.gif`` show the page of a demonstration, at rest and in use,
``docs/command.svg`` the command line. It takes Chromium, and Pillow for the GIF
(``pip install pillow``).
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, ViewportSize, sync_playwright
from rich.console import Console
from rich.text import Text

from tests.support import Processes, free_port, program, wait_for

DOCS = Path(__file__).parents[2] / "docs"
SIZE = ViewportSize(width=1280, height=800)
FRAME_MS = 1200
COMMANDS = ("ls --all --limit 8", "servers", "history --all --limit 5")


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        processes = Processes(Path(directory))
        environ = {
            "PATH": "/usr/bin:/bin",
            "HOME": directory,
            "PYTHONPATH": str(DOCS.parent),
            "FASTX_LIST_STATE_DIR": f"{directory}/state",
            "FASTX_LIST_CONFIG": "/dev/null",
        }
        bind = f"127.0.0.1:{free_port()}"
        own = [sys.executable, "-m", "fastx_list"]
        processes.start([*own, "up", "--demo", "--admin", "--bind", bind], "up", environ)
        try:
            found = wait_for(
                "the page's address", lambda: re.search(r"http://\S+", processes.log("up"))
            )
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(
                    executable_path=program("chromium", "chromium"), args=["--no-sandbox"]
                )
                page = browser.new_page(viewport=SIZE, device_scale_factor=1)
                page.goto(found[0])
                page.locator("#rows tr[data-id]").nth(9).wait_for()
                page.locator("#machines").wait_for()
                page.screenshot(path=DOCS / "page.png")
                film(page)
                browser.close()
            command_line(own, environ)
        finally:
            processes.stop()


def film(page: Page) -> None:
    """Use the page as people would, and write what it showed."""
    frames: list[Image.Image] = []

    def frame(times: int = 1) -> None:
        for _ in range(times):
            page.wait_for_timeout(FRAME_MS)  # a film takes its time
            taken = Image.open(io.BytesIO(page.screenshot()))
            frames.append(taken.convert("P", palette=Image.Palette.ADAPTIVE, colors=64))

    frame(3)
    page.keyboard.press("/")
    page.keyboard.type("matlab", delay=60)
    frame(2)
    page.keyboard.press("Enter")
    frame(2)
    first, *rest = frames
    first.save(
        DOCS / "page.gif",
        save_all=True,
        append_images=rest,
        duration=FRAME_MS,
        loop=0,
        optimize=True,
    )


def command_line(own: list[str], environ: dict[str, str]) -> None:
    console = Console(record=True, width=160, file=io.StringIO(), force_terminal=True)
    for command in COMMANDS:
        done = subprocess.run(
            [*own, *command.split()],
            env={**environ, "COLUMNS": "160", "FORCE_COLOR": "1", "TERM": "xterm-256color"},
            capture_output=True,
            text=True,
            check=True,
        )
        console.print(f"[bold]$ fastx-list {command}[/bold]")
        console.print(Text.from_ansi(done.stdout))
    drawn = console.export_svg(title="fastx-list")
    # The fonts of whoever looks at it, and not those of a host on the network
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    (DOCS / "command.svg").write_text(drawn, "utf-8")


if __name__ == "__main__":
    main()
