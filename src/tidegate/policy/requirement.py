"""Who must approve: the text of `@approve`, and whether the voters so far are enough.

    none
    2 of group:sre-leads
    2 of group:sre-leads and 1 of group:owners

Does not know whose vote counts (nobody approves their own request; that is `approve`'s to say): it
is handed the voters that count, with their groups.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import clean_name

MOST_SEATS = 10  # of one group: more approvers than that are never found in one working day
MOST_NEEDS = 4  # groups in one requirement: a reader keeps four apart
LONGEST_REQUIREMENT = 400  # characters: four needs with the longest names, and some blanks

_NEED = re.compile(r"(\d{1,3}) of group:(\S+)", re.ASCII)
_HELP = "write `none`, or `2 of group:sre-leads and 1 of group:owners`"


@dataclass(frozen=True, slots=True)
class Need:
    """`count` approvers out of `group` (its name, without `group:`)."""

    count: int
    group: str

    @property
    def text(self) -> str:
        """`2 of group:sre-leads`."""
        return f"{self.count} of group:{self.group}"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Every need must be met; no needs means that nobody has to approve."""

    needs: tuple[Need, ...] = ()

    @property
    def text(self) -> str:
        """The one spelling that `parse_requirement` reads back to this."""
        return " and ".join(need.text for need in self.needs) or "none"

    @property
    def votes(self) -> int:
        """How many approvals it takes in all: each seat wants a person of its own."""
        return sum(need.count for need in self.needs)


@lru_cache(maxsize=256)  # the same few are read for every vote
def parse_requirement(text: str) -> Requirement:
    """Read a requirement. Runs of blanks count as one; nothing else is folded.

    Raises:
        AskedWrongly: another shape, a count outside 1..MOST_SEATS, a group named twice or badly, or
            more than MOST_NEEDS needs.
    """
    if len(text) > LONGEST_REQUIREMENT:
        raise _bad(f"at most {LONGEST_REQUIREMENT} characters", f"{len(text)}")
    words = " ".join(text.split())
    if words == "none":
        return Requirement()
    parts = words.split(" and ")
    if len(parts) > MOST_NEEDS:
        raise _bad(f"at most {MOST_NEEDS} groups", f"{len(parts)}")
    needs = tuple(_need(part) for part in parts)
    if len({need.group for need in needs}) < len(needs):
        raise _bad("each group once", f"`{words[:80]}`")
    return Requirement(needs)


def missing(requirement: Requirement, voters: Mapping[str, frozenset[str]]) -> tuple[Need, ...]:
    """What is still needed, in the order of the rule; empty when it is met.

    `voters` maps each principal whose approval counts to all groups they are in. A person fills at
    most one seat, whichever lets the most seats be filled; between equals, the seats named first
    are filled first, whatever order the votes came in.
    """
    seats = [need.group for need in requirement.needs for _ in range(need.count)]
    held: dict[str, int] = {}
    empty = dict.fromkeys((need.group for need in requirement.needs), 0)
    for seat, group in enumerate(seats):
        if not _fill(seat, seats, voters, held, set()):
            empty[group] += 1
    return tuple(
        Need(empty[need.group], need.group) for need in requirement.needs if empty[need.group]
    )


def _fill(
    seat: int,
    seats: list[str],
    voters: Mapping[str, frozenset[str]],
    held: dict[str, int],
    tried: set[str],
) -> bool:
    """Seat someone in `seat`, moving others along if that makes room (Kuhn's augmenting path).

    A seat once filled stays filled, which is why the first seats win. At most
    MOST_NEEDS * MOST_SEATS deep.
    """
    for person, groups in voters.items():
        if person in tried or seats[seat] not in groups:
            continue
        tried.add(person)
        if person not in held or _fill(held[person], seats, voters, held, tried):
            held[person] = seat
            return True
    return False


def _need(part: str) -> Need:
    match = _NEED.fullmatch(part)
    if not match:
        raise _bad("a count of a group like `2 of group:sre-leads`", f"`{part[:80]}`")
    count = int(match[1])
    if not 1 <= count <= MOST_SEATS:
        raise _bad(f"a count from 1 to {MOST_SEATS}", f"`{match[1]}`")
    return Need(count, clean_name("group", match[2]))


def _bad(expected: str, got: str) -> AskedWrongly:
    return AskedWrongly("bad_requirement", f"expected {expected}, got {got}", _HELP)
