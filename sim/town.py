"""The town every world is: people, targets, rules, and the ways they change during a run.

Twice, on purpose: as Cedar rules and a catalogue for the house, and as a plain table for the
oracle, written by hand, so that neither is derived from the other.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import permutations
from typing import Any

from tidegate.catalogue import Catalogue, Role, Target
from tidegate.flow.house import Groups, Laws
from tidegate.policy.rules import load_rules

REQUESTERS = ("r0", "r1", "r2", "r3", "r4", "r5", "r6", "r7")
# Those who only ask, in worlds where many do at once.
CROWD = tuple(f"c{number}" for number in range(120))
LEADS = ("a0", "a1", "a2", "a3")
SECURITY = ("s0", "s1")
# One human being with two accounts: `x1` has the mail address of `r1`, and may approve.
ALIASES = {"x1": "r1"}
ASKERS = frozenset({*REQUESTERS, *CROWD})
LOGINS = (*REQUESTERS, *LEADS, *SECURITY, "x1", "op", "nobody")


# Who looks after the installation; one of them also asks for access, by another account.
OPERATORS = ("op", "x1")


def person(login: str) -> str:
    """The human being behind a login."""
    return ALIASES.get(login, login)


@dataclass(frozen=True, slots=True)
class Place:
    """A target with one role, as the oracle knows it. Spans in milliseconds.

    `exposure` is what a live session may outlive the end by, declared before approval; `again` how
    long a new session may still be started; `own` says that the cloud itself ends it.
    """

    role: str
    connector: str
    kind: str
    native: str
    exposure: int
    own: bool

    @property
    def target(self) -> str:
        return self.role.partition("/")[0]


_MINUTE = 60_000
PLACES: Mapping[str, Place] = {
    place.role: place
    for place in (
        Place("prod/admin", "plain", "iam-role", "arn:prod", 5_000, True),
        Place("vault/admin", "plain", "iam-role", "arn:vault", 5_000, True),
        Place("dev/admin", "plain", "iam-role", "arn:dev", 5_000, True),
        Place("desk/admin", "plain", "assignment", "arn:desk", 5_000, False),
        Place("desk/also", "plain", "assignment", "arn:desk", 5_000, False),
        Place("bare/admin", "bare", "assignment", "arn:bare", 60 * _MINUTE + 5_000, False),
        Place("armed/admin", "armed", "assignment", "arn:armed", 5_000, False),
    )
}

_RULES = """
@id("prod") @max("{prod_max}") @approve("{prod_votes}")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"prod");
@id("prod-long") @max("2h") @approve("2 of group:leads and 1 of group:sec")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"prod");
@id("vault") @max("20m") @approve("2 of group:leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"vault");
@id("dev") @max("30m") @approve("none")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"dev");
@id("desk") @max("30m") @approve("1 of group:leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"desk");
@id("bare") @max("30m") @approve("1 of group:leads")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"bare");
@id("armed") @max("30m") @approve("1 of group:leads and 1 of group:sec")
permit (principal in Group::"sre", action == Action::"request", resource in Target::"armed");
@id("fire") @max("10m") @approve("none")
permit (principal in Group::"sre", action == Action::"emergency", resource in Target::"prod");
"""
_FORBID = """
@id("closed-{closed}") forbid (principal, action, resource in Label::"closed={closed}");
"""


@dataclass(frozen=True, slots=True)
class Book:
    """One state of rules, groups and catalogue, for the oracle. Needs are (count, group)."""

    name: str
    prod_max: int
    prod_needs: tuple[tuple[int, str], ...]
    closed: tuple[str, ...] = ()
    leads: tuple[str, ...] = ("r0", "x1", *LEADS)
    natives: Mapping[str, str] = ()  # type: ignore[assignment]
    grace: int = 0  # after every window but an emergency's, for what runs to finish

    def groups(self, login: str) -> frozenset[str]:
        """The groups of a login."""
        found = set()
        if login in ASKERS:
            found.add("sre")
        if login in self.leads:
            found.add("leads")
        if login in SECURITY:
            found.add("sec")
        return frozenset(found)

    def requirement(self, login: str, role: str, span: int, emergency: bool) -> tuple | None:
        """The needs under which `login` may have `role` for `span` ms; None: not at all."""
        target = role.partition("/")[0]
        if "sre" not in self.groups(login) or target in self.closed:
            return None
        if emergency:
            fits = target == "prod" and span <= 10 * _MINUTE
            return () if fits else None
        found = {
            "prod": ((self.prod_max, self.prod_needs), (120 * _MINUTE, ((2, "leads"), (1, "sec")))),
            "vault": ((20 * _MINUTE, ((2, "leads"),)),),
            "dev": ((30 * _MINUTE, ()),),
            "desk": ((30 * _MINUTE, ((1, "leads"),)),),
            "bare": ((30 * _MINUTE, ((1, "leads"),)),),
            "armed": ((30 * _MINUTE, ((1, "leads"), (1, "sec"))),),
        }[target]
        fitting = [needs for longest, needs in found if span <= longest]
        return min(fitting, key=lambda needs: sum(n for n, _ in needs)) if fitting else None

    def needs(self, wish: Any) -> tuple:
        """The needs of what was wished; none when it is not permitted."""
        return self.requirement(wish.login, wish.role, wish.length, wish.emergency) or ()

    def suffices(self, needs: tuple, voters: Mapping[str, frozenset[str]]) -> bool:
        """Whether distinct people fill every seat: all orders are tried."""
        seats = [group for count, group in needs for _ in range(count)]
        return any(
            all(group in voters[who] for group, who in zip(seats, order, strict=True))
            for order in permutations(voters, len(seats))
        )

    def native(self, role: str) -> str:
        """What the role means in the cloud."""
        return dict(self.natives).get(role, PLACES[role].native)


BOOKS: Mapping[str, Book] = {
    book.name: book
    for book in (
        Book("base", 30 * _MINUTE, ((1, "leads"),)),
        Book("strict", 30 * _MINUTE, ((2, "leads"),)),
        Book("short", 3 * _MINUTE, ((1, "leads"),)),
        Book("closed", 30 * _MINUTE, ((1, "leads"),), closed=("vault", "desk")),
        Book("left", 30 * _MINUTE, ((1, "leads"),), leads=("r0", "x1", "a2", "a3")),
        Book("remapped", 30 * _MINUTE, ((1, "leads"),), natives={"prod/admin": "arn:prod-new"}),
        Book("graced", 30 * _MINUTE, ((1, "leads"),), grace=40_000),
    )
}


@cache
def laws_of(name: str) -> Laws:
    """The same state as laws of the house."""
    book = BOOKS[name]
    votes = " and ".join(f"{count} of group:{group}" for count, group in book.prod_needs)
    text = _RULES.format(prod_max=f"{book.prod_max // _MINUTE}m", prod_votes=votes)
    if book.grace:
        text = re.sub(r'(@max\("(?!10m)\w+"\))', rf'\1 @grace("{book.grace // 1000}s")', text)
    text += "".join(_FORBID.format(closed=target) for target in book.closed)
    targets = {
        place.target: Target(
            id=place.target,
            connector=place.connector,
            account=f"account-{place.target}",
            owner="group:owners",
            labels=(f"env={place.target}", f"closed={place.target}"),
        )
        for place in PLACES.values()
    }
    roles = {
        place.role: Role(
            id=place.role, kind=place.kind, native={"arn": book.native(place.role)}, probe="look"
        )
        for place in PLACES.values()
    }
    members = {
        "sre": (*REQUESTERS, *CROWD),
        "leads": book.leads,
        "sec": SECURITY,
        "tidegate-operators": OPERATORS,
    }
    return Laws(
        rules=load_rules({"rules.cedar": text}),
        catalogue=Catalogue(targets, roles),
        groups=Groups(members=members),
    )
