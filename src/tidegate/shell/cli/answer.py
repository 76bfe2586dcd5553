"""What a server answered, read without trusting it.

Texts come out safe to print; a part of the wrong shape is told as a fault of the server, never met
as a KeyError three calls later.
"""

from collections.abc import Mapping
from typing import Any

from tidegate.base.errors import WorldFailed
from tidegate.shell.cli.printing import clean


class Answer:
    """One JSON object of a server. `plain` is the object itself, for `--json`."""

    __slots__ = ("plain",)

    def __init__(self, plain: Mapping[str, Any]) -> None:
        self.plain = dict(plain)

    def text(self, name: str) -> str:
        """The text or number called `name`, safe to print; empty when it is not there."""
        value = self.plain.get(name)
        if isinstance(value, str):
            return clean(value)
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""

    def need(self, name: str) -> str:
        """Like `text`, but raises WorldFailed when it is missing: nothing can be shown."""
        return clean(self.exact(name))

    def exact(self, name: str) -> str:
        """The text called `name` as it is, for sending back. Raises WorldFailed when missing."""
        value = self.plain.get(name)
        if isinstance(value, str) and value:
            return value
        raise strange(f"a text `{name}`", value)

    def number(self, name: str) -> int | None:
        """The whole number called `name`, or None."""
        value = self.plain.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def flag(self, name: str) -> bool:
        """Whether `name` is true."""
        return self.plain.get(name) is True

    def part(self, name: str) -> "Answer":
        """The object called `name`; an empty one when it is not there."""
        value = self.plain.get(name)
        return Answer(value if isinstance(value, dict) else {})

    def parts(self, name: str) -> list["Answer"]:
        """The objects listed under `name`. Raises WorldFailed when that is no list of objects."""
        value = self.plain.get(name)
        if isinstance(value, list) and all(isinstance(item, dict) for item in value):
            return [Answer(item) for item in value]
        raise strange(f"a list `{name}`", value)

    def some(self, name: str) -> list["Answer"]:
        """Like `parts`, but a list that is not there is empty."""
        return self.parts(name) if self.plain.get(name) is not None else []

    def texts(self, name: str) -> list[str]:
        """The texts listed under `name`, safe to print; what is no text is passed over."""
        value = self.plain.get(name)
        found = value if isinstance(value, list) else []
        return [clean(item) for item in found if isinstance(item, str)]

    def map(self, name: str) -> dict[str, str]:
        """The flat object called `name` as texts, safe to print."""
        inner = self.part(name)
        return {clean(str(key)): inner.text(key) for key in inner.plain if inner.text(key)}


def strange(expected: str, got: object) -> WorldFailed:
    """The error of an answer that is not of our API."""
    return WorldFailed(
        "strange_answer",
        f"expected {expected} in the server's answer, got {type(got).__name__}",
        "check the server's address, and that client and server have the same version",
    )
