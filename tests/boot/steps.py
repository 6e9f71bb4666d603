"""The commands that documents tell administrators to run."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def under(document: str, begins: str, docs: Path = DOCS) -> list[str]:
    """Return the blocks of commands in the ``document`` from the first line that begins so to
    the next that begins as it does: a heading, or a numbered step."""
    text = (docs / document).read_text(encoding="utf-8")
    mark = begins[: 3 if begins.startswith("## ") else 2]
    _, _, rest = text.partition(f"\n{begins}")
    assert rest, f"{document} has no {begins}"
    part = re.split(rf"\n(?:{re.escape(mark)}|##)", rest)[0]
    return re.findall(r"```sh\n(.*?)```", part, re.DOTALL)
