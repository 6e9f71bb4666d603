"""Rules for addresses, and for what is asked in the query."""

from __future__ import annotations

from urllib.parse import quote, quote_from_bytes

from fastx_list.api import addresses
from fastx_list.model.session import MEMBERS
from tests.fuzz.grammar import Asked, alternative, literals
from tests.fuzz.world import MARKS, PARAM_NAMES, canary

LISTINGS = [address.encode() for address in addresses.LISTINGS]
PARAMS = addresses.PARAMS.encode()
PAST = [
    address.encode()
    for address in (
        addresses.HISTORY,
        addresses.ALL_HISTORY,
        addresses.EVENTS,
        addresses.ALL_EVENTS,
    )
]
_OTHERS = (addresses.HEALTH, addresses.READY, addresses.OPENAPI, addresses.ASYNCAPI)
_NAMES = [*MEMBERS, *PARAM_NAMES, *(f"params.{name}" for name in PARAM_NAMES)]


def address_it(asked: Asked) -> None:
    """Give it a method, an address, a token and a query."""
    asked.method = asked.say("method")
    asked.address = asked.path = asked.say("address")
    if asked.address == PARAMS and asked.chance(0.9):
        asked.method = b"POST"
    if asked.target == "live" and asked.chance(0.97):
        asked.method = b"GET"
    for _ in range(asked.say("how many tokens")):
        is_socket = asked.target == "live" and asked.chance(0.9)
        asked.say("place of a socket's token" if is_socket else "place of the token")
    if asked.chance(0.15):
        asked.path = asked.say("path")
    if b"?" in asked.path:  # what is said of the first parameter belongs to something else
        asked.is_odd()
    pairs = [asked.say("parameter") for _ in range(asked.random.choice((0, 0, 1, 1, 2, 3, 4)))]
    asked.query = b"&".join(filter(None, [asked.query, *pairs]))


literals("method", b"GET", weight=12)
literals("method", b"POST", weight=6)
literals("method", b"HEAD", b"OPTIONS", weight=0.7)
literals("method", b"PUT", b"DELETE", b"PATCH", b"TRACE", b"PROPFIND", b"get", weight=0.15)
literals("method", b"M-SEARCH", b"G" * 60, weight=0.1)

literals("address", LISTINGS[0], weight=12)
literals("address", *LISTINGS[1:], PARAMS, weight=3)
literals("address", *PAST, weight=1)
literals("address", *(address.encode() for address in _OTHERS), weight=0.1)
literals("address", b"/", b"/docs", b"/static/page.js", b"/static/../wsgi.py", weight=0.1)
literals("address", b"/api", b"/api/", b"/api/lists", b"/api/admin", b"/api/lost", weight=0.1)


# What happens to the path with its token


@alternative("path")
def _slash_at_the_end(asked: Asked) -> bytes:
    return asked.path + b"/"


@alternative("path")
def _double_slashes(asked: Asked) -> bytes:
    return asked.path.replace(b"/", b"//", asked.pick(1, 2, 9))


@alternative("path")
def _dots(asked: Asked) -> bytes:
    return asked.path.replace(b"/", asked.pick(b"/./", b"/x/../", b"/%2e%2e/", b"/..;/"), 2)


@alternative("path")
def _encoded(asked: Asked) -> bytes:
    share = asked.pick(0.1, 0.5, 1)
    letters = (bytes([byte]) for byte in asked.path)
    return b"".join(b"%%%02X" % ord(each) if asked.chance(share) else each for each in letters)


@alternative("path")
def _encoded_slashes(asked: Asked) -> bytes:
    return b"/" + asked.path[1:].replace(b"/", asked.pick(b"%2F", b"%2f", b"%252F", b"\\"))


@alternative("path")
def _other_case(asked: Asked) -> bytes:
    return asked.path.replace(b"/api/", b"/API/").replace(b"list", b"List")


@alternative("path")
def _more_behind(asked: Asked) -> bytes:
    return asked.path + asked.pick(b"/x", b"/%00", b";x=1", b".json", b"%0d%0aX-A:b", b"%20", b"#x")


@alternative("path")
def _odd_letters(asked: Asked) -> bytes:
    place = asked.random.randint(1, len(asked.path))
    odd = asked.pick(
        "é".encode(), b"\xff", b"%FF%FE", b"%", b"%zz", b"%u0041", b"\x7f", b"%E2%80%AE"
    )
    return asked.path[:place] + bytes(odd) + asked.path[place:]


@alternative("path")
def _absolute(asked: Asked) -> bytes:
    return asked.pick(b"http://list.example", b"http://[", b"//x", b"ws://a@b:c") + asked.path


@alternative("path")
def _no_path(asked: Asked) -> bytes:
    return asked.pick(b"*", b"", b"list.example:443", b"?", b"#")


@alternative("path")
def _near_miss(asked: Asked) -> bytes:
    place = asked.random.randint(1, len(asked.path))
    return asked.path[: place - 1] + asked.path[place:]


@alternative("path", 0.3)
def _long(asked: Asked) -> bytes:
    return asked.path + b"/" + b"a" * asked.pick(3000, 7000, 8100, 9000)


# Parameters. What is usual and well-formed is noted for the oracle


def _usual(asked: Asked, name: str, value: str) -> bytes:
    if asked.meaning is not None and value:  # an empty one is none
        if name == "filter":
            asked.meaning.setdefault(name, []).append(value)
        elif name in asked.meaning:
            asked.is_odd()
        else:
            asked.meaning[name] = value
    spelt = asked.say("spelling of filter") if name == "filter" else name.encode()
    return bytes(spelt) + b"=" + quote(value, safe="").encode()


literals("spelling of filter", b"filter", weight=8)
literals("spelling of filter", b"filter[]", b"filter[0]", b"filter%5B%5D", b"filter%5b17%5d")


@alternative("parameter", 3)
def _limit(asked: Asked) -> bytes:
    return _usual(asked, "limit", str(asked.pick(0, 1, 2, 3, 100, 10**30, "007", -1, "x", 1.5, "")))


@alternative("parameter", 3)
def _start(asked: Asked) -> bytes:
    return _usual(asked, "start", str(asked.pick(0, 1, 2, 5, 10**999, "٣", "1e3", "0x1", "+1")))


@alternative("parameter", 4)
def _sort_by(asked: Asked) -> bytes:
    return _usual(asked, "sortBy", asked.pick(*_NAMES, "nothing", "params", "x" * 257, "é" * 256))


@alternative("parameter", 2)
def _sort_reverse(asked: Asked) -> bytes:
    return _usual(
        asked, "sortReverse", asked.pick("true", "false", "1", "0", "yes", "OFF", "x", "2")
    )


@alternative("parameter", 8)
def _filter(asked: Asked) -> bytes:
    return _usual(asked, "filter", asked.say("filter"))


@alternative("parameter", 0.3)
def _many_filters(asked: Asked) -> bytes:
    many = asked.pick(31, 32, 33, 100)
    return b"&".join(_usual(asked, "filter", f"name=={place}") for place in range(many))


@alternative("parameter")
def _cache_buster(asked: Asked) -> bytes:
    return b"_=%d" % asked.random.getrandbits(40)


@alternative("parameter", 2)
def _odd_parameter(asked: Asked) -> bytes:
    asked.is_odd()
    name = asked.pick(
        b"limit", b"filter", b"sortBy", b"start", b"sortReverse", b"snapshot", b"token"
    )
    near = (
        asked.pick(b"%s[]", b"%s[0]", b"%s%%5B%%5D", b" %s", b"%s ", b"%%00%s", b"_%s", b"%s")
        % name
    )
    near = asked.pick(near, near.upper(), near.capitalize(), b"page[%s]" % near, b"amp;" + near)
    values = (
        b"",
        b"0",
        b"1",
        b"true",
        b"%00",
        b"%FF%FE",
        b"name==x",
        b"%",
        b"=",
        b"[1]",
        b"9" * 5000,
    )
    return bytes(near) + asked.pick(b"=", b"=", b"", b"==") + asked.pick(*values)


@alternative("parameter")
def _random_bytes(asked: Asked) -> bytes:
    asked.is_odd()
    return quote_from_bytes(asked.noise(1, 60), safe="&=%+;,").encode()


@alternative("parameter", 0.3)
def _as_it_comes(asked: Asked) -> bytes:
    """Bytes that should have been encoded."""
    asked.is_odd()
    return b"filter=n\xc3\xa4me==\xff" + asked.pick(b"", b"|", b"<script>", b"{}", b"\x80")


# Filters


@alternative("filter", 6)
def _by_member_or_param(asked: Asked) -> str:
    values = [asked.say("value") for _ in range(asked.random.choice((1, 1, 1, 2, 3)))]
    return f"{asked.pick(*_NAMES)}=={','.join(values)}"


@alternative("filter")
def _of_another_form(asked: Asked) -> str:
    return str(
        asked.pick("", "x", "=", "==", "==x", "a=b", "a===b", "a==b==c", " a == b ", "\0==\0")
    )


@alternative("filter", 0.3)
def _long_filter(asked: Asked) -> str:
    return "name==" + asked.pick(",", "é", "1,", "true,") * asked.pick(500, 2000, 4090)


@alternative("value", 3)
def _known(asked: Asked) -> str:
    who = asked.pick(*MARKS)
    kinds = ("id", "name", "host", "command", "geometry")
    return canary(who, asked.pick(*kinds) + str(asked.random.randint(0, 4)))


_NUMBERS = (0, 1, 2, 0.5, -0.0, "1.0", "1e0", "00", "-0", 10**300, 777101888100, "1e+21", 1e-7)


@alternative("value", 2)
def _number(asked: Asked) -> str:
    return str(
        asked.pick(
            0, 1, 2, 0.5, -0.0, "1.0", "1e0", "00", "-0", 10**300, 777101888100, "1e+21", 1e-7
        )
    )


_WORDS = (
    *("x", "true", "False", "null", "None", "", "{}", "ß", "İ", "\u202e", "😀"),
    *(" x ", '"x,y"', '"x"', '"', '"",""'),
)


@alternative("value", 2)
def _word(asked: Asked) -> str:
    return str(asked.pick(*_WORDS))
