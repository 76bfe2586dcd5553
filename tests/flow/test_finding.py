"""Findings: who may see, hand on and sign off, and that one fact is one finding."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.support import World, catalogue
from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound
from tidegate.catalogue import Catalogue
from tidegate.finding import ClosedHow, FindingKind, FindingState, Sighting
from tidegate.flow.allowing import Verb
from tidegate.flow.finding import (
    assign,
    close,
    end,
    find_finding,
    lapse_accepted,
    list_findings,
    see,
)
from tidegate.store import Wanted, compare


def a_sighting(**more: object) -> Sighting:
    """Access on prod that nobody asked for."""
    seen = Sighting(
        kind=FindingKind.STANDING,
        target="prod",
        what="arn:role|eve",
        sort="assignment",
        says="eve holds it, and nobody asked for it",
        remedy="aws …",
        owner="group:leads",
        role="prod/admin",
    )
    return replace(seen, **more)  # type: ignore[arg-type]


def owned(owner: str = "group:leads") -> Catalogue:
    """Every target is owned."""
    found = catalogue()
    return Catalogue(
        {name: replace(one, owner=owner) for name, one in found.targets.items()}, found.roles
    )


def seen(world: World, **more: object):
    """A finding, open."""
    found = see(world.house, a_sighting(**more), world.clock())
    assert found is not None
    return found


def names(world: World) -> list[str]:
    """The events of the target's chain."""
    return world.names("target:prod")


def test_the_same_fact_seen_ten_times_is_one_finding(world: World) -> None:
    """Ten looks open one finding with one event; the last look is remembered all the same."""
    first = seen(world)
    for _ in range(9):
        world.clock.forward(minutes=1)
        last = seen(world)
    assert last.id == first.id
    assert last.last_seen_at == world.clock()
    assert names(world) == ["finding.opened"]
    assert compare(world.house.store) == []


@pytest.mark.parametrize(
    ("login", "may"),
    [
        ("audit", {Verb.SEE}),
        ("op", {Verb.SEE, Verb.ASSIGN, Verb.CLOSE}),
        ("bo", {Verb.SEE, Verb.ASSIGN, Verb.CLOSE}),
        ("nobody", set()),
        ("late", {Verb.SEE, Verb.ASSIGN}),
    ],
)
def test_who_may_do_what_to_a_finding(world: World, login: str, may: set[Verb]) -> None:
    """Auditors read, owners and operators decide, whoever has it in hand may hand it on."""
    from tidegate.flow.people import LOCAL, actor, record

    if login == "late":  # no local account: an identity of its own
        who = actor(world.house, record(world.house, LOCAL, "late", world.clock()).id)
    else:
        who = world.who(login)
    found = seen(world)
    if login == "late":
        assign(world.house, world.who("op"), found.id, who.id)
    for verb in (Verb.SEE, Verb.ASSIGN, Verb.CLOSE):
        if verb in may:
            assert find_finding(world.house, who, found.id, verb).id == found.id
        else:
            with pytest.raises((NotFound, NotAllowed)):
                find_finding(world.house, who, found.id, verb)
    listed, _ = list_findings(world.house, who, Wanted(), 10, None)
    assert bool(listed) is (Verb.SEE in may)


def test_nobody_signs_off_what_is_about_themselves(world: World) -> None:
    """The owner of a target who made a side door there cannot close the finding of it."""
    bo = world.who("bo")
    found = seen(world, principal=bo.id, kind=FindingKind.SIDE_DOOR)
    with pytest.raises(NotAllowed, match="about you"):
        close(world.house, bo, found.id, "never mind")
    assert close(world.house, world.who("cy"), found.id, "key deleted").closed_by == (
        world.who("cy").id
    )


def test_second_account_signs_off_what_is_about_the_first(world: World) -> None:
    """One human being with two accounts is one person: the other cannot close it either."""
    from tidegate.flow.people import actor, record

    made = record(world.house, "https://idp.invalid", "bo-2", world.clock(), mail="bo@x.invalid")
    other = replace(actor(world.house, made.id), groups=frozenset({"leads"}))
    found = seen(world, principal=world.who("bo").id, kind=FindingKind.SIDE_DOOR)
    with pytest.raises(NotAllowed, match="about you"):
        close(world.house, other, found.id, "never mind")


def test_holder_is_not_told_of_side_doors(world: World) -> None:
    """Who made a side door does not read that it was found; who lost access early does."""
    ana, found = world.who("ana"), []
    grant = world.granted()
    for kind in (FindingKind.SIDE_DOOR, FindingKind.GONE_EARLY):
        found.append(
            seen(world, principal=ana.id, kind=kind, owner="", what=kind.value, grant=grant.id)
        )
    ana = replace(ana, groups=ana.groups - {"leads"})
    assert [one.kind for one in list_findings(world.house, ana, Wanted(), 9, None)[0]] == [
        FindingKind.GONE_EARLY
    ]


def test_sign_off_keeps_reason_and_signer_and_ends(world: World) -> None:
    """An accepted fact stays closed while it is seen, and opens by itself when that is over."""
    found = seen(world)
    shut = close(world.house, world.who("op"), found.id, "break-glass", timedelta(days=1))
    assert world.house.store.text(shut.reason) == "break-glass"
    world.clock.forward(hours=23)
    assert seen(world).state is FindingState.CLOSED
    assert lapse_accepted(world.house) == 0
    world.clock.forward(hours=1)
    assert lapse_accepted(world.house) == 1
    assert world.house.store.finding(found.id).state is FindingState.OPEN
    assert names(world) == ["finding.opened", "finding.closed", "finding.reopened"]
    assert compare(world.house.store) == []


def test_closed_by_word_and_seen_again(world: World) -> None:
    """A sign-off without an acceptance does not hide what still stands."""
    found = seen(world)
    close(world.house, world.who("op"), found.id, "I removed it")
    again = seen(world)
    assert (again.id, again.state, again.times) == (found.id, FindingState.OPEN, 2)


@pytest.mark.parametrize("to", ["", "group:", "group:unknown", "nobody-here", "pr_x", "eve\x1b"])
def test_hand_off_to_nobody(world: World, to: str) -> None:
    """A finding is never handed to a name nobody has."""
    found = seen(world)
    with pytest.raises(AskedWrongly):
        assign(world.house, world.who("op"), found.id, to)
    assert world.house.store.finding(found.id).assigned_to == ""


def test_two_looks_at_one_moment_make_one_finding(world: World) -> None:
    """A second process that saw the same fact in the same moment makes no second finding."""
    from tidegate.finding import opened

    now = world.clock()
    seen(world)
    late = opened(world.house.new_id("fi", now), a_sighting(), now)
    with pytest.raises(AskedWrongly):
        world.house.store.commit(late)
    assert len(world.house.store.findings()) == 1


def test_healed_and_moved_on(world: World) -> None:
    """Closing what somebody closed meanwhile breaks nothing."""
    found = seen(world)
    end(world.house, found, ClosedHow.HEALED, world.clock())
    end(world.house, found, ClosedHow.HEALED, world.clock())
    assert world.house.store.finding(found.id).closed_how == "healed"
