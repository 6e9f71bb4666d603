"""Clients that well-known generators make of the API's document speak with the real service, also
with one of a later release that has more members."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.portal.programs import OTHERS, THESIS, Observe, desktop
from tests.support import Service, fetch, missing, program

# As an installation of today gets them
NPM = ("openapi-typescript@7", "openapi-fetch@0", "typescript@5")

OPENAPI_PYTHON_CLIENT = """
import os
from client import AuthenticatedClient, Client
from client.api.lists import get_all_sessions, get_sessions, get_sessions_by_path, post_sessions
from client.api.params import post_params_by_path
from client.models import Error, Params, Query, QueryForm, Session

url, token = os.environ["LIST_URL"], os.environ["TOKEN"]
anybody = Client(base_url=url, raise_on_unexpected_status=True)
alice = AuthenticatedClient(base_url=url, token=token, raise_on_unexpected_status=True)

found = get_sessions_by_path.sync(token, client=anybody, sort_by="started", limit=2)
assert [each.id for each in found] == ["night", "thesis"], found
assert all(isinstance(each, Session) and each.window_mode == "desktop" for each in found)
assert found[1].params["name"] == "Gr\\u00f6\\u00dfe <b>\\U0001f600" and found[1].clients == 2
both = ["windowMode==desktop", "clients==2,3"]
found = get_sessions.sync(client=alice, filter_=both)
assert [each.id for each in found] == ["thesis"], found
for body in (Query(filter_=both, start=0), Query(filter_="id==thesis"), QueryForm(filter_=both)):
    found = post_sessions.sync(client=alice, body=body)
    assert [each.id for each in found] == ["thesis"], (body, found)
answer = get_sessions.sync_detailed(client=alice)
assert answer.headers["X-Total-Count"] == "3"
tag = answer.headers["ETag"]
assert get_sessions.sync_detailed(client=alice, if_none_match=tag).status_code == 304

refused = get_sessions_by_path.sync("x", client=anybody)
assert isinstance(refused, Error) and refused.error.name == "AuthError", refused
assert get_all_sessions.sync(client=alice).error.name == "Forbidden"
wrong = get_sessions.sync(client=alice, filter_=["clients"])
assert wrong.error.message.startswith("filter: takes name==value1"), wrong

call = Params.from_dict({"id": "thesis", "params": {"tag": [1, None]}})
named = post_params_by_path.sync(token, client=anybody, body=call)
assert named.params["tag"] == [1, None], named

later = {**named.to_dict(), "added": {"later": 1}}
assert Session.from_dict(later)["added"] == {"later": 1}
assert Session.from_dict(later).to_dict() == later
error = {"error": {"name": "Added", "message": "later", "more": 1}, "more": 1}
assert Error.from_dict(error).error.name == "Added"
"""

DATAMODEL_CODE_GENERATOR = """
import os
from urllib.request import Request, urlopen
from pydantic import TypeAdapter
from model import Error, Params, Query, Server, Session

def ask(path, body=None):
    headers = {"Authorization": "Bearer " + os.environ["TOKEN"], "Content-Type": "application/json"}
    data = body and body.model_dump_json(exclude_none=True).encode()
    return urlopen(Request(os.environ["LIST_URL"] + path, data, headers)).read()

sessions = TypeAdapter(list[Session])
found = sessions.validate_json(ask("/api/list?sortBy=started"))
assert [each.id for each in found] == ["night", "thesis", "rootless"], found
assert found[1].params["name"] == "Gr\\u00f6\\u00dfe <b>\\U0001f600" and found[1].clients == 2
query = Query(filter=["windowMode==desktop", "clients==2"], sortReverse=True, limit=5)
assert [each.id for each in sessions.validate_json(ask("/api/list", query))] == ["thesis"]
call = Params(id="thesis", params={"tag": "x"})
named = Session.model_validate_json(ask("/api/params", call))
assert named.params["tag"] == "x"
assert sessions.validate_json(sessions.dump_json(found)) == found

later = {**named.model_dump(), "added": {"later": 1}}
assert Session.model_validate(later).added == {"later": 1}
Error.model_validate({"error": {"name": "Added", "message": "later", "more": 1}, "more": 1})
"""

OPENAPI_TYPESCRIPT = """
import createClient from "openapi-fetch";
import type { components, paths } from "./api";

type Session = components["schemas"]["Session"];
const [url, token] = [process.env["LIST_URL"]!, process.env["TOKEN"]!];
const client = createClient<paths>({ baseUrl: url });
const found: string[] = [];
const filter = ["windowMode==desktop", "clients==2,3"];

const byPath = await client.GET("/api/list/{token}", {
  params: { path: { token }, query: { sortBy: "started", limit: 2 } },
});
for (const session of byPath.data!) {
  const geometry: string | null = session.geometry;
  found.push(`${session.id} ${geometry}`);
}
client.use({ onRequest({ request }) { request.headers.set("Authorization", `Bearer ${token}`); } });
const filtered = await client.GET("/api/list", { params: { query: { filter } } });
found.push(`${filtered.data![0]!.id} ${filtered.data!.length}`);
const posted = await client.POST("/api/list", { body: { filter, sortReverse: true, limit: 1 } });
found.push(`${posted.data![0]!.id} ${posted.response.headers.get("X-Total-Count")}`);
const wrong = await client.GET("/api/list", { params: { query: { filter: ["clients"] } } });
found.push(`${wrong.response.status} ${wrong.error!.error.name}`);
const call = { id: "thesis", params: { tag: "x" } };
const named = await client.POST("/api/params/{token}", { params: { path: { token } }, body: call });
found.push(String(named.data!.params["tag"]));
const later: Session = { ...named.data!, added: { later: 1 } };
found.push(later.id);
console.log(JSON.stringify(found));
"""


@pytest.fixture
def asked(listing: Service, observe: Observe, tmp_path: Path) -> dict[str, str]:
    """The environment of a client that asks for three sessions; the document is in
    ``openapi.json``."""
    observe(desktop("night", 1), THESIS, *OTHERS)
    document = fetch(f"{listing.url}/api/openapi.json")
    assert document.status == 200
    (tmp_path / "openapi.json").write_bytes(document.body)
    return {**os.environ, "LIST_URL": listing.url, "TOKEN": listing.token("alice")}


def test_openapi_python_client(asked: dict[str, str], tmp_path: Path) -> None:
    generator = installed("openapi-python-client")
    what = ("generate", "--path", "openapi.json", "--output-path", "client", "--meta", "none")
    run([generator, *what, "--fail-on-warning"], tmp_path, asked)
    run([sys.executable, "-c", OPENAPI_PYTHON_CLIENT], tmp_path, asked)


def test_datamodel_code_generator(asked: dict[str, str], tmp_path: Path) -> None:
    generator = installed("datamodel-codegen")
    what = ("--input", "openapi.json", "--input-file-type", "openapi", "--output", "model.py")
    pydantic = ("--output-model-type", "pydantic_v2.BaseModel")
    run([generator, *what, *pydantic], tmp_path, asked)
    run([sys.executable, "-c", DATAMODEL_CODE_GENERATOR], tmp_path, asked)


def test_openapi_typescript(asked: dict[str, str], tmp_path: Path) -> None:
    node, npm = program("node", "nodejs"), program("npm", "npm")
    (tmp_path / "package.json").write_text('{"type": "module", "private": true}')
    got = subprocess.run(
        [npm, "install", "--no-audit", "--no-fund", *NPM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if got.returncode:
        missing(f"npm cannot install {' '.join(NPM)}: {got.stderr[-500:]}")
    bin_ = tmp_path / "node_modules" / ".bin"
    run([bin_ / "openapi-typescript", "openapi.json", "-o", "api.d.ts"], tmp_path, asked)
    (tmp_path / "client.ts").write_text(OPENAPI_TYPESCRIPT)
    (tmp_path / "node.d.ts").write_text("declare const process: any;")
    options = ("--strict", "--noUncheckedIndexedAccess", "--noPropertyAccessFromIndexSignature")
    target = ("--target", "es2022", "--module", "esnext", "--moduleResolution", "bundler")
    files = ("client.ts", "node.d.ts")
    run([bin_ / "tsc", *options, *target, "--skipLibCheck", *files], tmp_path, asked)
    said = json.loads(run([node, "client.js"], tmp_path, asked))
    pages = ["night 800x600", "thesis 800x600"]
    assert said == [*pages, "thesis 1", "thesis 1", "400 ValidationError", "x", "thesis"]


def installed(name: str) -> Path:
    """Return the path of a generator that is a Python package."""
    path = Path(sys.executable).with_name(name)
    if not path.exists():
        missing(f"{name} is not installed: pip install -e '.[test]'")
    return path


def run(command: Sequence[Any], where: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [str(each) for each in command],
        cwd=where,
        env={**environ, "PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said.replace(environ["TOKEN"], "[token]")
    return done.stdout
