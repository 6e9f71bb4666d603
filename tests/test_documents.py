"""The documents: lines that fit, links that lead somewhere, and commands run as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import needs_root, program

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
# Where blocks of commands are run, by document and first line. The others are run here.
ELSEWHERE = {
    ("README.md", "python3 -m venv"): ".ci/run",
    ("README.md", "packaging/build-deb"): "tests/boot",
    ("CONTRIBUTING.md", "python3 -m venv"): ".ci/run",
    ("events.md", "systemctl enable"): "tests/boot",
    ("install.md", ""): "tests/boot",
    ("install.md", "apt install -y certbot"): "needs a name that the internet knows",
    ("monitoring.md", "systemctl edit"): "opens an editor",
    ("performance.md", "pip install"): "tests/bench",
    ("portal.md", ""): "tests/portal",
    ("reliability.md", "python -m tests"): "takes hours",
    ("scale.md", "python -m tests"): "takes hours",
    ("settings.md", "fastx-list check"): "tests/boot",
    ("several-machines.md", "FASTX_LIST_STORE"): "lines of the settings",
    ("upgrade.md", ""): "tests/boot",
    ("users.md", "curl --unix-socket"): "tests/boot",
    ("users.md", "fastx-list login"): "tests/command/test_asking.py",
}
# A machine of its own, on which the demonstration runs.
BOX = """
mount -t proc proc /proc
ip link set lo up
for directory in /var/lib /var/backups /run; do mount -t tmpfs tmpfs $directory; done
fastx-list up --demo > up.log 2>&1 &
until curl -fso /dev/null http://127.0.0.1:8000/ready; do kill -0 $!; sleep 0.1; done
export SPOOL=/var/lib/fastx-list/spool
for block in block-*; do
  printf '\\n== %s\\n' $block
  fastx-list token issue alice | bash -e $block
done
"""


def blocks(document: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", document.read_text("utf-8"), re.DOTALL | re.MULTILINE)


def run_elsewhere(document: Path, block: str) -> bool:
    return any(name == document.name and block.startswith(first) for name, first in ELSEWHERE)


def prose(document: Path) -> str:
    return re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_its_lines_fit_and_its_links_lead_somewhere(document: Path) -> None:
    text = prose(document)
    long = [
        line for line in text.splitlines() if len(line) > 100 and line[:1] not in ("|", "!", "#")
    ]
    assert not long
    for link in re.findall(r"\]\(([^)]+)\)", text):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = document.parent / path if path else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link
    tests = {path.name for path in (ROOT / "tests").rglob("test_*.py")}
    assert set(re.findall(r"\b(test_\w+\.py)`", text)) <= tests


def anchors(document: Path) -> set[str]:
    """What GitHub makes of a document's headings."""
    headings = re.findall(r"^#+ (.*)$", prose(document), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def test_the_architecture_has_each_module_in_its_folder() -> None:
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    sections = dict(re.findall(r"^### (\w+)/\n(.*?)(?=^##)", text, re.DOTALL | re.MULTILINE))
    package = ROOT / "fastx_list"
    folders = {path.parent for path in package.glob("*/__init__.py")}
    assert sections.keys() == {path.name for path in [package, *folders]}
    for folder in [package, *folders]:
        files = [*folder.glob("*.py"), *folder.glob("sources/*.py")]
        files += [*folder.glob("*.lua"), *folder.glob("static/*.js")]
        modules = {path.name.removesuffix(".py") for path in files}
        section = sections[folder.name]
        assert modules - {"__init__"} <= set(re.findall(r"`([\w.]+)`", section)), folder.name
        rows = "".join(re.findall(r"^\| (`.*?) \|", section, re.MULTILINE))
        assert set(re.findall(r"`([\w.]+)`", rows)) <= modules, folder.name


def test_each_command_is_run_somewhere() -> None:
    names = {document.name: document for document in DOCUMENTS}
    stale = [
        key
        for key in ELSEWHERE
        if not any(block.startswith(key[1]) for block in blocks(names[key[0]]))
    ]
    assert not stale


def test_commands_do_as_printed_what_the_text_says(tmp_path: Path) -> None:
    needs_root()
    program("curl", "curl")
    for document in DOCUMENTS:
        for number, block in enumerate(blocks(document)):
            if not run_elsewhere(document, block):
                # What follows until Ctrl-C is read for its first line.
                text = re.sub(r"^(fastx-list watch)$", r"\1 | head -n 1", block, flags=re.MULTILINE)
                (tmp_path / f"block-{document.stem}-{number}").write_text(text, "utf-8")
    own = str(Path(sys.executable).parent)
    done = subprocess.run(
        ["unshare", "-m", "-n", "-p", "-i", "-u", "-f", "--kill-child", "bash", "-ec", BOX],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{own}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    printed = dict(re.findall(r"^== block-(.*)\n((?:(?!== ).*\n?)*)", done.stdout, re.MULTILINE))
    every, newest, waiting = json.loads("[" + printed["README-1"].replace("][", "],[") + "]")
    assert len(every) > 1
    assert len(newest) <= 5
    assert all(each["clients"] == 0 for each in newest + waiting)
    assert "ok agent: it sees the sessions of all users" in printed["monitoring-0"]
    assert printed["operate-0"].count(".") == 2
    assert printed["users-0"].count("Demo: ") > 5
