"""Who has signed a token, and how."""

from __future__ import annotations

import secrets

import jwt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tokens.common import ALPHABET, HOUR, SECRET, claims, make_tokens, refusal, sign


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
