from __future__ import annotations

import base64
import hashlib
import hmac
import json
import multiprocessing
import os
import secrets
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list.config import ConfigError, load
from fastx_list.errors import AuthError
from fastx_list.tokens import MAX_REMEMBERED, MAX_TOKEN_LENGTH, Claims, Tokens, read_secret
from tests.support import ordinary_user

SECRET = secrets.token_hex(32)
HOUR = 3600.0
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def make_tokens(public_key: Path | None = None, secret: str = SECRET) -> Tokens:
    found = load({"FASTX_LIST_SECRET_KEY": secret, "FASTX_LIST_SERVER_ID": "server"})
    # Which may have gone since the settings were read
    return Tokens(replace(found, token_public_key=public_key))


def refusal(tokens: Tokens, token: str, *revoked: str) -> str:
    """Return the message of the error that ``token`` gets."""
    with pytest.raises(AuthError) as caught:
        tokens.verify(token, revoked)
    assert caught.value.message.startswith("token: ")
    if len(token) > 20:
        assert token not in caught.value.message
    return caught.value.message


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token, with ``changes``; ``...`` leaves a claim out."""
    good = {
        "sub": "alice",
        "iss": "portal",
        "aud": "api",
        "iat": int(time.time()),
        "exp": int(time.time() + HOUR),
        "jti": "1",
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not ...}


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(payload: object, secret: str | bytes = SECRET, header: object = None) -> str:
    """Return a token made from RFC 7515 by hand, since a library refuses to make most of what has
    to be refused."""
    head = json.dumps({"alg": "HS256", "typ": "JWT"} if header is None else header).encode()
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{base64url(head)}.{base64url(body)}"
    key = secret.encode() if isinstance(secret, str) else secret
    return f"{signed}.{base64url(hmac.digest(key, signed.encode(), hashlib.sha256))}"


@dataclass
class Clock:
    now: float


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock(float(int(time.time())))
    monkeypatch.setattr(time, "time", lambda: clock.now)
    return clock


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def rsa_file(tmp_path: Path, rsa_key: rsa.RSAPrivateKey) -> Path:
    path = tmp_path / "rsa.pem"
    path.write_bytes(public_pem(rsa_key))
    return path


@pytest.fixture
def ec_file(tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey) -> Path:
    path = tmp_path / "ec.pem"
    path.write_bytes(public_pem(ec_key))
    return path


# What we issue


def test_a_token_says_whose_it_is_and_until_when(clock: Clock) -> None:
    tokens = make_tokens()
    found = tokens.verify(tokens.issue("alice", HOUR), ())
    assert (found.login, found.expires, found.admin) == ("alice", clock.now + HOUR, False)
    assert found.jti


def test_a_token_has_the_documented_claims_and_no_others(clock: Clock) -> None:
    token = make_tokens().issue("alice", HOUR)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT"}
    found = jwt.decode(
        token,
        SECRET,
        algorithms=["HS256"],
        audience="api",
        options={"verify_exp": False, "verify_iat": False},
    )
    jti = found.pop("jti")
    assert found == {
        "sub": "alice",
        "iss": "server",
        "aud": "api",
        "iat": clock.now,
        "exp": clock.now + HOUR,
    }
    assert isinstance(jti, str) and len(jti) >= 16


def test_an_admins_token_says_so() -> None:
    tokens = make_tokens()
    assert tokens.verify(tokens.issue("alice", HOUR, admin=True), ()).admin is True


def test_no_two_tokens_have_the_same_id() -> None:
    tokens = make_tokens()
    assert len({tokens.verify(tokens.issue("alice", HOUR), ()).jti for _ in range(100)}) == 100


def test_a_token_is_good_on_every_server_with_the_secret() -> None:
    assert make_tokens().verify(make_tokens().issue("alice", HOUR), ()).login == "alice"


@settings(deadline=None)
@given(st.text(min_size=1, max_size=64).filter(str.isprintable), st.booleans())
def test_whatever_is_issued_for_a_printable_login_is_verified(login: str, admin: bool) -> None:
    tokens = make_tokens()
    found = tokens.verify(tokens.issue(login, HOUR, admin), ())
    assert (found.login, found.admin) == (login, admin)


# Time


def test_a_token_is_good_until_the_second_it_expires(clock: Clock) -> None:
    tokens = make_tokens()
    token = tokens.issue("alice", HOUR)
    clock.now += HOUR - 1
    assert tokens.verify(token, ()).login == "alice"
    clock.now += 1
    assert refusal(tokens, token) == "token: it has expired; get a new one"


def test_a_token_that_has_expired_is_refused_when_it_is_first_seen(clock: Clock) -> None:
    token = make_tokens().issue("alice", HOUR)
    clock.now += HOUR + 1
    assert "expired" in refusal(make_tokens(), token)


def test_a_token_that_was_verified_before_still_expires(clock: Clock) -> None:
    tokens = make_tokens()
    token = tokens.issue("alice", HOUR)
    assert tokens.verify(token, ()) is tokens.verify(token, ())  # it was remembered
    clock.now += HOUR
    assert "expired" in refusal(tokens, token)
    assert "expired" in refusal(tokens, token)


def test_a_token_may_expire_within_a_second() -> None:
    assert make_tokens().verify(sign(claims(exp=time.time() + HOUR + 0.5)), ()).login == "alice"


def test_a_portals_clock_may_be_ahead(clock: Clock) -> None:
    assert make_tokens().verify(sign(claims(iat=clock.now + 5)), ()).login == "alice"


def test_a_token_that_is_not_valid_yet_is_refused() -> None:
    assert (
        refusal(make_tokens(), sign(claims(nbf=time.time() + HOUR))) == "token: it is not valid yet"
    )
    assert make_tokens().verify(sign(claims(nbf=time.time() - HOUR)), ()).login == "alice"


@pytest.mark.parametrize(
    "expires",
    [
        float("inf"),
        float("-inf"),
        float("nan"),
        2**53,
        1e300,
        10**400,
        -1,
        -1e300,
        "1900000000",
        "never",
        True,
        [],
        {},
    ],
    ids=lambda value: repr(value)[:20],
)
def test_a_token_with_an_impossible_expiry_is_refused(expires: object) -> None:
    assert "takes a number of seconds" in refusal(make_tokens(), sign(claims(exp=expires)))


def test_an_expiry_of_as_many_digits_as_a_token_holds_is_refused() -> None:
    payload = json.dumps(claims(exp=0)).replace('"exp": 0', '"exp": ' + "9" * 2900).encode()
    assert '"exp"' in refusal(make_tokens(), sign(payload))


def test_a_token_that_expired_in_1970_has_expired() -> None:
    assert "expired" in refusal(make_tokens(), sign(claims(exp=0)))


# Claims


@pytest.mark.parametrize("name", ["exp", "aud", "sub"])
@pytest.mark.parametrize("value", [..., None], ids=["missing", "null"])
def test_a_token_without_a_required_claim_is_refused(name: str, value: object) -> None:
    message = refusal(make_tokens(), sign(claims(**{name: value})))
    assert f'"{name}" claim' in message


@pytest.mark.parametrize(
    "audience",
    ["other", "API", "", "api ", [], ["other"], 5, True, {"api": 1}, [["api"]], [5]],
    ids=repr,
)
def test_a_token_for_another_audience_is_refused(audience: object) -> None:
    refusal(make_tokens(), sign(claims(aud=audience)))


def test_the_message_for_another_audience_says_which_it_takes() -> None:
    assert (
        refusal(make_tokens(), sign(claims(aud="other"))) == 'token: its "aud" claim is not "api"'
    )


def test_a_token_may_be_for_other_audiences_too() -> None:
    assert make_tokens().verify(sign(claims(aud=["other", "api"])), ()).login == "alice"


@pytest.mark.parametrize(
    "login",
    [
        "",
        5,
        0,
        True,
        [],
        ["alice"],
        {},
        "\ud800",
        "alice\udfff",
        "a\nb",
        "a\0b",
        "\x1b[31m",
        "a\u202eb",
        "a\u200bb",
    ],
    ids=ascii,
)
def test_a_token_whose_sub_is_no_login_is_refused(login: object) -> None:
    refusal(make_tokens(), sign(claims(sub=login)))


@pytest.mark.parametrize(
    "login", ["x", "DOMAIN\\alice", "alice@example.org", "Jörg Müller", "1000", "🙂"]
)
def test_a_login_is_taken_as_it_is(login: str) -> None:
    assert make_tokens().verify(sign(claims(sub=login)), ()).login == login


@pytest.mark.parametrize(
    "admin, wanted",
    [
        (True, True),
        (False, False),
        (..., False),
        (None, False),
        ("true", False),
        (1, False),
        ([True], False),
        ({"a": 1}, False),
    ],
    ids=repr,
)
def test_only_the_boolean_true_makes_an_admin(admin: object, wanted: bool) -> None:
    assert make_tokens().verify(sign(claims(admin=admin)), ()).admin is wanted


def test_claims_of_a_portals_own_are_ignored() -> None:
    token = sign(
        claims(iss="https://portal.example.org", roles=["admin"], login="root", scope="admin")
    )
    assert make_tokens().verify(token, ()) == Claims("alice", jwt_expiry(token), "1", False)


def jwt_expiry(token: str) -> int:
    expires: int = jwt.decode(token, options={"verify_signature": False})["exp"]
    return expires


# Revocation


def test_a_revoked_token_is_refused() -> None:
    tokens = make_tokens()
    assert (
        refusal(tokens, sign(claims(jti="gone")), "gone")
        == "token: it has been revoked; get a new one"
    )


def test_a_token_that_was_verified_before_can_still_be_revoked() -> None:
    tokens = make_tokens()
    token = tokens.issue("alice", HOUR)
    jti = tokens.verify(token, ()).jti
    assert jti is not None
    assert "revoked" in refusal(tokens, token, jti)
    assert tokens.verify(token, ("another",)).login == "alice"


def test_revoking_one_token_leaves_the_others_of_the_login() -> None:
    tokens = make_tokens()
    assert tokens.verify(sign(claims(jti="kept")), ("gone",)).login == "alice"


def test_a_token_without_an_id_cannot_be_revoked() -> None:
    assert make_tokens().verify(sign(claims(jti=...)), ("1", "", "None")).jti is None


@pytest.mark.parametrize("jti", [5, 0, True, "", "\ud800", "a\nb", [], ["1"], {}], ids=ascii)
def test_a_token_whose_id_is_no_text_is_refused(jti: object) -> None:
    # It could not be revoked, and nobody would notice.
    refusal(make_tokens(), sign(claims(jti=jti)))


# Signatures


def test_a_token_made_by_hand_is_taken() -> None:
    # So the refusals below are for the reason they name
    assert make_tokens().verify(sign(claims()), ()).login == "alice"


def test_a_token_of_another_secret_is_refused() -> None:
    token = make_tokens(secret=secrets.token_hex(32)).issue("alice", HOUR)
    assert refusal(make_tokens(), token) == "token: its signature is not of this server's key"


def test_a_token_of_another_secret_is_refused_again() -> None:
    tokens = make_tokens()
    token = sign(claims(), secrets.token_hex(32))
    assert refusal(tokens, token) == refusal(tokens, token)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
@pytest.mark.parametrize("signature", ["", "AAAA"])
def test_a_token_without_a_signature_is_refused(name: str, signature: str) -> None:
    head, body, _ = sign(claims(), header={"alg": name, "typ": "JWT"}).split(".")
    assert "another algorithm" in refusal(make_tokens(), f"{head}.{body}.{signature}")


def test_a_token_whose_signature_was_cut_off_is_refused() -> None:
    head, body, _ = sign(claims()).split(".")
    refusal(make_tokens(), f"{head}.{body}.")
    refusal(make_tokens(), f"{head}.{body}")


@pytest.mark.parametrize("algorithm", ["HS384", "HS512"])
def test_a_token_of_another_algorithm_with_the_right_secret_is_refused(algorithm: str) -> None:
    token = jwt.encode(claims(), SECRET, algorithm=algorithm)
    message = refusal(make_tokens(), token)
    assert "another algorithm" in message and "HS256" in message


@pytest.mark.parametrize(
    "algorithm",
    ["hs256", "HS256 ", "RS256", "ES256", None, 5, ["HS256"], {"HS256": 1}, "\ud800"],
    ids=ascii,
)
def test_an_algorithm_must_be_named_exactly(algorithm: object) -> None:
    refusal(make_tokens(), sign(claims(), header={"alg": algorithm, "typ": "JWT"}))


def test_a_token_that_names_no_algorithm_is_refused() -> None:
    refusal(make_tokens(), sign(claims(), header={"typ": "JWT"}))


def test_a_token_with_an_extension_that_must_be_understood_is_refused() -> None:
    # RFC 7515 section 4.1.11
    refusal(make_tokens(), sign(claims(), header={"alg": "HS256", "crit": ["exp2"], "exp2": 1}))


@settings(deadline=None)
@given(st.data())
def test_a_token_with_a_changed_character_is_refused(data: st.DataObject) -> None:
    token = sign(claims())
    # The last character of the signature has two bits that say nothing.
    place = data.draw(st.integers(0, len(token) - 2).filter(lambda place: token[place] != "."))
    other = data.draw(st.sampled_from(ALPHABET).filter(lambda character: character != token[place]))
    refusal(make_tokens(), token[:place] + other + token[place + 1 :])


def test_the_claims_of_one_token_with_the_signature_of_another_are_refused() -> None:
    one, other = sign(claims(sub="alice")).split("."), sign(claims(sub="root")).split(".")
    assert "signature" in refusal(make_tokens(), ".".join((one[0], other[1], one[2])))


# A portal's own key pair


def test_a_token_signed_with_rsa_is_taken(rsa_file: Path, rsa_key: rsa.RSAPrivateKey) -> None:
    token = jwt.encode(claims(admin=True), rsa_key, algorithm="RS256")
    assert make_tokens(rsa_file).verify(token, ()) == Claims("alice", jwt_expiry(token), "1", True)


def test_a_token_signed_with_an_elliptic_curve_is_taken(
    ec_file: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    token = jwt.encode(claims(), ec_key, algorithm="ES256")
    assert make_tokens(ec_file).verify(token, ()) == Claims("alice", jwt_expiry(token), "1", False)


def test_our_own_tokens_are_good_beside_a_portals(rsa_file: Path) -> None:
    tokens = make_tokens(rsa_file)
    assert tokens.verify(tokens.issue("alice", HOUR), ()).login == "alice"


def test_a_portals_tokens_expire_and_are_revoked(
    clock: Clock, ec_file: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    tokens = make_tokens(ec_file)
    token = jwt.encode(claims(), ec_key, algorithm="ES256")
    assert tokens.verify(token, ()).login == "alice"
    assert "revoked" in refusal(tokens, token, "1")
    clock.now += HOUR
    assert "expired" in refusal(tokens, token)


@pytest.mark.parametrize("name", ["exp", "aud", "sub"])
def test_a_portals_tokens_need_the_same_claims(
    name: str, rsa_file: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    token = jwt.encode(claims(**{name: ...}), rsa_key, algorithm="RS256")
    assert f'"{name}" claim' in refusal(make_tokens(rsa_file), token)


def test_a_token_signed_with_another_rsa_key_is_refused(rsa_file: Path) -> None:
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert "signature" in refusal(
        make_tokens(rsa_file), jwt.encode(claims(), other, algorithm="RS256")
    )


def test_a_token_signed_with_another_elliptic_key_is_refused(ec_file: Path) -> None:
    token = jwt.encode(claims(), ec.generate_private_key(ec.SECP256R1()), algorithm="ES256")
    assert "signature" in refusal(make_tokens(ec_file), token)


def test_the_public_key_is_no_secret_to_sign_with(rsa_file: Path, ec_file: Path) -> None:
    # The classic confusion: what everybody may know must not verify as an HMAC key.
    for path in (rsa_file, ec_file):
        pem = path.read_bytes()
        for key in (pem, pem.strip(), pem.replace(b"\n", b"\r\n")):
            for algorithm in ("HS256", "RS256", "ES256"):
                refusal(
                    make_tokens(path), sign(claims(), key, header={"alg": algorithm, "typ": "JWT"})
                )


@pytest.mark.parametrize("algorithm", ["RS384", "RS512", "PS256", "PS512"])
def test_another_algorithm_of_the_same_key_is_refused(
    algorithm: str, rsa_file: Path, rsa_key: rsa.RSAPrivateKey
) -> None:
    message = refusal(make_tokens(rsa_file), jwt.encode(claims(), rsa_key, algorithm=algorithm))
    assert "another algorithm" in message and "HS256 and RS256" in message


def test_each_key_is_for_its_own_algorithm(
    rsa_file: Path, rsa_key: rsa.RSAPrivateKey, ec_file: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    assert "another algorithm" in refusal(
        make_tokens(rsa_file), jwt.encode(claims(), ec_key, algorithm="ES256")
    )
    assert "another algorithm" in refusal(
        make_tokens(ec_file), jwt.encode(claims(), rsa_key, algorithm="RS256")
    )


def test_a_key_pair_counts_only_where_it_is_configured(
    rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    assert "another algorithm" in refusal(
        make_tokens(), jwt.encode(claims(), rsa_key, algorithm="RS256")
    )
    assert "another algorithm" in refusal(
        make_tokens(), jwt.encode(claims(), ec_key, algorithm="ES256")
    )


def test_a_key_that_the_token_brings_along_does_not_count(ec_file: Path) -> None:
    own = ec.generate_private_key(ec.SECP256R1())
    point = own.public_key().public_numbers()
    x, y = (base64url(number.to_bytes(32, "big")) for number in (point.x, point.y))
    headers = {
        "jwk": {"kty": "EC", "crv": "P-256", "x": x, "y": y},
        "kid": "../../own",
        "jku": "https://own",
    }
    assert "signature" in refusal(
        make_tokens(ec_file), jwt.encode(claims(), own, algorithm="ES256", headers=headers)
    )


def unsupported_curve(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a well-formed PEM public key on a curve that nobody uses (X9.62 prime239v1)."""
    der = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert bytes.fromhex("2a8648ce3d030107") in der
    der = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d030104"))
    return b"-----BEGIN PUBLIC KEY-----\n" + base64.encodebytes(der) + b"-----END PUBLIC KEY-----\n"


@pytest.mark.parametrize(
    "kind",
    [
        "empty",
        "text",
        "bytes",
        "broken",
        "private",
        "short rsa",
        "P-384",
        "secp256k1",
        "ed25519",
        "unsupported curve",
    ],
)
def test_a_public_key_of_another_kind_is_refused(
    kind: str, tmp_path: Path, ec_key: ec.EllipticCurvePrivateKey
) -> None:
    path = tmp_path / "key.pem"
    keys: dict[str, Callable[[], bytes]] = {
        "empty": lambda: b"",
        "text": lambda: b"my public key",
        "bytes": lambda: bytes(range(256)),
        "broken": lambda: b"-----BEGIN PUBLIC KEY-----\nMFkw\n-----END PUBLIC KEY-----\n",
        "private": lambda: ec_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        "short rsa": lambda: public_pem(
            rsa.generate_private_key(public_exponent=65537, key_size=1024)
        ),
        "P-384": lambda: public_pem(ec.generate_private_key(ec.SECP384R1())),
        "secp256k1": lambda: public_pem(ec.generate_private_key(ec.SECP256K1())),
        "ed25519": lambda: public_pem(ed25519.Ed25519PrivateKey.generate()),
        "unsupported curve": lambda: unsupported_curve(ec_key),
    }
    path.write_bytes(keys[kind]())
    with pytest.raises(
        ConfigError, match="FASTX_LIST_TOKEN_PUBLIC_KEY takes a PEM public key"
    ) as caught:
        make_tokens(path)
    assert str(path) in str(caught.value)


def test_a_public_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="FASTX_LIST_TOKEN_PUBLIC_KEY"):
        make_tokens(tmp_path / "it has gone.pem")


def test_a_public_key_without_the_package_for_it_says_which_to_install(rsa_file: Path) -> None:
    program = (
        "import sys; sys.modules['cryptography'] = None\n"  # as if it were not installed
        "from fastx_list.config import ConfigError, load\n"
        "from fastx_list.tokens import Tokens\n"
        "try: Tokens(load())\n"
        "except ConfigError as error: print(error)\n"
    )
    environ = {
        **os.environ,
        "FASTX_LIST_SECRET_KEY": SECRET,
        "FASTX_LIST_TOKEN_PUBLIC_KEY": str(rsa_file),
    }
    done = subprocess.run(
        [sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=60
    )
    assert done.stderr == ""
    assert (
        done.stdout.strip()
        == "FASTX_LIST_TOKEN_PUBLIC_KEY needs one more package: pip install 'fastx-list[keys]'"
    )


# What is no token at all


@pytest.mark.parametrize(
    "token",
    [
        "",
        " ",
        ".",
        "..",
        "...",
        "a.b",
        "a.b.c",
        "a.b.c.d",
        "None",
        "\0",
        "\ud800",
        "é.é.é",
        "eyJ",
        "eyJhbGciOiJIUzI1NiJ9",
        "eyJhbGciOiJIUzI1NiJ9..",
        "Bearer x",
        "[token]",
    ],
    ids=ascii,
)
def test_garbage_is_refused(token: str) -> None:
    refusal(make_tokens(), token)


json_values = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
members = st.sampled_from(("alg", "typ", "b64", "crit", "kid", "x"))
objects = st.recursive(
    json_values,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(members, inner, max_size=3),
    max_leaves=4,
)
segments = (
    st.text(ALPHABET + "=+/ ", max_size=20)
    | objects.map(lambda value: base64url(json.dumps(value).encode()))
    | st.binary(max_size=20).map(base64url)
)


@settings(deadline=None, max_examples=300)
@given(st.text(st.characters(), max_size=100) | st.lists(segments, max_size=4).map(".".join))
def test_no_garbage_is_taken_and_none_makes_a_mess(token: str) -> None:
    refusal(make_tokens(), token)


@settings(deadline=None, max_examples=300)
@given(objects)
def test_no_signed_header_that_is_not_ours_makes_a_mess(header: Any) -> None:
    tokens, token = make_tokens(), sign(claims(), header={} if header is None else header)
    if not isinstance(header, dict) or header.get("alg") != "HS256":
        refusal(tokens, token)


@settings(deadline=None, max_examples=300)
@given(
    objects
    | st.dictionaries(
        st.sampled_from(("sub", "aud", "exp", "jti", "nbf", "iat", "iss", "admin")), objects
    )
)
def test_no_signed_claims_make_a_mess(payload: Any) -> None:
    if isinstance(payload, dict):
        payload = {**claims(), **payload}
    try:
        found = make_tokens().verify(sign(payload), ())
    except AuthError:
        return
    assert isinstance(payload, dict)
    assert found.login == payload["sub"] and found.login
    assert time.time() < found.expires < 2**53


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b'"alice"',
        b"5",
        b"{",
        b"\xff\xfe",
        b"{}\0",
        b"[" * 2900,
        b'{"a":' * 500,
        b'{"sub":"alice"}garbage',
    ],
    ids=lambda payload: ascii(payload)[:20],
)
def test_a_genuine_signature_under_no_claims_is_refused(payload: bytes) -> None:
    refusal(make_tokens(), sign(payload))


def test_a_token_of_4096_characters_is_taken_and_a_longer_one_is_not() -> None:
    def padded(size: int) -> str:
        return sign(claims(exp=2**33, iat=0, note="x" * size))

    size = next(size for size in range(2900, 3100) if len(padded(size)) > MAX_TOKEN_LENGTH)
    assert MAX_TOKEN_LENGTH == 4096
    assert len(padded(size - 1)) >= 4095
    assert make_tokens().verify(padded(size - 1), ()).login == "alice"
    assert (
        refusal(make_tokens(), padded(size))
        == "token: takes a JSON Web Token of at most 4096 characters"
    )


def test_a_very_long_text_is_refused_at_once() -> None:
    assert "at most 4096 characters" in refusal(make_tokens(), "x" * 10_000_000)


def test_more_tokens_than_are_remembered_are_all_verified() -> None:
    tokens = make_tokens()
    issued = [
        sign(claims(exp=2**33, iat=0, jti=str(number))) for number in range(MAX_REMEMBERED + 10)
    ]
    assert [tokens.verify(token, ()).jti for token in issued] == [
        str(number) for number in range(len(issued))
    ]
    assert len(tokens._verified) == MAX_REMEMBERED
    assert tokens.verify(issued[0], ()).jti == "0"
    assert "revoked" in refusal(tokens, issued[0], "0")


# The secret file


def write_secret(directory: Path, text: str, mode: int = 0o600) -> Path:
    path = directory / "secret"
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def config_error(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        read_secret(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_secret_is_made_that_only_its_owner_can_read(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "below" / "state" / "secret"
    before = os.umask(umask)
    try:
        secret = read_secret(path)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(secret) >= 64
    assert os.listdir(path.parent) == ["secret"]


def test_a_secret_that_is_there_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    assert read_secret(path) == read_secret(path) == path.read_text().strip()


def test_no_two_servers_have_the_same_secret(tmp_path: Path) -> None:
    assert read_secret(tmp_path / "a" / "secret") != read_secret(tmp_path / "b" / "secret")


def test_the_secret_that_root_makes_is_the_directory_owners(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir(0o700)
    if os.geteuid() == 0:
        os.chown(directory, 65534, 65534)
    read_secret(directory / "secret")
    made, owner = (directory / "secret").stat(), directory.stat()
    assert (made.st_uid, made.st_gid) == (owner.st_uid, owner.st_gid)


def test_tokens_are_signed_with_the_secret_of_the_state_directory(tmp_path: Path) -> None:
    def tokens() -> Tokens:
        return Tokens(load({"FASTX_LIST_STATE_DIR": str(tmp_path / "state")}))

    assert tokens().verify(tokens().issue("alice", HOUR), ()).login == "alice"
    assert (
        make_tokens(secret=read_secret(tmp_path / "state" / "secret"))
        .verify(tokens().issue("bob", HOUR), ())
        .login
        == "bob"
    )


def test_a_secret_that_is_given_is_not_kept_in_a_file(tmp_path: Path) -> None:
    Tokens(load({"FASTX_LIST_STATE_DIR": str(tmp_path), "FASTX_LIST_SECRET_KEY": SECRET}))
    assert os.listdir(tmp_path) == []


def read_when_all_are_ready(path: str, barrier: Barrier, answers: Queue[str]) -> None:
    barrier.wait(60)
    answers.put(read_secret(Path(path)))


def test_processes_that_start_at_once_get_the_same_secret(tmp_path: Path) -> None:
    # Each process of its own, not a fork: other tests may have left threads behind, with which
    # forking is not safe.
    context, count, path = multiprocessing.get_context("spawn"), 4, tmp_path / "state" / "secret"
    barrier, answers = context.Barrier(count), context.Queue()
    processes = [
        context.Process(target=read_when_all_are_ready, args=(str(path), barrier, answers))
        for _ in range(count)
    ]
    for process in processes:
        process.start()
    found = {answers.get(timeout=60) for _ in processes}
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    answers.close()
    answers.join_thread()
    assert found == {path.read_text().strip()}
    assert os.listdir(path.parent) == ["secret"]


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o601, 0o644, 0o666, 0o620, 0o660, 0o777], ids=oct)
def test_a_secret_that_is_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    path = write_secret(tmp_path, SECRET, mode)
    message = config_error(path)
    assert "open to other users" in message and f"chmod 600 {path}" in message
    assert SECRET not in message
    path.chmod(0o600)
    assert read_secret(path) == SECRET


@pytest.mark.parametrize("mode", [0o600, 0o400, 0o640], ids=oct)
def test_a_secret_may_be_readable_for_one_group(tmp_path: Path, mode: int) -> None:
    assert read_secret(write_secret(tmp_path, SECRET, mode)) == SECRET


@pytest.mark.parametrize("text", ["", "\n", "x" * 31, "x" * 31 + "\n", " " * 40])
def test_a_secret_that_is_too_short_is_refused(tmp_path: Path, text: str) -> None:
    assert "under 32 characters" in config_error(write_secret(tmp_path, text))


def test_a_secret_of_32_characters_is_taken_without_the_line_end(tmp_path: Path) -> None:
    assert read_secret(write_secret(tmp_path, "x" * 32 + "\n")) == "x" * 32


def test_a_secret_that_is_no_ascii_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_bytes(secrets.token_bytes(64) + b"\xff")
    path.chmod(0o600)
    assert "cannot be used" in config_error(path)


def test_a_secret_in_a_directory_that_may_not_be_entered_is_refused(tmp_path: Path) -> None:
    write_secret(tmp_path, SECRET)
    tmp_path.chmod(0)
    try:
        with ordinary_user():
            message = config_error(tmp_path / "secret")
    finally:
        tmp_path.chmod(0o700)
    assert "Permission denied" in message
    assert (
        "run as the user that owns it, or set FASTX_LIST_STATE_DIR or FASTX_LIST_SECRET_KEY"
        in message
    )


def test_a_secret_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with ordinary_user():
            message = config_error(tmp_path / "state" / "secret")
    finally:
        tmp_path.chmod(0o700)
    assert "cannot be used: Permission denied" in message


def test_a_state_directory_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    assert "cannot be used" in config_error(tmp_path / "state" / "secret")


def test_a_secret_that_is_a_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    assert "cannot be used: Is a directory" in config_error(tmp_path / "secret")


def test_a_secret_that_is_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").symlink_to(tmp_path / "nothing")
    assert "cannot be used" in config_error(tmp_path / "secret")
    assert os.listdir(tmp_path) == ["secret"]
