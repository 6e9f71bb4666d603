"""What dpkg runs when the package is installed, in a directory that stands for the machine's."""

from __future__ import annotations

import stat
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "packaging/debian/fastx-list.postinst"


def configure(root: Path) -> None:
    """Run the script on what is below ``root``; there users and owners stay as they are."""
    text = SCRIPT.read_text()
    for path in ("/etc/", "/var/lib/", "/usr/"):
        text = text.replace(path, f"{root}{path}")
    nothing = "adduser() { :; }; chown() { :; }; install() { :; }\n"
    subprocess.run(["sh", "-c", nothing + text, "postinst", "configure"], check=True)


def test_settings_of_release_0_1_0_are_taken_over_and_closed_to_others(tmp_path: Path) -> None:
    settings, former = (
        tmp_path / "etc" / name for name in ("fastx-list/fastx-list.conf", "default/fastx-list")
    )
    for file, mode, text in (
        (settings, 0o644, "A=1\n"),
        (former, 0o600, "FASTX_LIST_SECRET_KEY=s\n"),
    ):
        file.parent.mkdir(parents=True)
        file.write_text(text)
        file.chmod(mode)
    configure(tmp_path)
    assert "FASTX_LIST_SECRET_KEY=s" in settings.read_text().splitlines()
    assert not former.exists() and "A=1" in settings.read_text()
    assert stat.S_IMODE(settings.stat().st_mode) == 0o640
