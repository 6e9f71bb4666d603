from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from fastx_list.model.server import Server
from fastx_list.store import Lease, Store
from tests.answers import Issue, Observe, error, ids
from tests.conftest import session
from tests.live.clients import take
from tests.support import Service


@pytest.fixture
def sessions(observe: Observe) -> None:
    observe(
        session("a", started=1, clients=1),
        session("b", "bob", started=2, clients=0),
        session("c", "carol", started=3, clients=2),
    )


@pytest.mark.usefixtures("sessions")
def test_an_administrator_sees_all_logins(client: FlaskClient, token: Issue) -> None:
    admin = token("root", admin=True)
    for _ in range(2):  # the second time it is answered by the short cut
        assert ids(client.get(f"/api/admin/session/{admin}")) == ["a", "b", "c"]
    assert ids(client.get("/api/admin/session", headers={"Authorization": f"Bearer {admin}"})) == [
        "a",
        "b",
        "c",
    ]
    assert ids(
        client.post(
            f"/api/admin/session/{admin}", json={"filter": "login==bob,carol", "sortReverse": True}
        )
    ) == ["c", "b"]
    page = client.get(f"/api/admin/session/{admin}?sortBy=clients&sortReverse=1&limit=2")
    assert ids(page) == ["c", "a"] and page.headers["X-Total-Count"] == "3"
    assert (
        client.get(
            f"/api/admin/session/{admin}", headers={"If-None-Match": page.headers["ETag"]}
        ).status_code
        == 200
    )


@pytest.mark.usefixtures("sessions")
def test_their_own_list_stays_their_own(client: FlaskClient, token: Issue) -> None:
    assert ids(client.get(f"/api/list/{token('bob', admin=True)}")) == ["b"]


@pytest.mark.usefixtures("sessions")
def test_nobody_else_sees_any(client: FlaskClient, token: Issue) -> None:
    alice = token("alice")
    client.get(f"/api/list/{alice}")  # from here on the token is a known one
    for method, path in (
        ("GET", f"/api/admin/session/{alice}"),
        ("POST", f"/api/admin/session?token={alice}"),
    ):
        answer = client.open(path, method=method)
        message = error(answer, 403, "Forbidden")
        assert "admin" in message and "bob" not in message
    assert client.get("/api/admin/session/x").status_code == 401


def test_changes_of_all_logins_are_told(service: Service, observe: Observe) -> None:
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live()
    url = service.live_url.replace("/api/list", "/api/admin/session")
    with pytest.raises(InvalidStatus) as refused, connect(f"{url}?token={service.token('alice')}"):
        pass
    assert refused.value.response.status_code == 403
    observe(session("a", clients=0), session("b", "bob", clients=0))
    with connect(
        f"{url}?token={service.token('root', admin=True)}&filter=clients==0,1"
    ) as connection:
        assert {take(connection)[0], take(connection)[0]} == {"a", "b"}
        observe(session("b", "bob", clients=1), session("c", "carol"))
        changes = dict([take(connection), take(connection)])
        assert changes["a"] is None and changes["b"] is not None and changes["b"]["clients"] == 1


@pytest.fixture
def servers(store: Store) -> None:
    for name, cpu in (("north", 7.5), ("south", 50.0)):
        store.heartbeat(Server(name, f"{name}.example.org", cpu=cpu), Lease(name, "1", name, 3600))


@pytest.mark.usefixtures("servers")
def test_an_administrator_sees_the_servers(client: FlaskClient, token: Issue) -> None:
    admin = token("root", admin=True)
    for _ in range(2):
        answer = client.get(f"/api/admin/server/{admin}?sortBy=cpu&sortReverse=1")
        assert ids(answer) == ["south", "north"]
    assert ids(
        client.post(
            "/api/admin/server", data={"token": admin, "filter": "hostname==north.example.org"}
        )
    ) == ["north"]
    assert (
        " ".join((answer.json or [{}])[0])
        == "serverId id serverPool hostname url cpu freemem totalmem loggedInUsers sessions uptime"
        " loadavg problems version rights settings lastLook lookSeconds"
    )
    alice = token("alice")
    client.get(f"/api/list/{alice}")
    assert "admin" in error(client.get(f"/api/admin/server/{alice}"), 403, "Forbidden")


def test_changes_of_servers_are_told(service: Service, store: Store) -> None:
    service.environ["FASTX_LIST_SERVER_ID"] = "here"
    service.start_live()
    lease = Lease("north", "1", "north", 2)
    store.heartbeat(Server("north", "north.example.org", sessions=1), lease)
    url = service.live_url.replace("/api/list", "/api/admin/server")
    with connect(f"{url}?token={service.token('root', admin=True)}") as connection:
        name, data = take(connection)
        assert name == "north" and data is not None and data["sessions"] == 1
        store.heartbeat(Server("north", "north.example.org", sessions=2), lease)
        assert (take(connection)[1] or {})["sessions"] == 2
        assert take(connection) == ("north", None)  # its lease has run out
