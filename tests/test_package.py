"""The package as it is installed, in a directory that has nothing to do with it."""

from __future__ import annotations

import configparser
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


LOCKED = (ROOT / "packaging/constraints.txt").read_text(encoding="ascii")


def test_what_is_installed_by_version_and_hash_is_all_that_is_needed() -> None:
    """After a change of setup.cfg: packaging/lock makes packaging/constraints.txt anew."""
    locked = dict(re.findall(r"^([a-z0-9-]+)==(\S+)", LOCKED, re.MULTILINE))
    options = configparser.ConfigParser()
    options.read(ROOT / "setup.cfg", encoding="utf-8")
    extras = options["options.extras_require"]
    needed = [
        options["options"]["install_requires"],
        *(extras[name] for name in ("keys", "metrics", "redis")),
    ]
    lines = [line for line in "\n".join(needed).split("\n") if line and line[0] != "#"]
    for requirement in map(Requirement, lines):
        assert locked[requirement.name.lower()] in requirement.specifier, requirement


def test_each_package_that_is_installed_by_hash_has_one_and_finds_there_what_it_needs() -> None:
    parts = [part for part in re.split(r"^(?=\S)", LOCKED, flags=re.MULTILINE) if part]
    assert parts and all("--hash=sha256:" in part for part in parts)
    locked = {part.partition("==")[0] for part in parts}
    for name in locked:
        try:
            needed = map(Requirement, metadata.requires(name) or ())
        except metadata.PackageNotFoundError:
            continue  # for an older Python
        extra = {"extra": "hiredis" if name == "redis" else ""}
        names = {each.name for each in needed if not each.marker or each.marker.evaluate(extra)}
        assert {canonicalize_name(each) for each in names} <= locked, name
