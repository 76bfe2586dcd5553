"""The stage finding: one fact is one finding, and only a person's word keeps one closed."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.make import NOW, REASON, thing
from tidegate.base.errors import AskedWrongly, Stale
from tidegate.finding import (
    LONGEST_ACCEPTED,
    SEVERITY,
    TABLE,
    ClosedHow,
    Finding,
    FindingKind,
    FindingState,
    Sighting,
    assigned,
    came_back,
    closed,
    evolve,
    lapsed,
    opened,
    seen_again,
)

LATER = NOW + timedelta(hours=1)
SEEN = Sighting(
    kind=FindingKind.STANDING,
    target="aws-prod",
    what="arn:role|eve",
    sort="assignment",
    says="nobody asked for it",
    owner="group:cloud",
)


def a_finding() -> Finding:
    """Just opened."""
    return thing(opened("fi_1", SEEN, NOW), Finding)


def test_every_kind_has_a_severity() -> None:
    """A kind added later cannot be opened without saying how soon somebody must look."""
    assert SEVERITY.keys() == set(FindingKind)


def test_looking_again_is_no_event() -> None:
    """A fact that stands unchanged seals nothing more, however often it is seen."""
    assert seen_again(a_finding(), SEEN, LATER) is None


def test_changed_words_are_said_once() -> None:
    """What the same fact says now is sealed when it changes, in its own finding."""
    step = seen_again(a_finding(), replace(SEEN, says="by two groups now"), LATER)
    assert step is not None
    after = thing(step, Finding)
    assert (after.id, after.says, after.times) == ("fi_1", "by two groups now", 2)


def test_happening_again_is_counted() -> None:
    """The same thing once more is told in the same finding, with how often."""
    again = thing(came_back(a_finding(), SEEN, LATER), Finding)
    assert (again.times, again.state, again.last_seen_at) == (2, FindingState.OPEN, LATER)


@pytest.mark.parametrize("how", [ClosedHow.HEALED, ClosedHow.FIXED, ClosedHow.RESOLVED])
def test_said_to_be_mended_and_seen_again(how: ClosedHow) -> None:
    """Nobody closes what still stands by saying so: the next look opens it again."""
    shut = thing(closed(a_finding(), how, "pr_op", NOW, REASON), Finding)
    step = seen_again(shut, SEEN, LATER)
    assert step is not None
    again = thing(step, Finding)
    assert (again.state, again.times, again.closed_how) == (FindingState.OPEN, 2, "")


def test_acceptance_holds_until_its_instant() -> None:
    """An accepted fact may stand until the instant, and not a millisecond longer."""
    until = NOW + timedelta(days=1)
    shut = thing(closed(a_finding(), ClosedHow.ACCEPTED, "pr_op", NOW, REASON, until), Finding)
    assert (shut.closed_by, shut.reason) == ("pr_op", REASON.commitment)
    assert seen_again(shut, SEEN, until - timedelta(milliseconds=1)) is None
    assert seen_again(shut, SEEN, until) is not None
    again = thing(lapsed(shut, until), Finding)
    assert again.state is FindingState.OPEN
    assert again.accepted_until is None


@pytest.mark.parametrize("span", [timedelta(0), -timedelta(1), LONGEST_ACCEPTED + timedelta(1)])
def test_acceptance_past_or_for_ever(span: timedelta) -> None:
    """Nobody signs anything off for ever, nor until yesterday."""
    with pytest.raises(AskedWrongly, match="expected an instant ahead"):
        closed(a_finding(), ClosedHow.ACCEPTED, "pr_op", NOW, REASON, NOW + span)


def test_hand_off_changes_who_works_on_it_and_not_whose_it_is() -> None:
    """The owner stays the owner, and reopening forgets who worked on it."""
    given_on = thing(assigned(a_finding(), "pr_bo", "pr_op", NOW), Finding)
    assert (given_on.owner, given_on.assigned_to) == ("group:cloud", "pr_bo")
    assert given_on.state is FindingState.ASSIGNED
    shut = thing(closed(given_on, ClosedHow.FIXED, "system", NOW), Finding)
    with pytest.raises(Stale, match="nobody can assign it now"):
        assigned(shut, "pr_cy", "pr_op", NOW)
    step = seen_again(shut, SEEN, LATER)
    assert step is not None
    assert thing(step, Finding).assigned_to == ""


EVENTS = sorted({event for _, event in TABLE.moves})


@given(st.lists(st.sampled_from(EVENTS), max_size=8))
def test_only_the_table_moves_a_finding(names: list[str]) -> None:
    """Whatever is asked in whatever order, what happens is what the table says, or nothing."""
    now: Finding | None = None
    steps = {
        "finding.opened": lambda it: opened("fi_1", SEEN, NOW),
        "finding.seen": lambda it: came_back(it, SEEN, NOW),
        "finding.assigned": lambda it: assigned(it, "pr_bo", "pr_op", NOW),
        "finding.closed": lambda it: closed(it, ClosedHow.RESOLVED, "pr_op", NOW, REASON),
        "finding.reopened": lambda it: lapsed(it, NOW),
    }
    for name in names:
        if now is None and name != "finding.opened":
            continue
        if name == "finding.opened" and now is not None:
            continue
        if not TABLE.allows(now.state if now else None, name):
            with pytest.raises(Stale):
                steps[name](now)
            continue
        (fact,) = steps[name](now).facts
        now = evolve(now, fact)
        assert fact.subject == "target:aws-prod"
