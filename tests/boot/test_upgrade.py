"""Each step of ``docs/upgrade.md``, on a machine of its own. The tests follow each other."""

from __future__ import annotations

import json
from typing import Any

from tests.boot.machine import Machine
from tests.boot.steps import under
from tests.boot.traffic import ask_on, asked
from tests.support import wait_for

UNITS = ("fastx-list", "fastx-list-live", "fastx-list-agent")
ASK = "curl -sS --max-time 20 --unix-socket /run/fastx-list/list.sock http://localhost"
PARAMS = {"name": "kept"}
VERSION = "dpkg-query -W -f '${Version}' fastx-list"


def run(machine: Machine, begins: str, which: int = 0) -> None:
    """Run the commands under a heading of the document."""
    machine.run(f"set -e; cd /root\n{under('upgrade.md', begins)[which]}")


def listed(machine: Machine, token: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(machine.says(f"{ASK}/api/list/{token}"))
    return found


def has_params(machine: Machine, token: str) -> bool:
    return [each["params"] for each in listed(machine, token)] == [PARAMS]


def set_params(machine: Machine, token: str) -> str:
    """Set params of the one session, and return its id."""
    [session] = wait_for("the session", lambda: listed(machine, token))
    body = json.dumps({"id": session["id"], "params": PARAMS})
    machine.run(f"{ASK}/api/params/{token} -H 'Content-Type: application/json' -d '{body}'")
    return str(session["id"])


def asked_for(machine: Machine, session: str) -> None:
    """Stop asking, and see that each answer had this session with its params, and no other."""
    assert asked(machine) == {("200", f"{session} {json.dumps(PARAMS)}")}


def test_release_0_1_0_that_was_set_up_by_hand_is_taken_over_under_traffic(
    machine: Machine,
) -> None:
    # In place of step 1, which needs a package index: what it needs is in the package, too
    machine.run(
        "dpkg -x /mnt/shared/0.deb /root/tree && mv /root/tree/usr/lib/fastx-list /opt/fastx-list"
        " && cd /opt/fastx-list/lib/*/site-packages && rm -rf fastx_list fastx_list-*"
        " && cp -r /mnt/shared/first/fastx_list ."
        " && sed -i s,/usr/lib/fastx-list,/opt/fastx-list, /opt/fastx-list/bin/fastx-list"
        " /opt/fastx-list/bin/gunicorn && ln -s /opt/fastx-list/bin/fastx-list /usr/local/bin/"
    )
    for step in ("**2. Its user", "**3. The services"):
        [commands] = under("deploy.md", step, machine.shared / "first/docs")
        machine.run(f"cd /mnt/shared/first; set -e\n{commands}")
    machine.run("echo FASTX_LIST_SERVER_POOL='old' > /etc/default/fastx-list")
    machine.run("useradd -m alice; systemctl restart fastx-list-agent")
    xvnc = "Xvnc :1 -rfbport 5901 -SecurityTypes None -geometry 800x600"
    machine.run(f"systemd-run -q --uid=alice --setenv=HOME=/home/alice {xvnc}")
    token = machine.says("fastx-list token issue alice --ttl 1h | tee /root/token")
    session = set_params(machine, token)
    revoked = machine.says("fastx-list token issue alice --ttl 1h")
    machine.run("fastx-list token revoke -", text=revoked)
    machine.run("cp /mnt/shared/0.deb /root/fastx-list.deb")
    ask_on(machine, ASK, token)
    run(machine, "## From 0.1.0 to 1.0.0")
    asked_for(machine, session)
    assert "AuthError" in machine.says(f"{ASK}/api/list/{revoked}")
    assert session in machine.says(
        f"{ASK.replace('list.sock', 'local.sock')}/api/list", user="alice"
    )
    assert "/usr/lib/fastx-list/" in machine.says("systemctl cat fastx-list-agent")
    wait_for("the pool", lambda: '"old"' in machine.says("fastx-list servers --json"))


def test_it_is_upgraded_and_rolled_back(machine: Machine) -> None:
    token = machine.says("cat /root/token")
    machine.run("cp /mnt/shared/1.deb /root/fastx-list.deb")
    run(machine, "## Upgrade")
    assert "-2~deb" in machine.says(VERSION) and has_params(machine, token)
    machine.run("cp /mnt/shared/2.deb /root/fastx-list-before.deb")
    run(machine, "## Roll back")
    assert "-0~deb" in machine.says(VERSION)
    run(machine, "## Roll back", 1)
    wait_for("params in a new database", lambda: has_params(machine, token))


def test_the_package_of_the_commit_before_is_upgraded_under_traffic(machine: Machine) -> None:
    token = machine.says("cat /root/token")
    [before] = listed(machine, token)
    ask_on(machine, ASK, token)
    run(machine, "## Upgrade")
    asked_for(machine, before["id"])
    assert "-2~deb" in machine.says(VERSION)


def test_it_is_backed_up_lost_and_restored(machine: Machine) -> None:
    token, revoked = machine.says("cat /root/token"), machine.says("fastx-list token issue alice")
    machine.run(f"fastx-list token revoke {revoked}")
    run(machine, "## Back up")
    machine.run("apt-get purge -y fastx-list")
    run(machine, "## Restore")
    wait_for("params", lambda: has_params(machine, token))
    assert "AuthError" in machine.says(f"{ASK}/api/list/{revoked}")


def test_it_is_taken_away_whole(machine: Machine) -> None:
    run(machine, "## Remove")
    left = machine.says(
        "find / -xdev -name '*fastx-list*' -not -path '/proc/*' -not -path '/mnt/*'"
        " -not -path '/root/*' -not -path '/var/log/*' -not -path '/var/cache/apt/*' || true"
    )
    assert left == ""
