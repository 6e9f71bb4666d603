"""Ways to reach Redis: databases, passwords, users and TLS."""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis as client_library

from fastx_list.store import StoreError, open_store, redis_errors
from fastx_list.store.redis_address import Address
from tests.redis_server import RedisServer, redis_server
from tests.store.common import by_id, make_lease, make_session, params_in, running_in
from tests.support import program

pytestmark = pytest.mark.usefixtures("patient")


def _is_usable(url: str) -> bool:
    store = open_store(url)
    store.observe("s1", by_id(make_session(params={"a": 1})), make_lease())
    found: bool = params_in(store) == {"a": 1}
    store.close()
    return found


def test_each_database_and_each_prefix_is_a_store_of_its_own(
    shared_redis: RedisServer, prefix: str
) -> None:
    stores = [
        open_store(f"{shared_redis.url}/{database}?prefix={name}")
        for database in (4, 5)
        for name in (prefix, prefix + "x")
    ]
    for number, store in enumerate(stores):
        store.observe("s1", by_id(*(make_session(each) for each in range(number))))
    assert [len(running_in(store)) for store in stores] == [0, 1, 2, 3]
    for store in stores:
        store.close()


def test_a_password_is_taken_from_the_url_or_from_a_file_that_may_change(tmp_path: Path) -> None:
    password, file = secrets.token_hex(8), tmp_path / "password"
    with redis_server(requirepass=password) as server:
        assert _is_usable(f"redis://:{password}@127.0.0.1:{server.port}")
        file.write_text("not yet")
        store = open_store(f"{server.url}?password_file={file}")
        for url in (server.url, f"redis://:wrong{password}@127.0.0.1:{server.port}"):
            with pytest.raises(StoreError, match="does not take the password") as caught:
                open_store(url).snapshot()
            assert password not in str(caught.value)
        with pytest.raises(StoreError, match="does not take the password"):
            store.snapshot()
        file.write_text(password + "\n")
        store.close()
        store = open_store(f"{server.url}?password_file={file}")
        assert running_in(store).keys() == {"s1-1"}
        store.close()


def test_an_error_that_repeats_the_password_is_told_without_it() -> None:
    password = secrets.token_hex(8)
    error = redis_errors.store_error(
        client_library.ConnectionError(f"no {password} here"),
        Address((("host", 6379),), password=password),
    )
    assert str(error) == "the store, Redis at host:6379, database 0, cannot be used: no *** here"


def test_a_user_that_may_not_do_everything_is_told(shared_redis: RedisServer, prefix: str) -> None:
    password = secrets.token_hex(8)
    with shared_redis.client() as client:
        client.execute_command("ACL", "SETUSER", prefix, "on", f">{password}", "~*", "+get")
        with pytest.raises(StoreError, match="ACL SETUSER"):
            open_store(f"redis://{prefix}:{password}@127.0.0.1:{shared_redis.port}").snapshot()
        # What docs/several-machines.md says is enough.
        client.execute_command(
            "ACL",
            "SETUSER",
            prefix,
            "resetkeys",
            f"~{{{prefix}}}:1:*",
            "+@read",
            "+@write",
            "+@scripting",
            "+@transaction",
            "+time",
            "+select",
        )
        assert _is_usable(
            f"redis://{prefix}:{password}@127.0.0.1:{shared_redis.port}/2?prefix={prefix}"
        )
        client.execute_command("ACL", "DELUSER", prefix)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a server's certificate for 127.0.0.1 and a client's, all made now."""
    directory = tmp_path_factory.mktemp("certificates")
    openssl = program("openssl", "openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=directory, check=True, capture_output=True)

    def make(name: str, *extensions: str, by: Sequence[str] = ()) -> None:
        new = (
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2"
            f" -keyout {name}.key -out {name}.pem -subj /CN={name}"
        )
        added = (part for extension in extensions for part in ("-addext", extension))
        run(*new.split(), *by, *added)

    # All that RFC 5280 asks for, since Python 3.13 does too
    make("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign")
    for name in ("server", "client"):
        make(
            name,
            "basicConstraints=critical,CA:FALSE",
            "keyUsage=critical,digitalSignature",
            f"extendedKeyUsage={name}Auth",
            "subjectAltName=IP:127.0.0.1",
            by=("-CA", "ca.pem", "-CAkey", "ca.key"),
        )
        run("verify", "-x509_strict", "-purpose", f"ssl{name}", "-CAfile", "ca.pem", f"{name}.pem")
    return directory


def test_over_tls_both_sides_show_who_they_are(certificates: Path) -> None:
    options = {
        "tls_cert_file": str(certificates / "server.pem"),
        "tls_key_file": str(certificates / "server.key"),
        "tls_ca_cert_file": str(certificates / "ca.pem"),
    }
    with redis_server(**options) as server:
        with server.client() as client:
            client.config_set("port", "0")
            client.config_set("tls-port", str(server.port))
        url = f"rediss://127.0.0.1:{server.port}?ca={certificates / 'ca.pem'}"
        pair = f"&cert={certificates / 'client.pem'}&key={certificates / 'client.key'}"
        assert _is_usable(url + pair)
        for wrong in (url, f"rediss://127.0.0.1:{server.port}?{pair[1:]}", server.url):
            with pytest.raises(StoreError, match=f"Redis at 127.0.0.1:{server.port}"):
                open_store(wrong).snapshot()
