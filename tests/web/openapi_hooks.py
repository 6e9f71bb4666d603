"""What schemathesis is told besides the OpenAPI document."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.core.transport import Response
from schemathesis.openapi.checks import RejectedPositiveData


@schemathesis.hook
def filter_failure(
    context: schemathesis.HookContext,
    failure: Failure,
    case: schemathesis.Case[Any],
    response: Response,
) -> bool:
    """Let a request be refused that has too many filters, or makes too many params, in all: JSON
    Schema has no words for it. Let one be taken whose wrong parameter is sent as an empty text,
    such as an object without members: that is one that is not there."""
    if isinstance(failure, RejectedPositiveData):
        return b": takes at most " not in response.content
    wrong = re.search(r"parameter `(\w+)` in query", failure.message)
    if isinstance(failure, AcceptedNegativeData) and wrong:
        query = parse_qs(urlsplit(response.request.url or "").query, keep_blank_values=True)
        return query.get(wrong[1]) != [""]
    return True
