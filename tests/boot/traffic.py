"""Requests that go on all the time, while something is done to the machine."""

from __future__ import annotations

import json

from tests.boot.machine import Machine
from tests.support import wait_for

CLIENTS = 2
# One connection after the other, until it is stopped; answers have no line breaks
ASKING = """
while [ ! -e /run/stop ]; do
  %s/api/list/%s -w ' %%{http_code}\\n' >> /run/answers-$1 2>&1
done
touch /run/asked-$1
"""


def ask_on(machine: Machine, curl: str, token: str) -> None:
    """Begin to ask for the list of ``token``, again and again, with a command that ends with where
    the list is."""
    machine.run("rm -f /run/stop /run/answers-* /run/asked-*")
    machine.run("cat > /run/asking", text=ASKING % (curl, token))
    for number in range(CLIENTS):
        machine.run(f"systemd-run -q sh /run/asking {number}")
    wait_for("answers", lambda: _answers(machine) > CLIENTS * 10)


def asked(machine: Machine) -> set[tuple[str, str]]:
    """Stop asking; return all different answers: the status, and the ids and params of sessions. Of
    what was no answer it is what curl said."""
    before = _answers(machine)
    wait_for("more answers", lambda: _answers(machine) > before + CLIENTS * 10)
    machine.run("touch /run/stop")
    ended = "ls /run/asked-* 2>/dev/null | wc -l"
    wait_for("the last answers", lambda: int(machine.says(ended)) == CLIENTS)
    return {_said(line) for line in machine.says("cat /run/answers-*").splitlines()}


def _answers(machine: Machine) -> int:
    return int(machine.says("cat /run/answers-* 2>/dev/null | wc -l"))


def _said(line: str) -> tuple[str, str]:
    body, _, status = line.rpartition(" ")
    try:
        return status, " ".join(
            f"{each['id']} {json.dumps(each['params'])}" for each in json.loads(body)
        )
    except (ValueError, KeyError, TypeError):
        return status, line
