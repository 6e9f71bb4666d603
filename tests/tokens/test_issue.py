"""What we issue, and until when it is good."""

from __future__ import annotations

import json
import time

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fastx_list import tokens as tokens_module
from fastx_list.tokens import MAX_REMEMBERED
from tests.tokens.common import HOUR, SECRET, Clock, claims, make_tokens, refusal, sign

# What we issue.


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


# Time.


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


@pytest.mark.parametrize("claim", ["iat", "nbf"])
def test_a_portals_clock_may_be_ahead(clock: Clock, claim: str) -> None:
    """Some libraries set both to now."""
    for ahead in (5, 55):
        token = sign(claims(**{claim: clock.now + ahead}))
        assert make_tokens().verify(token, ()).login == "alice"


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


# What is remembered.


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


def test_the_token_that_was_verified_first_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "MAX_REMEMBERED", 3)
    tokens = make_tokens()
    issued = [tokens.issue("alice", HOUR) for _ in range(4)]
    for token in (*issued[:3], issued[0]):
        tokens.verify(token, ())
    assert [tokens.knows(token) for token in issued] == [True, True, True, False]
    tokens.verify(issued[3], ())
    assert [tokens.knows(token) for token in issued] == [False, True, True, True]
