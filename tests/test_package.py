"""The package as it is installed, in a directory that has nothing to do with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import Processes, Service, fetch

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the contents of the wheel."""
    work = tmp_path_factory.mktemp("package")
    source = work / "source"
    source.mkdir()
    for name in ("pyproject.toml", "setup.py", "setup.cfg", "README.md", "LICENSE", "fastx_list"):
        subprocess.run(["cp", "-r", ROOT / name, source], check=True)
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", work, source],
        check=True,
        capture_output=True,
    )
    [wheel] = work.glob("*.whl")
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", work / "site", wheel],
        check=True,
        capture_output=True,
    )
    return work / "site"


def test_everything_that_is_served_is_in_the_wheel(installed: Path) -> None:
    assert (installed / "bin" / "fastx-list").exists()
    for folder in ("web/static", "web/templates"):
        there = {path.name for path in (ROOT / "fastx_list" / folder).iterdir()}
        assert {path.name for path in (installed / "fastx_list" / folder).iterdir()} == there
    assert list(installed.glob("fastx_list-*.dist-info/**/LICENSE"))
    modules = {
        path.relative_to(ROOT / "fastx_list") for path in (ROOT / "fastx_list").rglob("*.py")
    }
    assert {
        path.relative_to(installed / "fastx_list")
        for path in (installed / "fastx_list").rglob("*.py")
    } == modules


def test_it_runs_from_the_wheel_in_any_directory(
    installed: Path, tmp_path: Path, processes: Processes
) -> None:
    service = Service(tmp_path / "state", processes, {"PYTHONPATH": str(installed)})
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    where = subprocess.run(
        [sys.executable, "-c", "import fastx_list; print(fastx_list.__file__)"],
        env=service.environ,
        cwd=elsewhere,
        text=True,
        capture_output=True,
        check=True,
    )
    assert where.stdout.strip() == str(installed / "fastx_list" / "__init__.py")
    service.cwd = elsewhere
    service.start_list()
    service.start_live()
    assert fetch(f"{service.url}/").status == fetch(f"{service.url}/static/page.js").status == 200
    assert service.sessions(service.token("alice")) == []
