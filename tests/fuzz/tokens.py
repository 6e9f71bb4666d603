"""Rules for tokens, and for where they stand."""

from __future__ import annotations

from urllib.parse import quote_from_bytes

from tests.fuzz.grammar import CREDENTIALS, Asked, alternative


@alternative("how many tokens")
def _none(asked: Asked) -> int:
    return 0


@alternative("how many tokens", 16)
def _one(asked: Asked) -> int:
    return 1


@alternative("how many tokens", 2)
def _several(asked: Asked) -> int:
    return asked.pick(2, 2, 3)


@alternative("token", 10)
def _alices(asked: Asked) -> bytes:
    return _good(asked, "alice")


@alternative("token", 6)
def _bobs(asked: Asked) -> bytes:
    return _good(asked, "bob")


@alternative("token", 3)
def _an_administrators(asked: Asked) -> bytes:
    return _good(asked, "carol")


def _good(asked: Asked, who: str) -> bytes:
    asked.owners.add(who)
    return CREDENTIALS.good[who].encode()


@alternative("token")
def _never_seen(asked: Asked) -> bytes:
    who = asked.pick("alice", "bob")
    asked.owners.add(who)
    return CREDENTIALS.fresh(who, str(asked.random.getrandbits(40))).encode()


@alternative("token", 4)
def _bad(asked: Asked) -> bytes:
    return CREDENTIALS.bad[asked.pick(*CREDENTIALS.bad)].encode()


@alternative("token", 1.5)
def _odd(asked: Asked) -> bytes:
    token = _good(asked, asked.pick("alice", "bob"))
    place = asked.random.randint(0, len(token))
    odd = asked.pick(
        "é".encode(), b"\xff", b" ", b"\t", b"%0A", b"%00", b"%20", b"%C3%A9", b'"', b"'"
    )
    odd = asked.pick(odd, b"%", b"&", b"#", b"?", b"<", b"/", b"\\", b",", b";", b"=")
    return token[:place] + odd + token[place:]


@alternative("token")
def _encoded_token(asked: Asked) -> bytes:
    token = _good(asked, asked.pick("alice", "bob"))
    return b"".join(b"%%%02x" % byte if asked.chance(0.5) else bytes([byte]) for byte in token)


@alternative("token", 0.7)
def _garbage(asked: Asked) -> bytes:
    texts = (b"x", b"..", b"eyJhbGciOiJub25lIn0.e30.", b"null", b"-", b"A" * 5000)
    return asked.pick(*texts, quote_from_bytes(asked.noise(1, 40)).encode())


@alternative("place of the token", 12)
def _in_path(asked: Asked) -> None:
    asked.path += b"/" + asked.say("token")


@alternative("place of the token", 3)
@alternative("place of a socket's token")
def _bearer(asked: Asked) -> None:
    scheme = asked.pick(
        b"Bearer ", b"Bearer ", b"bearer ", b"BEARER  ", b"Bearer\t", b"Basic ", b""
    )
    asked.headers.append((b"Authorization", bytes(scheme) + asked.say("token")))


@alternative("place of the token", 3)
@alternative("place of a socket's token")
def _x_fastx_token(asked: Asked) -> None:
    asked.headers.append((asked.pick(b"X-FASTX-TOKEN", b"x-fastx-token"), asked.say("token")))


@alternative("place of the token", 3)
@alternative("place of a socket's token")
def _in_query(asked: Asked) -> None:
    name = asked.pick(b"token", b"token", b"token", b"%74oken", b"Token", b"token[]")
    asked.query += b"&" * bool(asked.query) + name + b"=" + asked.say("token")


@alternative("place of the token", 2)
def _in_body(asked: Asked) -> None:
    asked.form.append((b"token", asked.say("token")))


@alternative("place of the token", 0.5)
def _where_none_belongs(asked: Asked) -> None:
    name = asked.pick(b"Cookie", b"Referer", b"User-Agent", b"Proxy-Authorization", b"X-Token")
    before = asked.pick(b"", b"token=", b"https://x/api/list/", b"https://x/?a=b&token=", b"a ")
    asked.headers.append((name, bytes(before) + asked.say("token")))
