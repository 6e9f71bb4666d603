"""Tokens made by hand, good and bad, and what is said to them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fastx_list.config import load
from fastx_list.errors import AuthError
from fastx_list.tokens import Tokens

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


def jwt_expiry(token: str) -> int:
    expires: int = jwt.decode(token, options={"verify_signature": False})["exp"]
    return expires


def public_pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass
class Clock:
    now: float
