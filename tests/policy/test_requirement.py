"""Requirements: the text of `@approve`, and whether the voters are enough."""

from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.base.errors import AskedWrongly
from tidegate.policy.requirement import (
    MOST_NEEDS,
    MOST_SEATS,
    Need,
    Requirement,
    missing,
    parse_requirement,
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9._-]{0,8}[a-z0-9])?", fullmatch=True)
REQUIREMENTS = st.lists(
    st.builds(Need, st.integers(1, MOST_SEATS), NAMES),
    max_size=MOST_NEEDS,
    unique_by=lambda need: need.group,
).map(lambda needs: Requirement(tuple(needs)))


@given(REQUIREMENTS)
def test_requirement_survives_print_and_parse(requirement: Requirement) -> None:
    """What a requirement prints is read back as the same requirement."""
    assert requirement == parse_requirement(requirement.text)


def test_requirement_has_one_spelling() -> None:
    """Blanks are folded, so that two spellings never make two request digests."""
    read = parse_requirement("  2 of  group:sre-leads\tand 1 of group:owners ")
    assert read.text == "2 of group:sre-leads and 1 of group:owners"
    assert read.votes == 3
    assert Requirement().text == "none"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "two of group:sre",
        "0 of group:sre",
        "11 of group:sre",
        "-1 of group:sre",
        "٣ of group:sre",
        "1 of sre",
        "1 of group:",
        "1 of group:SRE",
        "1 of group:srе",
        "1 of group:sre or 1 of group:owners",
        "1 of group:sre and",
        "1 of group:sre and none",
        "1 of group:sre and 2 of group:sre",
        "NONE",
        " and ".join(f"1 of group:g{number}" for number in range(MOST_NEEDS + 1)),
        "1 of group:a" + " " * 1_000_000,
    ],
)
def test_bad_requirement_is_refused_with_words(text: str) -> None:
    """Every other shape is refused, with what was expected and what to write."""
    with pytest.raises(AskedWrongly) as caught:
        parse_requirement(text)
    assert caught.value.message.startswith("expected")
    assert caught.value.help


def test_one_person_in_two_groups_fills_one_seat() -> None:
    """A lead who is also an owner does not approve twice."""
    both = parse_requirement("1 of group:leads and 1 of group:owners")
    voters = {"ana": frozenset({"leads", "owners"})}
    assert (Need(1, "owners"),) == missing(both, voters)
    assert missing(both, {**voters, "bo": frozenset({"leads"})}) == ()


def test_missing_is_ordered_as_the_rule_lists_it() -> None:
    """The screen can show what is missing as it comes."""
    text = "2 of group:b and 1 of group:a"
    assert (Need(2, "b"), Need(1, "a")) == missing(parse_requirement(text), {})
    assert (Need(1, "b"), Need(1, "a")) == missing(
        parse_requirement(text), {"ana": frozenset({"b"})}
    )


def test_a_stranger_fills_no_seat() -> None:
    """A voter without a named group changes nothing."""
    one = parse_requirement("1 of group:leads")
    assert (Need(1, "leads"),) == missing(one, {"ana": frozenset(), "bo": frozenset({"sre"})})


VOTERS = st.dictionaries(
    st.sampled_from("pqrst"), st.frozensets(st.sampled_from("abc")), max_size=5
)
SMALL = st.lists(
    st.builds(Need, st.integers(1, 2), st.sampled_from("abc")),
    max_size=3,
    unique_by=lambda need: need.group,
).map(lambda needs: Requirement(tuple(needs)))


@given(SMALL, VOTERS)
def test_seating_agrees_with_trying_every_order(
    requirement: Requirement, voters: dict[str, frozenset[str]]
) -> None:
    """As many seats are filled as in the best of all ways to seat the voters."""
    seats = [need.group for need in requirement.needs for _ in range(need.count)]
    people: list[str | None] = [*voters, *[None] * len(seats)]
    best = max(
        sum(
            who is not None and group in voters[who]
            for who, group in zip(order, seats, strict=True)
        )
        for order in set(permutations(people, len(seats)))
    )
    left = missing(requirement, voters)
    assert len(seats) - best == sum(need.count for need in left)


@given(SMALL, VOTERS, st.randoms())
def test_order_of_votes_changes_nothing(
    requirement: Requirement, voters: dict[str, frozenset[str]], random: object
) -> None:
    """Who voted first does not decide which seats are left."""
    shuffled = list(voters.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert missing(requirement, voters) == missing(requirement, dict(shuffled))
