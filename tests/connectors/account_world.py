"""An account of AWS as its IAM and its CloudTrail tell of it, without a process behind it."""

import json
from collections.abc import Callable
from typing import Any

from tests.connectors.conftest import START
from tidegate.base.errors import Refused, Unreachable
from tidegate.connectors.aws_calls import Reply


class FakeAws:
    """CloudTrail's event history as AWS tells it (the emulator names no call of IAM).

    An event is told in the region that recorded it, and in no other.
    """

    elsewhere = False

    def __init__(
        self, *events: dict[str, object], refuses: str = "", region: str = "us-east-1"
    ) -> None:
        self.events = events
        self.refuses = refuses
        self.region = region
        self.down = ""  # a region that nothing is heard of
        self.details: dict[str, object] = {}
        self.keys: dict[str, list[dict[str, object]]] = {}
        self.account = "111122223333"
        self.asked: list[str] = []
        self._here = region

    def call(self, service: str, act: Callable[[Any], Any], what: str, region: str = "") -> Reply:
        """One page of what was asked for."""
        if what == self.refuses:
            raise Refused("access_denied", f"AWS answered `{what}` with `AccessDenied`")
        self._here = region or self.region
        if self._here == self.down:
            raise Unreachable("cloud_unreachable", f"nothing is heard of {self.down}")
        return Reply(body=act(self), cloud_at=START)

    def get_account_authorization_details(self, **_: object) -> dict[str, object]:
        """Everything of the account on one page."""
        return {"IsTruncated": False, **self.details}

    def get_caller_identity(self) -> dict[str, object]:
        """Whose keys these are."""
        return {"Account": self.account}

    def list_access_keys(self, **asked: str) -> dict[str, object]:
        """A user's keys."""
        return {"AccessKeyMetadata": self.keys.get(asked["UserName"], [])}

    def get_login_profile(self, **_: str) -> dict[str, object]:
        """No user here has a password."""
        return {}

    def lookup_events(self, **asked: Any) -> dict[str, object]:
        """The events of that name that this region has."""
        self.asked.append(self._here)
        name = asked["LookupAttributes"][0]["AttributeValue"]
        there = [one for one in self.events if one["in"] == self._here]
        return {"Events": [one for one in there if one["EventName"] == name]}


def event(
    name: str,
    key: str = "ASIAOTHER",
    error: str = "",
    region: str = "us-east-1",
    arn: str = "",
    **asked: str,
) -> dict[str, object]:
    """One event, as LookupEvents gives it, and the region that recorded it."""
    told: dict[str, object] = {
        "userIdentity": {"accessKeyId": key, "arn": arn},
        "requestParameters": asked,
    }
    if error:
        told["errorCode"] = error
    text = json.dumps(told)
    return {"EventName": name, "EventTime": START, "CloudTrailEvent": text, "in": region}
