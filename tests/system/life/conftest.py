from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import Service, let_others_in, needs_root
from tests.system.sessions import USERS, User


@pytest.fixture
def users(tmp_path: Path) -> list[User]:
    needs_root()
    let_others_in(tmp_path)
    return [User.make(login, tmp_path) for login in USERS]


@pytest.fixture
def running(service: Service) -> Iterator[Service]:
    service.start_list()
    service.start_live()
    service.start_agent()
    yield service
    assert "Traceback" not in "".join(
        service.processes.log(name) for name in ("agent", "list", "live")
    )
