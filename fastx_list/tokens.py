"""Tokens: JSON Web Tokens (RFC 7519) that say whose sessions may be listed, and until when.

The algorithm is fixed by configuration: HS256 with the server's secret, and, where a portal's
public key is configured, RS256 or ES256 with that key. A token is verified once; after that only
its expiry and its revocation are looked at.
"""

from __future__ import annotations

import hmac
import logging
import os
import secrets
import stat
import time
import uuid
from collections import OrderedDict
from collections.abc import Container, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jwt

from fastx_list import config
from fastx_list.config import PREFIX, ConfigError, Settings, SettingsError
from fastx_list.errors import AuthError
from fastx_list.state import read_file, read_own, reason, write_new
from fastx_list.values import MIN_SECRET_BYTES

AUDIENCE = "api"
CODE_AUDIENCE = "code"
CODE_SECONDS = 60  # that the code of a link is good for
MAX_TOKEN_LENGTH = 4096
CLOCKS_DIFFER = 60  # seconds; some portals' libraries set "nbf" to now
LOOK_SECONDS = 1.0  # between two looks at the file of the secret
MAX_REMEMBERED = 10_000  # verified tokens, of well under 1 KiB each as a rule

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Claims:
    """What a verified token says: whose it is, until when (seconds since the Unix epoch), its id,
    and if it may see all."""

    login: str
    expires: int
    jti: str | None
    admin: bool
    # How often our secret had been replaced when it was verified with that; None with another key
    secret: int | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Code:
    """What a verified code says: its id, until when it is good (seconds since the Unix epoch), and
    the token that it is changed for: whose, for how many seconds, and if that may see all."""

    jti: str
    expires: int
    login: str
    ttl: int
    admin: bool


class Tokens:
    """Issues and verifies the tokens of one server."""

    def __init__(self, settings: Settings) -> None:
        """Raises :class:`ConfigError` if the secret or the public key cannot be used."""
        # Where the secret is kept, if a file holds it; which one of that name it was at the last
        # look, None if there was none, and when the next one is due, by the monotonic clock
        self._file = None if settings.secret_key else settings.secret_file
        self._version: tuple[int, ...] | None = ()
        self._next_look = time.monotonic() + LOOK_SECONDS
        # What our own tokens are signed with, and how often that was replaced
        self._secret = settings.secret_key or read_secret(settings.secret_file)
        self.replaced = 0
        self._server_id = settings.server_id  # who issues them
        # The algorithms that are taken, each with its key
        self._keys: dict[str, str | bytes] = {"HS256": self._secret}
        if settings.token_public_key:
            self._keys.update(_public_key(settings.token_public_key))
        # What good tokens say, in the order in which they were verified: the first makes room,
        # however often it is used, so that a look-up changes nothing
        self._verified: OrderedDict[str, Claims] = OrderedDict()

    def issue(self, login: str, ttl: float, admin: bool = False) -> str:
        """Return a token for ``login`` that is good for ``ttl`` seconds."""
        return self._sign(login, AUDIENCE, ttl, admin)

    def issue_code(self, login: str, ttl: float, admin: bool = False) -> str:
        """Return a code for a link, which is changed once, within a minute, for a token as
        :meth:`issue` makes it."""
        return self._sign(login, CODE_AUDIENCE, CODE_SECONDS, admin, ttl=int(ttl))

    def digest(self, text: str) -> bytes:
        """Return 32 bytes that nobody without the secret can tell from ``text``, and that sign no
        token, whatever that is."""
        signed = b"digest " + text.encode(errors="surrogatepass")
        return hmac.digest(self._secret.encode(), signed, "sha256")

    def _sign(self, login: str, audience: str, lasts: float, admin: bool, **more: object) -> str:
        now = int(time.time())
        claims: dict[str, object] = {
            "sub": login,
            "iss": self._server_id,
            "aud": audience,
            "iat": now,
            "exp": now + int(lasts),
            "jti": uuid.uuid4().hex,
            **more,
        }
        if admin:
            claims["admin"] = True
        return jwt.encode(claims, self._secret, algorithm="HS256")

    def read_code(self, code: str) -> Code:
        """Return what ``code`` says. Raises :class:`AuthError` unless it is genuine, of this
        server's own secret, and in time. Whether it was used the store knows."""
        self.refresh()
        try:
            payload = jwt.decode(
                code,
                self._secret,
                algorithms=["HS256"],
                audience=CODE_AUDIENCE,
                options={"require": ["exp", "aud", "sub", "jti", "ttl"], "verify_iat": False},
            )
        except jwt.ExpiredSignatureError:
            raise AuthError("code: it is too old; get a new link", is_guess=False) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise AuthError("code: it is none of this server's; get a new link") from None
        jti, expires, ttl = payload["jti"], int(payload["exp"]), int(payload["ttl"])
        return Code(jti, expires, payload["sub"], ttl, payload.get("admin") is True)

    def verify(self, token: str, revoked: Container[str]) -> Claims:
        """Return what ``token`` says. Raises :class:`AuthError` unless it is genuine, in time and
        not in ``revoked``."""
        self.refresh()
        claims = self._verified.get(token)
        if claims is None:
            claims = self._decode(token)
            self._verified[token] = claims
            if len(self._verified) > MAX_REMEMBERED:
                self._verified.popitem(last=False)
        if claims.expires <= time.time():
            raise AuthError("token: it has expired; get a new one", is_guess=False)
        if claims.jti in revoked:
            raise AuthError("token: it has been revoked; get a new one", is_guess=False)
        return claims

    def refresh(self) -> None:
        """Take the secret that is in its file now, once a second at most: whoever replaces it wants
        no token to hold that was signed with the former one, and tokens are issued with it. While
        there is none that can be used, the former one stays in force."""
        now = time.monotonic()
        if self._file is None or now < self._next_look:
            return
        self._next_look = now + LOOK_SECONDS
        version = _version(self._file)
        if version == self._version:
            return
        self._version = version
        try:
            secret = _secret_in(self._file)
        except FileNotFoundError:
            log.error(
                "the secret %s is gone; the former one stays in force until there is another: put"
                " it back, or whoever issues a token makes a new one, and those that are out end",
                self._file,
            )
            return
        except ConfigError as error:
            log.error("%s; until then the former one stays in force", error)
            return
        if secret != self._secret:
            log.warning(
                "the secret %s was replaced; tokens signed with the former one no longer hold",
                self._file,
            )
            self._secret = self._keys["HS256"] = secret
            self._verified.clear()
            self.replaced += 1

    def knows(self, token: str) -> bool:
        """Return whether ``token`` was verified not long ago, so that verifying it again costs next
        to nothing."""
        return token in self._verified

    def _decode(self, token: str) -> Claims:
        if len(token) > MAX_TOKEN_LENGTH:
            raise AuthError(
                f"token: takes a JSON Web Token of at most {MAX_TOKEN_LENGTH} characters"
            )
        try:
            algorithm = str(jwt.get_unverified_header(token).get("alg"))
            key = self._keys.get(algorithm)
            if key is None:
                raise AuthError(
                    "token: it is signed with another algorithm; this server takes"
                    f" {' and '.join(self._keys)}"
                )
            # `iat` is not compared with our clock: a portal whose clock is a second ahead issues
            # good tokens.
            payload = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=AUDIENCE,
                leeway=CLOCKS_DIFFER,  # of "nbf"; we look at "exp" ourselves
                options={
                    "require": ["exp", "aud", "sub"],
                    "verify_iat": False,
                    "verify_exp": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise AuthError(f'token: its "aud" claim is not "{AUDIENCE}"', is_guess=False) from None
        except jwt.MissingRequiredClaimError as error:
            raise AuthError(f'token: it has no "{error.claim}" claim', is_guess=False) from None
        except jwt.InvalidSignatureError:
            raise AuthError("token: its signature is not of this server's key") from None
        except jwt.ImmatureSignatureError:
            raise AuthError("token: it is not valid yet", is_guess=False) from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise AuthError("token: it is not a well-formed JSON Web Token") from None
        return _claims(payload, self.replaced if key is self._secret else None)


def check(settings: Settings) -> None:
    """Raise :class:`ConfigError` if :class:`Tokens` would; nothing is made."""
    if not settings.secret_key:
        with suppress(FileNotFoundError):
            _secret_in(settings.secret_file)
    if settings.token_public_key:
        _public_key(settings.token_public_key)


def fingerprint(settings: Settings) -> str | None:
    """Return :func:`fastx_list.config.fingerprint` of ``settings``, keyed by the secret that is in
    force; ``None`` while there is none that can be used. Nothing is made."""
    try:
        return config.fingerprint(settings, settings.secret_key or _secret_in(settings.secret_file))
    except (FileNotFoundError, ConfigError):
        return None


def _claims(payload: Mapping[str, Any], secret: int | None) -> Claims:
    """Return the claims of a token whose signature is good."""
    login, expires, jti = payload["sub"], payload["exp"], payload.get("jti")
    if not _is_text(login):
        raise AuthError('token: its "sub" claim takes a login', is_guess=False)
    if (
        isinstance(expires, bool)
        or not isinstance(expires, (int, float))
        or not 0 <= expires < 2**53
    ):
        raise AuthError('token: its "exp" claim takes a number of seconds', is_guess=False)
    if jti is not None and not _is_text(jti):
        raise AuthError('token: its "jti" claim takes text', is_guess=False)
    return Claims(login, int(expires), jti, payload.get("admin") is True, secret)


def _is_text(value: object) -> bool:
    # So it holds no surrogates either
    return isinstance(value, str) and value != "" and value.isprintable()


def read_secret(path: Path) -> str:
    """Return the secret at ``path``; make it, with mode 0600, if there is none yet.

    Of several processes that start at once, all get the same. Raises :class:`ConfigError` if it
    cannot be read or made, if others can read it, or if it is too short.
    """
    try:
        return _secret_in(path)
    except FileNotFoundError:
        try:
            write_new(path, secrets.token_hex(32) + "\n")
            return _secret_in(path)
        except OSError as error:
            raise _unusable(path, error) from None


def _version(path: Path) -> tuple[int, ...] | None:
    """Return what tells a file from what it was before; ``None`` if it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns, status.st_size, status.st_mode


def _unusable(path: Path, error: Exception) -> ConfigError:
    return ConfigError(
        f"the secret {path} cannot be used: {reason(error)}; run as the user that owns it, or set"
        f" {PREFIX}STATE_DIR or {PREFIX}SECRET_KEY"
    )


def _secret_in(path: Path) -> str:
    """Return the secret at ``path``. Raises ``FileNotFoundError``, else :class:`ConfigError`."""
    try:
        data, status = read_own(path)
        secret = data.decode().strip()
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        raise _unusable(path, error) from None
    if status.st_mode & (stat.S_IRWXO | stat.S_IWGRP):
        raise ConfigError(
            f"the secret {path} is open to other users; close it with: chmod 600 {path}"
        )
    if len(secret) < MIN_SECRET_BYTES:
        raise ConfigError(
            f"the secret {path} has under {MIN_SECRET_BYTES} characters; remove it, and a new one"
            " is made"
        )
    return secret


def _public_key(path: Path) -> dict[str, bytes]:
    """Return the key at ``path`` (PEM) under the one algorithm that fits its kind.

    Raises :class:`SettingsError`.
    """
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives.asymmetric import ec, rsa
        from cryptography.hazmat.primitives.serialization import load_pem_public_key
    except ImportError:
        raise SettingsError(
            f"{PREFIX}TOKEN_PUBLIC_KEY needs one more package: pip install 'fastx-list[keys]'"
        ) from None
    try:
        pem, _ = read_file(path)
    except OSError as error:
        raise SettingsError(
            f"{PREFIX}TOKEN_PUBLIC_KEY: {path} cannot be read: {error.strerror or error}"
        ) from None
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= 2048:  # RFC 7518 section 3.3
        return {"RS256": pem}
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return {"ES256": pem}
    raise SettingsError(
        f"{PREFIX}TOKEN_PUBLIC_KEY takes a PEM public key, RSA of at least 2048 bits or EC P-256;"
        f" {path} holds none"
    )
