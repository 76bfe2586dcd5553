"""A small client of the admin API, with nothing but `http.client`."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]


class AdminRefused(RuntimeError):
    """The stand-in did not understand; the message is its own."""


class Admin:
    """The admin API of the stand-in at `url`. One connection a call; safe to share by threads."""

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        parts = urlsplit(url)
        self.url = url
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._timeout = timeout

    def ask(self, method: str, path: str, body: Json | None = None) -> Json:
        """One call under `/_standin/`. Raises AdminRefused, OSError."""
        connection = http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        try:
            text = None if body is None else json.dumps(body)
            connection.request(method, f"/_standin/{path}", text)
            reply = connection.getresponse()
            shown: Json = json.loads(reply.read())
        finally:
            connection.close()
        if reply.status != 200:
            raise AdminRefused(shown.get("error", f"status {reply.status}"))
        return shown

    def health(self) -> Json:
        """`{"ok", "now", "ahead"}`."""
        return self.ask("GET", "health")

    def reset(self) -> None:
        """Forget everything but the accounts; the clock goes back to the machine's."""
        self.ask("POST", "reset", {})

    def seed(self, **asked: Any) -> Json:
        """Merge users, groups, permission_sets, assignments, identities, roles, portal_tokens, …

        Returns every id and key there is, by name.
        """
        return self.ask("POST", "seed", asked)

    def ids(self) -> Json:
        """What `seed` returned last."""
        return self.ask("GET", "ids")

    def fault(self, operation: str, kind: str, *, count: int | None = None, **values: Any) -> int:
        """Let `operation` (`*` allowed) meet a fault `count` times, or until it is cleared."""
        body = {"operation": operation, "kind": kind, **values}
        if count is not None:
            body["count"] = count
        made: int = self.ask("POST", "faults", body)["id"]
        return made

    def clear_faults(self, fault_id: int | None = None) -> None:
        """Forget one fault, or all."""
        self.ask("DELETE", "faults", {} if fault_id is None else {"id": fault_id})

    def options(self, **values: Any) -> None:
        """Set options by name: `cloud.Options`."""
        self.ask("POST", "options", values)

    def ahead(self, seconds: float) -> Json:
        """Put the clock `seconds` ahead of the machine's; what became due has happened then."""
        return self.ask("POST", "clock", {"ahead": seconds})

    def pass_seconds(self, seconds: float) -> Json:
        """Move the clock on by `seconds`."""
        return self.ask("POST", "clock", {"by": seconds})

    def policies(self, identity: str, documents: Iterable[Json]) -> None:
        """Replace an identity's policies; its keys stay."""
        self.seed(identities=[{"name": identity, "policies": list(documents)}])

    def add_assignment(self, permission_set: str, account: str, **who: str) -> None:
        """Let an assignment stand at once, as another system would: `user=` or `group=`."""
        self.ask(
            "POST",
            "assignments",
            {"add": [{"permission_set": permission_set, "account": account, **who}]},
        )

    def remove_assignment(self, permission_set: str, account: str, **who: str) -> None:
        """Take an assignment away at once, behind everybody's back."""
        self.ask(
            "POST",
            "assignments",
            {"remove": [{"permission_set": permission_set, "account": account, **who}]},
        )

    def state(self) -> Json:
        """Everything: assignments, requests, sessions, schedules, provisioned copies, …"""
        return self.ask("GET", "state")

    def assignments(self) -> list[Json]:
        """The assignments that stand."""
        found: list[Json] = self.state()["assignments"]
        return found

    def calls(self) -> dict[str, int]:
        """Calls by `service:Operation`, and `schedule:Operation` for those of schedules."""
        found: dict[str, int] = self.ask("GET", "calls")["calls"]
        return found

    def refused(self) -> dict[str, int]:
        """Refusals by `service:Operation:Code`."""
        found: dict[str, int] = self.ask("GET", "calls")["refused"]
        return found

    def clear_calls(self) -> None:
        """Count from nought again."""
        self.ask("DELETE", "calls")

    def dead_letters(self) -> list[Json]:
        """What schedules failed to do."""
        found: list[Json] = self.ask("GET", "dead-letters")["dead_letters"]
        return found
