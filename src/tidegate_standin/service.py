"""What every service module gives the server: its operations, and how they page."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate_standin.cloud import Caller, Cloud
from tidegate_standin.errors import Refusal
from tidegate_standin.faults import Fault

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One authenticated call. `at` is its instant; `caller` is None for the portal's operations."""

    cloud: Cloud
    service: str
    operation: str
    params: Json
    at: float
    caller: Caller | None = None
    fault: Fault | None = None
    by_account: str = ""

    @property
    def account(self) -> str:
        """The account the caller is in; for a schedule its role's, at the portal empty."""
        return self.caller.account if self.caller else self.by_account


def anything(call: Call) -> list[str]:
    """The resource `*`, for operations without resource types."""
    return ["*"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How an operation runs and what it needs.

    `actions` are the IAM actions, each needed on every ARN that `resources` gives; empty means
    that everybody who signs may call it.
    """

    run: Callable[[Call], Json]
    actions: tuple[str, ...] = ()
    resources: Callable[[Call], list[str]] = anything


def page(call: Call, name: str, items: Sequence[Any], *, default: int = 100) -> Json:
    """One page of `items` under `name`, with NextToken when more remain.

    Tokens are offsets into the listing as it is at each call, as opaque text. Raises Refusal
    `ValidationException` for a token that is not one of ours.
    """
    limit = int(call.params.get("MaxResults", default))
    start = 0
    token = call.params.get("NextToken")
    if token:
        try:
            start = int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix("from-"))
        except ValueError as error:
            raise Refusal("ValidationException", "NextToken is not valid") from error
    shown: Json = {name: list(items[start : start + limit])}
    if start + limit < len(items):
        shown["NextToken"] = base64.urlsafe_b64encode(f"from-{start + limit:06d}".encode()).decode()
    return shown
