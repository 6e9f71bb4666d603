"""What the fuzzer asks about: sessions of three logins with a canary in every member and param that
can hold one, and tokens for them, good and bad. Nothing of it differs from run to run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fastx_list.config import load
from fastx_list.model.session import Session
from fastx_list.store import Store, open_store
from tests.tokens.common import base64url, sign

# A canary has one of two marks of its login: a text, or digits that no ETag holds by chance.
MARKS = {
    "alice": ("qzalcanary", "777101888"),
    "bob": ("qzbocanary", "777202888"),
    "carol": ("qzcacanary", "777303888"),  # an administrator
    "nobody": ("qznocanary", "777404888"),  # who has nothing, and writes nothing
}
LOGINS = {name: f"{text}.login" for name, (text, _) in MARKS.items()}
SECRET = "the fuzzer's secret, and nobody else's"
ORIGIN = "https://portal.example"
PARAM_NAMES = ("name", "tag", "größe", "clients", "a.b", "n1", "n2", "n3")
SESSIONS = 5  # of each login
_PIECE = 15  # characters
_FAR = 2**40  # seconds since the epoch
# Begins the payload of every token, so that any piece of any of them is known in a log
_NOTE = "MARKMARKmarkmarkMaRkMaRkmArKmArK0123"


def canary(who: str, name: str) -> str:
    return f"{MARKS[who][0]}.{name}"


def session_id(who: str, number: int) -> str:
    return canary(who, f"id{number}")


def _sessions(who: str) -> dict[str, Session]:
    digits = MARKS[who][1]
    found = {}
    for number in range(SESSIONS):

        def text(name: str, number: int = number) -> str:
            return canary(who, f"{name}{number}")

        def count(place: int, number: int = number) -> int:
            return int(f"{digits}{place}{number}")

        found[text("id")] = Session(
            id=text("id"),
            login=LOGINS[who],
            server_id=canary(who, "server"),
            hostname=text("host"),
            server_pid=int(digits),
            geometry=f"{digits[3:8]}x{digits[:5]}",
            window_mode="desktop",
            started=count(2),
            last_connect=count(3),
            last_disconnect=None if number else count(4),
            command=text("command") + " ÄÖ",
            app_pid=int(digits),
            clients=number % 3,
            display=number,
            cpu_percentage=float(count(7)),
            video_ram=count(8),
            sharing=bool(number % 2),
            disconnect_timeout=count(9),
            params={"name": text("name"), "tag": "x", "n1": count(10)},
        )
    return found


class Credentials:
    """Tokens by what is right or wrong with them."""

    def __init__(self) -> None:
        self.good = {who: _token(who) for who in ("alice", "bob", "carol")}
        signature = self.good["bob"].rpartition(".")[2]
        unsigned = self.good["alice"].rpartition(".")[0]
        body = unsigned.partition(".")[2]
        self.bad = {
            "expired": _token("alice", exp=1_000_000_000),
            "revoked": _token("bob", jti="revoked"),
            "forged": _token("bob", secret="another secret of more than thirty-two bytes"),
            "for another": _token("bob", aud="web"),
            "none": base64url(b'{"alg":"none"}') + f".{body}.",
            "none signed": _token("bob", header={"alg": "none"}),
            "HS512": _token("bob", header={"alg": "HS512", "typ": "JWT"}),
            "RS256": _token("bob", header={"alg": "RS256", "kid": "../../etc/passwd"}),
            "alg is a list": _token("bob", header={"alg": ["HS256"]}),
            "crit": _token("bob", header={"alg": "HS256", "crit": ["x"], "b64": False, "x": 1}),
            "header is an array": base64url(b"[]") + f".{body}.{signature}",
            "spliced": f"{unsigned}.{signature}",
            "half": self.good["alice"][:70],
            "no login": sign({"note": _NOTE, "aud": "api", "exp": _FAR}, SECRET),
            "login is a number": _token("bob", sub=7),
            "login is a surrogate": _token("bob", sub="\ud800"),
            "exp is huge": _token("bob", exp=10**400),
            "exp is text": _token("bob", exp="soon"),
            "exp is no number": sign(b'{"sub":"bob","aud":"api","exp":NaN}', SECRET),
            "jti is an object": _token("bob", jti={}),
            "deep": sign(b'{"sub":' + b"[" * 2500 + b"]" * 2500 + b"}", SECRET),
            "an administrator's, says a login": _token("bob", secret="x" * 32, admin=True),
        }

    def fresh(self, who: str, jti: str) -> str:
        """Return a good token that nobody has shown before."""
        return _token(who, jti=jti)

    def pieces(self) -> list[bytes]:
        """Return pieces of what is secret in a token. Shorter ones than these may be in a log:
        those that odd bytes in a token have cut off."""
        secret = [base64url(json.dumps({"note": _NOTE}).encode())[: _PIECE * 4]]
        secret += [token.rpartition(".")[2] for token in self.good.values()]
        return [
            text[start : start + _PIECE].encode()
            for text in secret
            for start in range(0, len(text) - _PIECE, _PIECE)
        ]


def _token(who: str, secret: str = SECRET, header: Any = None, **claims: Any) -> str:
    payload = {"note": _NOTE, "sub": LOGINS[who], "aud": "api", "exp": _FAR, "jti": who}
    if who == "carol":
        payload["admin"] = True
    return sign({**payload, **claims}, secret, header)


def settings(state: Path) -> dict[str, str]:
    """Return the environment of a product that is asked: with all that may be switched on."""
    return {
        "FASTX_LIST_STATE_DIR": str(state),
        "FASTX_LIST_SECRET_KEY": SECRET,
        "FASTX_LIST_SERVER_ID": "here",
        "FASTX_LIST_ALLOWED_ORIGINS": ORIGIN,
        "FASTX_LIST_TRUSTED_PROXIES": "127.0.0.1",
    }


def fill(state: Path) -> Store:
    """Make a store with the sessions, and return it."""
    state.mkdir(mode=0o700, exist_ok=True)
    store = open_store(load(settings(state)).store)
    for who in ("alice", "bob", "carol"):
        store.observe(canary(who, "server"), _sessions(who))
    store.revoke({"revoked": _FAR})
    return store
