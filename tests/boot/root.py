"""A root directory of a release of Debian, made once with debootstrap."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

RELEASES = ("bookworm", "trixie")
# What a machine has that is to be installed on, and what its users start sessions with
PACKAGES = (
    *("adduser", "ca-certificates", "curl", "dbus", "nginx-light", "openssl", "procps", "python3"),
    *("python3-venv", "systemd", "systemd-sysv", "tigervnc-standalone-server", "xauth"),
)


def make(release: str, directory: Path) -> Path:
    """Return the root of ``release`` in ``directory``; it is made, in some minutes, if it is not
    there."""
    root = directory / release
    if not root.is_dir():
        if shutil.which("debootstrap") is None:
            raise SystemExit("debootstrap is not installed (Debian: apt-get install debootstrap)")
        draft = directory / f"{release}.draft"
        shutil.rmtree(draft, ignore_errors=True)
        include = f"--include={','.join(PACKAGES)}"
        command = ["debootstrap", "--variant=minbase", include, release, str(draft)]
        print(f"making a root of {release}, which takes minutes", flush=True)
        done = subprocess.run(
            command, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True
        )
        if done.returncode:
            raise SystemExit(f"debootstrap failed:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        draft.rename(root)
    return root
