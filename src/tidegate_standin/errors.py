"""The one way this package says no to a caller, shaped later for the protocol of the service."""

from __future__ import annotations


class Refusal(Exception):
    """An answer that is an AWS error.

    `code` is the name AWS uses on the wire (`ConflictException`), `status` the HTTP status, or None
    to take the one the service's model gives the error. `extra` are further members of the error.
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        status: int | None = None,
        extra: dict[str, str] | None = None,
    ) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status
        self.extra = dict(extra or {})


class Unanswered(Exception):
    """The connection is shut without an answer: the request was lost, or its reply was."""


class BadAdminRequest(Exception):
    """The admin API was asked for something it does not know. Becomes a 400 with the message."""
