"""The look at permission sets that administer has its time: what is read by then, and what after.

On the stand-in over HTTP, with the clock and the pauses of the test.
"""

from collections.abc import Iterator
from typing import Any

import pytest

import tidegate_standin
from tests.connectors.identity_center_world import ACCOUNT, FAST, Center, running
from tests.connectors.permission_sets_clocked import Clocked, account, allowing, give
from tidegate.base.errors import Refused
from tidegate.connectors.identity_center_assignments import Assignments, Holders
from tidegate.connectors.identity_center_calls import Center as CenterCalls
from tidegate.connectors.identity_center_standing import (
    ALONE_FOR,
    KNOWN_FOR,
    LISTED_FOR,
    LONGEST_LOOK,
    LONGEST_SECOND,
    MOST_HELD,
)
from tidegate.connectors.partly_told import PartlyTold, Told, certain_of
from tidegate.connectors.port import Administrator


@pytest.fixture(scope="module")
def cloud() -> Iterator[tidegate_standin.Running]:
    """One process for this module."""
    with running() as started:
        yield started


@pytest.fixture
def center(cloud: tidegate_standin.Running) -> Center:
    """A fresh organisation, where the closer has exactly its rights."""
    return Center(cloud).narrow()


def test_calls_have_a_pause_before_each_and_policies_are_read_once_for_all_accounts(
    center: Center,
) -> None:
    """Ends have the instance's calls first; what a set may is the same wherever it is assigned."""
    give(center, "Plain", to="bo", inline_policy=allowing("s3:*"))
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center)
    center.admin.clear_calls()
    assert len(clocked.look()) == 1
    assert clocked.pauses == [0.25] * sum(center.admin.calls().values())
    assert center.admin.calls()["sso-admin:ListAccountAssignments"] == 2  # as there is none before
    center.admin.clear_calls()
    assert len(clocked.look()) == 1
    assert center.admin.calls() == {
        "sso-admin:ListPermissionSetsProvisionedToAccount": 1,
        "sso-admin:ListAccountAssignments": 1,
    }


@pytest.mark.parametrize(
    ("plain", "whole"),
    [
        ({"inline_policy": allowing("s3:*")}, {"inline_policy": allowing("*")}),
        ({"inline_policy": allowing("s3:*")}, {"customer": ["/whole"]}),
        ({"customer": ["/other"]}, {"customer": ["/other", "/whole"]}),
    ],
)
def test_set_that_is_changed_is_seen_by_the_next_look_but_an_old_list_closes_nothing(
    plain: dict[str, Any], whole: dict[str, Any], center: Center
) -> None:
    """What administers no longer is read again at once, by whoever asks for a second list."""
    aws = account(("/whole", allowing("*")), ("/other", allowing("s3:*")))
    give(center, "Changed", to="eve", **plain)
    clocked = Clocked(center)
    assert clocked.look(aws) == ()
    give(center, "Changed", to="eve", **whole)
    clocked.at += KNOWN_FOR.total_seconds()
    assert len(clocked.look(aws)) == 1
    give(center, "Changed", to="eve", **plain)
    clocked.at += KNOWN_FOR.total_seconds()
    assert clocked.look(aws) == ()
    give(center, "Changed", to="eve", **whole)
    assert len(clocked.look(aws)) == 1


FIRST = (LONGEST_LOOK - LONGEST_SECOND).total_seconds()
EACH = 0.1  # what a call takes in these tests
MOST_LOOKS = 20  # by then all of it is read


def timed(clocked: Clocked, most: float) -> tuple[tuple[Administrator, ...], Refused | None]:
    """Whom a list tells, in part or in full, and why not in full; it lasts so long at most."""
    began, why = clocked.at, None
    try:
        found = clocked.look()
    except PartlyTold as part:
        found, why = part.told, part
    except Refused as no:
        found, why = (), no
    assert clocked.at - began <= most + clocked.each  # one call is waited for
    assert why is None or why.code == "not_yet"
    return found, why


def until_whole(clocked: Clocked) -> tuple[Administrator, ...]:
    """Looks, until one tells all."""
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        if why is None:
            return found
        clocked.later()
    raise AssertionError("never told in full")


def test_instance_too_large_for_one_look_is_not_looked_at_until_all_is_read(
    center: Center,
) -> None:
    """A look has its time, since a stop waits for it; the next one goes on, and says so until."""
    for at in range(6):
        give(center, f"S{at}", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center, each=1.0)
    with pytest.raises(Refused) as no:
        clocked.look()
    assert no.value.code == "not_yet"
    assert "of 6 permission sets to be read their policies, got that of 4 " in no.value.message
    for _ in range(MOST_LOOKS):
        clocked.later()
        found, why = timed(clocked, FIRST)
        if why is None:
            break
    assert len(found) == 6 and why is None


def fill(center: Center, count: int, user: str = "eve") -> list[str]:
    """So many permission sets that administer the account, all held by one; their ARNs, sorted."""
    names = [f"S{at:02}" for at in range(count)]
    made = [{"name": one, "managed": [allowing("*")]} for one in names]
    rows = [{"permission_set": one, "account": ACCOUNT, "user": user} for one in names]
    ids = center.admin.seed(permission_sets=made, assignments=rows)
    return sorted(str(ids["permission_sets"][one]) for one in names)


def name_of(center: Center, arn: str) -> str:
    """The name of a set."""
    sets = center.admin.ids()["permission_sets"]
    return next(name for name, one in sets.items() if one == arn)


def test_one_deadline_for_the_whole_look_and_the_next_one_goes_on(center: Center) -> None:
    """Policies, names and lists, and the second list: what was not read by then is `not_yet`."""
    arns = fill(center, MOST_HELD)
    clocked, known = Clocked(center, each=EACH), [0]
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        known.append(len(found))
        if why is None:
            break
        timed(clocked, LONGEST_SECOND.total_seconds())
        clocked.later()
    assert why is None and known == sorted(known)
    assert len(set(known)) > 3 and known[-1] == MOST_HELD
    assert {arn for arn in arns if any(arn in one.what for one in found)} == set(arns)


def test_what_was_not_listed_in_time_is_never_nobody(center: Center) -> None:
    """Of a set that was never listed the look is not certain, nor of one not listed by this one."""
    arns = fill(center, MOST_HELD)
    clocked = Clocked(center, each=EACH)
    for _ in range(MOST_LOOKS):
        why = timed(clocked, FIRST)[1]
        if isinstance(why, PartlyTold) and why.told:
            break
        clocked.later()
    assert isinstance(why, PartlyTold)
    listed = {arn for arn in arns if any(arn in one.what for one in why.told)}
    assert listed < set(arns)
    assert {arn for arn in arns if why.certain(f"aws|{ACCOUNT}|{arn}|x|user")} <= listed
    until_whole(clocked)
    clocked.later()
    found = until_whole(clocked)
    assert isinstance(found, Told) and len(found) == MOST_HELD
    sure = {arn for arn in arns if found.certain(f"aws|{ACCOUNT}|{arn}|x|user")}
    assert set() < sure < set(arns)
    assert found.certain(f"arn:aws:iam::{ACCOUNT}:user/x")


def test_every_set_of_a_large_account_is_certain_in_its_turn(center: Center) -> None:
    """So a finding of each can close: lists go round, those read longest ago first."""
    arns = fill(center, MOST_HELD)
    clocked, sure = Clocked(center, each=EACH), set[str]()
    for _ in range(MOST_LOOKS):
        found, why = timed(clocked, FIRST)
        if why is None:
            certain = certain_of(found)
            sure |= {arn for arn in arns if certain(f"aws|{ACCOUNT}|{arn}|x|user")}
        clocked.later()
    assert sure == set(arns)


def test_one_old_list_of_holders_misses_nobody(center: Center) -> None:
    """Whom a list lacks, a second one is asked about at once; and who is gone is gone by two."""
    give(center, "Whole", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center)
    assert len(clocked.look()) == 1
    clocked.sets._assignments = Lagging(nobody(center))
    clocked.later()
    assert len(clocked.look()) == 1
    center.admin.remove_assignment("Whole", ACCOUNT, user="eve")
    found = clocked.look()
    assert found == () and certain_of(found)("eve")


class Lagging(Assignments):
    """AWS tells this old list once, and then what is so."""

    def __init__(self, *old: Holders) -> None:
        super().__init__(FAST)
        self._old = list(old)

    def holders(self, center: CenterCalls, account: str, permission_set: str) -> Holders:
        """The next old list, while there is one."""
        if self._old:
            return self._old.pop(0)
        return super().holders(center, account, permission_set)


def nobody(center: Center) -> Holders:
    """A list of nobody."""
    return Holders(users=frozenset(), groups=frozenset(), cloud_at=center.now())


def seen_by_another_since(center: Center) -> Clocked:
    """A process that looked before `eve` came; since then another one did, and found her."""
    give(center, "Whole", to="bo", inline_policy=allowing("*"))
    clocked, other = Clocked(center), Clocked(center)
    assert len(clocked.look()) == 1
    center.admin.add_assignment("Whole", ACCOUNT, user="eve")
    clocked.later()
    assert len(other.look()) == 2
    clocked.later()
    return clocked


def test_old_list_counts_for_two_where_another_process_looked_since(center: Center) -> None:
    """What it lacks was not yet there at this process's list before: no second one lacks it."""
    clocked, eve = seen_by_another_since(center), center.ids["users"]["eve"]
    what = next(one.what for one in Clocked(center).look() if eve in one.what)
    bo = Holders(
        users=frozenset({center.ids["users"]["bo"]}), groups=frozenset(), cloud_at=center.now()
    )
    clocked.sets._assignments = Lagging(bo)
    first = clocked.look()
    assert len(first) == 1 and certain_of(first)(what)  # so a second list is asked for
    clocked.each = 2.6  # and has no time for the holders
    second, why = timed(clocked, LONGEST_SECOND.total_seconds())
    assert why is None and not certain_of(second)(what)
    clocked.each = 0.0
    clocked.later()
    assert len(clocked.look()) == 2


def test_holder_who_is_gone_by_two_lists_of_one_look_is_never_called_gone(center: Center) -> None:
    """Where two processes take turns, each look has both lists, and they are enough."""
    clocked, eve = seen_by_another_since(center), center.ids["users"]["eve"]
    what = next(one.what for one in Clocked(center).look() if eve in one.what)
    center.admin.remove_assignment("Whole", ACCOUNT, user="eve")
    for _ in range(2):
        told = clocked.look()
        assert len(told) == 1 and certain_of(told)(what)


def test_holder_is_never_gone_where_the_second_list_has_no_time(center: Center) -> None:
    """A process that alone has the looks has two lists by its last one and this one."""
    arn = give(center, "Whole", to="bo", inline_policy=allowing("*"))
    clocked, what = Clocked(center), f"aws|{ACCOUNT}|{arn}|x|user"
    for _ in range(2):
        clocked.later()
        assert certain_of(clocked.look())(what)
    clocked.each = 2.6
    assert certain_of(timed(clocked, LONGEST_SECOND.total_seconds())[0])(what)


def test_some_sets_are_never_listed_twice_where_two_processes_take_turns(center: Center) -> None:
    """So no finding of theirs would close: what a look listed, its second list has first."""
    arns = fill(center, MOST_HELD)
    clocked, sure = Clocked(center, each=EACH), set[str]()
    until_whole(clocked)
    for _ in range(MOST_LOOKS):
        clocked.later(seconds=ALONE_FOR.total_seconds())
        first = certain_of(timed(clocked, FIRST)[0])
        second = certain_of(timed(clocked, LONGEST_SECOND.total_seconds())[0])
        sure |= {arn for arn in arns if all(one(f"aws|1|{arn}|x|user") for one in (first, second))}
    assert sure == set(arns)


def test_list_of_long_ago_is_none(center: Center) -> None:
    """Another process had the looks meanwhile: what this one knew of holders is not told."""
    arns = fill(center, 30)
    clocked = Clocked(center, each=EACH)
    until_whole(clocked)
    for arn in arns:
        center.admin.remove_assignment(name_of(center, arn), ACCOUNT, user="eve")
    clocked.later(seconds=LISTED_FOR.total_seconds())
    found, why = timed(clocked, FIRST)
    assert found == () and isinstance(why, PartlyTold)


def test_set_that_administers_no_longer_by_one_reading_is_not_certain_later(
    center: Center,
) -> None:
    """The list that read it is certain; one that had no time to read it again is not."""
    arn = give(center, "Changed", to="eve", inline_policy=allowing("*"))
    clocked = Clocked(center)
    assert len(clocked.look()) == 1
    give(center, "Changed", to="eve", inline_policy=allowing("s3:*"))
    clocked.later()
    what = f"aws|{ACCOUNT}|{arn}|x|user"
    assert certain_of(clocked.look())(what)
    clocked.each = 1.0
    found, why = timed(clocked, LONGEST_SECOND.total_seconds() + 1)
    assert (found, why) == ((), None) and not certain_of(found)(what)
    clocked.each = 0.0
    clocked.later()
    assert certain_of(clocked.look())(what)


@pytest.mark.parametrize("restarted", [True, False])
def test_one_old_reading_of_a_set_this_process_does_not_know_closes_its_findings(
    restarted: bool, center: Center
) -> None:
    """Nobody who holds it is gone until it is read twice: one new here, or read here long ago."""
    arn = give(center, "Changed", to="eve", inline_policy=allowing("s3:*"))
    what = f"aws|{ACCOUNT}|{arn}|x|user"
    clocked = Clocked(center)
    if not restarted:
        clocked.look()
        clocked.later()
        assert certain_of(clocked.look())(what)
        clocked.later(seconds=LISTED_FOR.total_seconds())  # the looks are another process's
    assert not certain_of(clocked.look())(what)
    assert not certain_of(clocked.look())(what)  # the second list reads nothing anew
    clocked.later()
    assert certain_of(clocked.look())(what)


def test_more_sets_than_are_looked_at_are_said_to_be(center: Center) -> None:
    """A bound is told as one, and never as nobody."""
    names = [f"S{at:02}" for at in range(MOST_HELD + 1)]
    center.admin.seed(
        permission_sets=[{"name": one, "managed": [allowing("*")]} for one in names],
        assignments=[{"permission_set": one, "account": ACCOUNT, "user": "eve"} for one in names],
    )
    clocked = Clocked(center)
    for _ in range(MOST_LOOKS):
        with pytest.raises(Refused) as no:
            clocked.look()
        if no.value.code != "not_yet":
            break
        clocked.later()
    assert (no.value.code, str(MOST_HELD + 1) in no.value.message) == ("too_many", True)
