"""What a token says, and tokens that are revoked."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from fastx_list.tokens import Claims
from tests.tokens.common import HOUR, claims, jwt_expiry, make_tokens, refusal, sign

# Claims.


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


def test_what_a_token_says_cannot_be_changed() -> None:
    # It is remembered, and everybody who shows the token gets the same.
    found = make_tokens().verify(sign(claims()), ())
    for name, value in (("login", "root"), ("admin", True)):
        with pytest.raises(FrozenInstanceError):
            setattr(found, name, value)


# Revocation.


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
