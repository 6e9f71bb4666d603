"""What schemathesis is told besides the OpenAPI document."""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.core.failures import Failure
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
    Schema has no words for it."""
    return not (
        isinstance(failure, RejectedPositiveData) and b": takes at most " in response.content
    )
