"""The addresses of the API: what is in their table holds wherever an address is meant."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient

from fastx_list.api.addresses import LISTINGS, PARAMS, Listing
from fastx_list.redaction import redact
from tests.answers import Issue, error


@pytest.mark.parametrize("address", [*LISTINGS, PARAMS])
def test_what_follows_an_address_is_kept_out_of_logs(address: str) -> None:
    assert redact(f"POST {address}/secret?limit=1") == f"POST {address}/[token]?limit=1"


@pytest.mark.parametrize("listing", LISTINGS.values(), ids=LISTINGS)
def test_an_administrators_address_refuses_others(
    client: FlaskClient, token: Issue, listing: Listing
) -> None:
    good = token("alice")
    for _ in range(2):  # at first it is not a known one
        answer = client.get(f"{listing.address}/{good}")
        if listing.admin:
            assert "admin" in error(answer, 403, "Forbidden")
        else:
            assert answer.status_code == 200
