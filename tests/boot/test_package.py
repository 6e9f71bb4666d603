"""The package on a machine of its own, from its installation to its removal. The tests follow each
other: one machine, and what was done to it before."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest

from tests.boot.machine import Machine
from tests.boot.steps import under
from tests.boot.traffic import ask_on, asked
from tests.support import wait_for

UNITS = ("fastx-list", "fastx-list-live", "fastx-list-agent")
EVENTS = "fastx-list-events"  # which runs only where it is wanted
USERS = ("alice", "bob")
LOCAL = "curl -sS --unix-socket /run/fastx-list/local.sock http://localhost"
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends"
NGINX = """
set -e
cp -r /usr/share/doc/fastx-list/examples/nginx/. /etc/nginx/
NAME=list.example.org
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 90 -subj "/CN=$NAME" \
  -addext "subjectAltName=DNS:$NAME" -keyout /etc/ssl/private/fastx-list.key \
  -out /etc/ssl/certs/fastx-list.pem 2>/dev/null
"""
CURL = (
    "curl -sS --max-time 20 --cacert /etc/ssl/certs/fastx-list.pem"
    " --resolve list.example.org:443:127.0.0.1 https://list.example.org"
)


def sessions(machine: Machine, login: str) -> dict[str, dict[str, Any]]:
    """Return the sessions of ``login`` by display, as they are seen through nginx."""
    token = machine.says(f"fastx-list token issue {login}")
    answer = machine.says(f"{CURL}/api/list/{token}")
    return {each["display"]: each for each in json.loads(answer)}


def is_active(machine: Machine, unit: str) -> bool:
    return machine.says(f"systemctl is-active {unit} || true") == "active"


def test_it_is_installed_and_runs(machine: Machine) -> None:
    began = time.monotonic()
    machine.run(f"{INSTALL} /mnt/shared/0.deb")
    for unit in UNITS:
        wait_for(unit, lambda: is_active(machine, unit))
    machine.run("fastx-list check")
    for number, user in enumerate(USERS, 1):
        machine.run(f"useradd -m {user}")
        xvnc = f"Xvnc :{number} -rfbport {5900 + number} -SecurityTypes None -geometry 800x600"
        machine.run(f"systemd-run -q --uid={user} --setenv=HOME=/home/{user} {xvnc}")
    machine.run(NGINX)
    [commands] = under("install.md", "**5. nginx")
    commands = commands.replace("cp -r docs/", "cp -r /mnt/shared/docs/")
    assert "[warn]" not in machine.run(f"NAME=list.example.org\n{commands}").stderr
    for number, user in enumerate(USERS, 1):
        found = wait_for("the session", lambda: sessions(machine, user))
        [session] = found.values()
        assert (session["display"], session["geometry"]) == (number, "800x600")
        assert session["login"] == user and session["kind"] == "tigervnc"
    took = time.monotonic() - began
    print(f"from apt install to sessions seen at port 443: {took:.0f} s")
    assert machine.says("stat -c '%a %U:%G' /var/log/nginx/fastx-list.access.log") == (
        "640 www-data:adm"
    )


def test_the_agent_has_the_rights_of_its_unit_and_no_others(machine: Machine) -> None:
    pid = machine.says("systemctl show -p MainPID --value fastx-list-agent")
    status = machine.says(f"cat /proc/{pid}/status")
    masks = {name: re.search(rf"{name}:\s*(\w+)", status) for name in ("CapEff", "CapBnd")}
    wanted = 1 << 2 | 1 << 19
    assert {name: int(mask[1], 16) for name, mask in masks.items() if mask} == dict.fromkeys(
        masks, wanted
    )
    assert machine.says(f"stat -c %U /proc/{pid}") == "fastx-list"
    for unit in ("fastx-list", "fastx-list-live"):
        pid = machine.says(f"systemctl show -p MainPID --value {unit}")
        assert "CapEff:\t0000000000000000" in machine.says(f"cat /proc/{pid}/status")


def test_the_agent_says_in_one_line_what_it_is(machine: Machine) -> None:
    lines = machine.journal("fastx-list-agent").splitlines()
    [said] = [line for line in lines if "sees all users' sessions in full; looks for" in line]
    assert " fastx-list " in said and "server 'vdi1'" in said


def test_the_doctor_finds_all_well_and_notices_a_list_that_is_gone(machine: Machine) -> None:
    done = machine.run("fastx-list doctor", check=False)
    assert done.returncode == 0, done.stdout
    for said in ("agent: it sees the sessions of all", "list: it answers at /run", "sidecar: it"):
        assert f"ok {said}" in done.stdout
    assert done.stdout.count("ok nginx: ") == 2
    assert (
        "ok list: users of this machine need no token at /run/fastx-list/local.sock" in done.stdout
    )
    machine.run("echo FASTX_LIST_SERVER_POOL=other >> /etc/fastx-list/fastx-list.conf")
    done = machine.run("fastx-list doctor", check=False)
    assert done.returncode == 1 and done.stdout.count("runs with other settings") == len(UNITS)
    machine.run("sed -i '$d' /etc/fastx-list/fastx-list.conf")
    machine.run("systemctl stop fastx-list")
    machine.run("systemctl stop fastx-list.socket")
    done = machine.run("fastx-list doctor", check=False)
    assert done.returncode == 2 and "!! list: no answer at /run/fastx-list/list.sock" in done.stdout
    machine.run("systemctl start fastx-list.socket fastx-list")


def test_what_happens_is_sent_on_and_counted_where_that_is_wanted(machine: Machine) -> None:
    assert machine.says(f"systemctl show -p ActiveState --value {EVENTS}") == "inactive"
    machine.run("echo FASTX_LIST_EVENTS=journal >> /etc/fastx-list/fastx-list.conf")
    machine.run(f"systemctl enable --now {EVENTS}")
    machine.run(f"systemctl restart {' '.join(UNITS)}")
    machine.run("fastx-list token issue carol")
    wait_for("the event", lambda: "tokenIssued" in machine.journal(EVENTS))
    for name, said in (("list", 'sessions{kind="tigervnc"'), ("live", "websockets 0.0")):
        local = f"curl -sS --unix-socket /run/fastx-list/{name}.sock http://localhost/metrics"
        assert f"fastx_list_{said}" in machine.says(local)
    assert "NotFound" in machine.says(f"{CURL}/metrics")


def test_each_user_of_the_machine_finds_their_own_sessions_without_a_token(
    machine: Machine,
) -> None:
    for user in USERS:
        listed = json.loads(machine.says(f"{LOCAL}/api/list", user=user))
        assert [each["login"] for each in listed] == [user]
        for command in ("ls", "history"):
            printed = json.loads(machine.says(f"fastx-list {command} -o json", user=user))
            assert [each["login"] for each in printed] == [user]
    listed = json.loads(machine.says(f"{LOCAL}/api/admin/session"))
    assert {each["login"] for each in listed} == set(USERS)
    wrong = machine.says(f"{LOCAL}/api/admin/session", user="alice")
    assert "Forbidden" in wrong and "bob" not in wrong


def test_an_ordinary_user_is_told_what_to_do(machine: Machine) -> None:
    for command in ("backup /tmp/b", "doctor", "token issue alice"):
        done = machine.run(f"fastx-list {command}", user="alice", check=False)
        [line] = (done.stdout + done.stderr).splitlines()
        assert done.returncode and "run this as root (sudo)" in line


def test_bad_settings_fail_the_start_once_with_one_line_in_the_journal(machine: Machine) -> None:
    settings = "/etc/fastx-list/fastx-list.conf"
    machine.run(f"cp -a {settings} /root/ && echo FASTX_LIST_SCAN_INTERVAL=soon >> {settings}")
    for unit in (*UNITS, EVENTS):
        before = len(machine.journal(unit))
        done = machine.run(f"systemctl restart {unit}", check=False)
        assert done.returncode != 0 and not is_active(machine, unit)
        # Else it would be waiting for its next try
        assert machine.says(f"systemctl show -p ActiveState --value {unit}") == "failed"
        said = machine.journal(unit)[before:]
        assert said.count("FASTX_LIST_SCAN_INTERVAL takes a number") == 1
        assert "Traceback" not in said
    machine.run(
        f"mv /root/fastx-list.conf {settings} && systemctl start {' '.join((*UNITS, EVENTS))}"
    )
    wait_for("the sessions", lambda: sessions(machine, "alice"))


def test_restarts_and_kills_lose_no_request(machine: Machine) -> None:
    before = sessions(machine, "alice")
    ask_on(machine, CURL, machine.says("fastx-list token issue alice"))
    for unit in (*UNITS, EVENTS):
        machine.run(f"systemctl restart {unit}")
        machine.run(f"systemctl kill -s KILL {unit}")
        wait_for(unit, lambda: is_active(machine, unit))
    for unit in UNITS[:2]:
        machine.run(f"systemctl reload {unit}")
    assert {status for status, _ in asked(machine)} == {"200"}
    assert {each["id"] for each in sessions(machine, "alice").values()} == {
        each["id"] for each in before.values()
    }


def test_an_upgrade_loses_no_request_no_session_and_no_params(machine: Machine) -> None:
    found = sessions(machine, "bob")
    assert found, machine.says("ps -fu bob || true") + machine.journal("fastx-list-agent")[-2000:]
    [before] = found.values()
    token = machine.says("fastx-list token issue bob")
    body = json.dumps({"id": before["id"], "params": {"name": "kept"}})
    machine.run(f"{CURL}/api/params/{token} -H 'Content-Type: application/json' -d '{body}'")
    settings = machine.says("md5sum /etc/fastx-list/fastx-list.conf")
    ask_on(machine, CURL, token)
    machine.run(f"{INSTALL} /mnt/shared/1.deb")
    assert {status for status, _ in asked(machine)} == {"200"}
    [after] = wait_for("the session", lambda: sessions(machine, "bob")).values()
    assert (after["id"], after["params"]) == (before["id"], {"name": "kept"})
    assert machine.says("md5sum /etc/fastx-list/fastx-list.conf") == settings
    assert "-2~deb" in machine.says("dpkg-query -W -f '${Version}' fastx-list")
    wait_for("all well", lambda: not machine.run("fastx-list doctor", check=False).returncode)


def test_it_is_there_after_a_reboot(machine: Machine) -> None:
    machine.shut_down()
    machine.boot()
    for unit in (*UNITS, EVENTS):
        wait_for(unit, lambda: is_active(machine, unit))
    token = machine.says("fastx-list token issue alice")
    assert json.loads(machine.says(f"{CURL}/api/list/{token}")) == []


def test_no_log_holds_a_token(machine: Machine) -> None:
    token = machine.says("fastx-list token issue alice")
    machine.run(f"{CURL}/api/list/{token}")
    logs = machine.journal() + machine.says("cat /var/log/nginx/*.log")
    assert token.split(".")[2] not in logs and "eyJ" not in logs
    assert "/api/list/[token]" in logs


@pytest.mark.parametrize("unit", [*UNITS, EVENTS])
def test_a_service_is_exposed_no_more_than_what_it_does_requires(
    machine: Machine, unit: str
) -> None:
    tenths = {"fastx-list-agent": 23, "fastx-list": 12}.get(unit, 11)
    machine.run(f"systemd-analyze security --no-pager --threshold={tenths} {unit}")


def test_removed_it_keeps_settings_and_state_and_purged_it_leaves_nothing(machine: Machine) -> None:
    machine.run("apt-get remove -y fastx-list")
    states = machine.says(f"systemctl is-active {' '.join((*UNITS, EVENTS))} || true").split()
    assert "active" not in states
    machine.run("test -f /etc/fastx-list/fastx-list.conf && test -f /var/lib/fastx-list/secret")
    assert machine.says("ls /usr/lib/fastx-list 2>&1 || true").endswith("No such file or directory")
    machine.run("apt-get purge -y fastx-list")
    left = machine.says("ls -d /etc/fastx-list /var/lib/fastx-list 2>/dev/null || true")
    assert left == "" and "fastx-list" not in machine.says("cat /etc/passwd")
