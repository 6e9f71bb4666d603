"""A portal's own key pair, whose public key we are given."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from fastx_list.config import ConfigError
from fastx_list.tokens import Claims
from tests.tokens.common import (
    HOUR,
    SECRET,
    Clock,
    base64url,
    claims,
    jwt_expiry,
    make_tokens,
    public_pem,
    refusal,
    sign,
)


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
        ConfigError, match="^FASTX_LIST_TOKEN_PUBLIC_KEY takes a PEM public key"
    ) as caught:
        make_tokens(path)
    assert str(path) in str(caught.value)


def test_a_public_key_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="^FASTX_LIST_TOKEN_PUBLIC_KEY: .*No such file"):
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
