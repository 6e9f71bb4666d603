"""What launchers may say of a session: in a session file, and in ``session.json``.

The schemas are made from the classes that they are loaded into, so that the two cannot differ.
"""

from __future__ import annotations

from typing import Any

from fastx_list.model.member import reading_schema
from fastx_list.model.session import Said, Start

StartSchema = reading_schema(Start)
SpoolSchema = reading_schema(Said)
_start, _said = StartSchema(), SpoolSchema()


def load_start(members: Any) -> Start:
    """Return what ``session.json``, or one variable of a launcher, says; raises marshmallow's
    ``ValidationError``."""
    return Start(**_start.load(members))


def load_said(members: Any) -> Said:
    """Return what a session file says; raises marshmallow's ``ValidationError``."""
    return Said(**_said.load(members))
