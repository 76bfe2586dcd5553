"""Who administers an account, where a look could not tell all of it, or not all of it anew.

What such a look does tell is found like any other. What it does not show is not gone, unless it is
`certain` of that: so a look that failed in part ends no finding of that part.
"""

from collections.abc import Callable, Iterable
from typing import Self

from tidegate.base.errors import Refused
from tidegate.connectors.port import Administrator

Certain = Callable[[str], bool]  # of a name (`Administrator.what`) that is not told: it is gone


def of_all(name: str) -> bool:
    """The `Certain` of a look that read everything now."""
    return True


class PartlyTold(Refused):
    """Not all could be told: `told` is the part that could. Code and words are the trouble's.

    A refusal, as the port has it of whoever cannot tell all: who knows nothing of parts takes no
    baseline by it.
    """

    def __init__(
        self, why: tuple[str, str, str], told: Iterable[Administrator], certain: Certain
    ) -> None:
        super().__init__(*why)
        self.told = tuple(told)
        self.certain = certain


class Told(tuple[Administrator, ...]):
    """Everybody there is, some of it as read by an earlier look, of which it is not `certain`."""

    certain: Certain

    @classmethod
    def of(cls, told: Iterable[Administrator], certain: Certain) -> Self:
        """Those told."""
        made = cls(told)
        made.certain = certain
        return made


def certain_of(told: tuple[Administrator, ...]) -> Certain:
    """What an answer is certain of: all, unless it says otherwise."""
    return told.certain if isinstance(told, Told) else of_all
