"""What every connector must keep, tried on the simulated cloud and on AWS's emulator alike."""

from datetime import timedelta

import pytest

from tests.connectors.conftest import START, World
from tidegate.base.errors import AskedWrongly, Refused
from tidegate.connectors import aws_recent
from tidegate.connectors.port import (
    DEADLINE_SOON,
    LONGEST_AHEAD,
    PRUNE_MARGIN,
    Answer,
    Cut,
    Proof,
    Scope,
    Seen,
    ends_by_itself,
    may_prune,
    worth_restoring,
)

TEN_MINUTES = timedelta(minutes=10)
FIVE_MINUTES = timedelta(minutes=5)
LONG_PAST = PRUNE_MARGIN + timedelta(seconds=2)


def see(world: World, hold: object) -> Seen:
    """The one Seen of a hold."""
    seen = list(world.connector.observe(Scope(target=world.target, hold=hold), world.now()))  # type: ignore[arg-type]
    assert len(seen) == 1, "a hold must be seen exactly once"
    return seen[0]


def test_credential_works_in_the_window(world: World) -> None:
    """A granted hold gives a credential the cloud accepts, bound to the grant's end: never after
    it, and less than a second before where a cloud counts in whole seconds.
    """
    hold = world.hold(TEN_MINUTES)
    world.connector.grant(hold, world.now())
    credential = world.connector.issue(hold, world.session(), world.now())
    assert world.use(credential) is Answer.ALLOWED
    early = hold.ends_at - credential.bound_until
    assert timedelta(0) <= early < timedelta(seconds=1)
    assert credential.expires_at >= hold.ends_at
    seen = see(world, hold)
    assert (seen.usable, seen.cut, seen.foreign) == (True, False, False)
    assert (seen.key, seen.deadline_at) == (hold.key, hold.ends_at)


def test_grant_twice_is_as_once(world: World) -> None:
    """A repeated grant answers like the first and changes nothing."""
    hold = world.hold(TEN_MINUTES)
    first = world.connector.grant(hold, world.now())
    second = world.connector.grant(hold, world.now())
    assert first.detail == second.detail
    assert see(world, hold).usable


def test_end_is_refused_by_the_cloud_alone(world: World) -> None:
    """Keys held from inside the window are refused from the end on, with nobody revoking."""
    hold = world.hold(timedelta(seconds=2))
    credential = world.connector.issue(hold, world.session(), world.now())
    assert world.use(credential) is Answer.ALLOWED
    world.wait(hold.ends_at)
    assert world.use(credential) is Answer.DENIED


def test_issue_past_the_end_is_refused(world: World) -> None:
    """No credential is issued once the end has come, to the millisecond."""
    hold = world.hold(TEN_MINUTES)
    with pytest.raises(Refused) as refused:
        world.connector.issue(hold, world.session(), hold.ends_at)
    assert refused.value.code == "past_end"


def test_early_cut_spares_the_other_session(world: World) -> None:
    """Revoking one grant stops its live session at once; another of the role goes on."""
    mine, other = world.hold(TEN_MINUTES), world.hold(TEN_MINUTES)
    cut = world.connector.issue(mine, world.session(), world.now())
    spared = world.connector.issue(other, world.session(), world.now())
    world.connector.revoke(mine, world.now())
    assert world.use(cut) is Answer.DENIED
    assert world.use(spared) is Answer.ALLOWED
    seen = see(world, mine)
    assert (seen.usable, seen.cut) == (False, True)
    assert see(world, other).usable


def test_cut_holds_for_a_session_issued_after_it(world: World) -> None:
    """A session minted under a cut grant's tag is refused like the ones before."""
    hold = world.hold(TEN_MINUTES)
    world.connector.revoke(hold, world.now())
    late = world.connector.issue(hold, world.session(), world.now())
    assert world.use(late) is Answer.DENIED


@pytest.mark.parametrize("verb", ["revoke", "cut"])
def test_close_twice_is_as_once(world: World, verb: str) -> None:
    """Closing again answers as before, and the cloud still names the grant once."""
    hold = world.hold(TEN_MINUTES)
    close = world.connector.revoke if verb == "revoke" else world.connector.cut
    first, second = close(hold, world.now()), close(hold, world.now())
    assert first.detail["deny"] == second.detail["deny"] == "list"
    scope = Scope(target=world.target, role=world.role)
    named = [seen.key for seen in world.connector.observe(scope, world.now()) if seen.cut]
    assert named == [hold.key]


def test_revoke_past_the_end_writes_nothing(world: World) -> None:
    """After the end the deadline refuses already; the revoke only brings the cloud's clock."""
    hold = world.hold(timedelta(seconds=1))
    receipt = world.connector.revoke(hold, hold.ends_at)
    assert receipt.detail == {"deny": "deadline"}
    assert not see(world, hold).cut


def test_probe_tells_cut_from_open(world: World) -> None:
    """Open: allowed and proves nothing. Cut: denied while the control is allowed."""
    hold = world.hold(TEN_MINUTES)
    before = world.connector.probe(hold, world.now())
    assert (before.answer, before.control) == (Answer.ALLOWED, Answer.ALLOWED)
    assert not before.proves_denied
    world.connector.cut(hold, world.now())
    after = world.connector.probe(hold, world.now())
    assert after.proves_denied
    assert after.call == world.role.probe


def test_probe_past_the_end_is_denied_by_the_deadline(world: World) -> None:
    """An expired grant is proved closed without any deny on the role."""
    hold = world.hold(timedelta(seconds=1))
    world.wait(hold.ends_at + timedelta(milliseconds=50))
    assert world.connector.probe(hold, world.now()).proves_denied


def test_deny_somebody_removed_is_put_back(world: World) -> None:
    """A removed deny reopens the session; mend names it, restores it, and is quiet after."""
    hold = world.hold(TEN_MINUTES)
    credential = world.connector.issue(hold, world.session(), world.now())
    world.connector.revoke(hold, world.now())
    world.tamper(hold)
    assert world.use(credential) is Answer.ALLOWED
    cuts = {hold.grant: Cut(until=hold.ends_at)}
    assert world.connector.mend(world.target, world.role, cuts, world.now()) == (hold.grant,)
    assert world.use(credential) is Answer.DENIED
    assert world.connector.mend(world.target, world.role, cuts, world.now()) == ()


def test_mend_prunes_what_can_no_longer_matter(world: World) -> None:
    """An id past its time leaves the list; one that still matters stays."""
    old, young = world.hold(TEN_MINUTES), world.hold(TEN_MINUTES)
    for hold in (old, young):
        world.connector.revoke(hold, world.now())
    cuts = {
        old.grant: Cut(until=world.now() - LONG_PAST),
        young.grant: Cut(until=young.ends_at),
    }
    assert world.connector.mend(world.target, world.role, cuts, world.now()) == ()
    assert not see(world, old).cut
    assert see(world, young).cut
    cuts = {young.grant: Cut(until=world.now() - LONG_PAST)}
    assert world.connector.mend(world.target, world.role, cuts, world.now()) == ()
    assert (
        list(world.connector.observe(Scope(target=world.target, role=world.role), world.now()))
        == []
    )


def test_cut_outlives_its_end_by_the_margin(world: World) -> None:
    """Just past its end a cut is neither pruned nor, when it is missing, put back."""
    there, missing = world.hold(TEN_MINUTES), world.hold(TEN_MINUTES)
    world.connector.revoke(there, world.now())
    cuts = {there.grant: Cut(until=world.now()), missing.grant: Cut(until=world.now())}
    assert world.connector.mend(world.target, world.role, cuts, world.now()) == ()
    assert see(world, there).cut
    assert not see(world, missing).cut


def test_our_clock_ahead_does_not_prune_a_cut_that_still_matters(world: World) -> None:
    """Our clock is past the end, the cloud's is not: revoked keys stay revoked."""
    hold = world.hold(FIVE_MINUTES + timedelta(minutes=1))
    credential = world.connector.issue(hold, world.session(), world.now())
    world.connector.revoke(hold, world.now() + FIVE_MINUTES)
    assert world.use(credential) is Answer.DENIED
    cuts = {hold.grant: Cut(until=hold.ends_at)}
    for ahead in (FIVE_MINUTES, FIVE_MINUTES + timedelta(minutes=2), 3 * TEN_MINUTES):
        world.connector.mend(world.target, world.role, cuts, world.now() + ahead)
        assert world.use(credential) is Answer.DENIED
    world.tamper(hold)
    later = hold.ends_at + timedelta(minutes=1)
    assert world.connector.mend(world.target, world.role, cuts, later) == (hold.grant,)
    assert world.use(credential) is Answer.DENIED


@pytest.mark.parametrize("verb", ["revoke", "cut"])
def test_our_clock_ahead_past_the_end_still_denies(world: World, verb: str) -> None:
    """By our clock the end has come, by the cloud's it is minutes away: denied at once."""
    hold = world.hold(timedelta(minutes=2))
    credential = world.connector.issue(hold, world.session(), world.now())
    close = world.connector.revoke if verb == "revoke" else world.connector.cut
    assert close(hold, world.now() + FIVE_MINUTES).detail["deny"] == "list"
    assert world.use(credential) is Answer.DENIED
    seen = see(world, hold)
    assert (seen.usable, seen.cut) == (False, True)


def test_clock_far_ahead_prunes_nothing_unnamed(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So far ahead that a caller may have stopped naming a cut too early: it stays."""
    monkeypatch.setattr(aws_recent, "FRESH", timedelta(seconds=-1))
    hold = world.hold(TEN_MINUTES)
    world.connector.revoke(hold, world.now())
    far = world.now() + LONGEST_AHEAD + timedelta(seconds=2)
    assert world.connector.mend(world.target, world.role, {}, far) == ()
    assert see(world, hold).cut
    assert world.connector.mend(world.target, world.role, {}, world.now()) == ()
    assert not see(world, hold).cut


def test_rule_of_the_two_clocks() -> None:
    """Each limit to the millisecond, and no cut both prunable and worth restoring."""
    end, tick = START, timedelta(milliseconds=1)
    assert ends_by_itself(end, end, end - DEADLINE_SOON)
    assert not ends_by_itself(end, end, end - DEADLINE_SOON - tick)
    assert not ends_by_itself(end, end - tick, end)
    assert worth_restoring(end, end - DEADLINE_SOON - tick)
    assert not worth_restoring(end, end - DEADLINE_SOON)
    assert may_prune(end, end, end + PRUNE_MARGIN + tick)
    assert not may_prune(end, end + TEN_MINUTES, end + PRUNE_MARGIN)
    assert not may_prune(end, end - tick, end + TEN_MINUTES), "the cloud's clock ran ahead"
    assert may_prune(None, end + LONGEST_AHEAD, end)
    assert not may_prune(None, end + LONGEST_AHEAD + tick, end)


def test_probe_with_our_clock_behind_still_proves(world: World) -> None:
    """The control lives by the cloud's clock: ours being late does not make it dead at birth."""
    hold = world.hold(TEN_MINUTES)
    world.connector.revoke(hold, world.now())
    assert world.connector.probe(hold, world.now() - FIVE_MINUTES).proves_denied


def test_role_that_was_deleted(world: World) -> None:
    """A missing role refuses the grant, is seen unusable, and closing it is done."""
    hold = world.hold(TEN_MINUTES)
    world.delete_role()
    with pytest.raises(Refused) as refused:
        world.connector.grant(hold, world.now())
    assert refused.value.code == "not_there"
    assert not see(world, hold).usable
    world.connector.revoke(hold, world.now())


def test_role_that_is_gone_shows_as_it_should_be(world: World) -> None:
    """A role nobody touched has not drifted; one that is gone has, told alike at every look."""
    assert world.connector.drift(world.target, world.role, world.now()) == ()
    world.delete_role()
    first = world.connector.drift(world.target, world.role, world.now())
    assert len(first) == 1 and all(0 < len(says) <= 400 for says in first)
    assert world.connector.drift(world.target, world.role, world.now()) == first


def test_search_that_changes_what_it_looks_at(world: World) -> None:
    """It says what was searched or why not, the same again, and takes nobody's access away."""
    hold = world.hold(TEN_MINUTES)
    credential = world.connector.issue(hold, world.session(), world.now())
    until = world.now() - timedelta(days=400)  # nobody made anything then
    window = (hold, (credential.key_id,), until - FIVE_MINUTES, until)
    first = world.connector.side_doors(*window, world.now())
    again = world.connector.side_doors(*window, world.now())
    assert first.found == () == again.found
    assert (first.searched, first.why_not) == (again.searched, again.why_not)
    assert first.searched or first.why_not
    assert len(set(first.searched)) == len(first.searched)
    assert not first.again
    assert world.use(credential) is Answer.ALLOWED
    seen = see(world, hold)
    assert (seen.usable, seen.cut) == (True, False)


def test_health_of_a_reachable_target(world: World) -> None:
    """A right account at a right clock has no findings."""
    health = world.connector.health(world.target, world.now())
    assert health.reached
    assert health.findings == ()
    assert health.cloud_at is not None


def test_powers_of_iam_role(world: World) -> None:
    """iam-role declares deadline, proof and shared document; another kind is unknown."""
    powers = world.connector.powers("iam-role")
    assert powers.native_deadline and powers.issues and powers.shared_document
    assert powers.proof is Proof.DENIED
    with pytest.raises(AskedWrongly):
        world.connector.powers("nothing")


def test_repr_of_a_credential_shows_no_secret(world: World) -> None:
    """What ends in a log is the key id, never the material."""
    hold = world.hold(TEN_MINUTES)
    credential = world.connector.issue(hold, world.session(), world.now())
    for name, secret in credential.material.items():
        assert name == "access_key_id" or secret not in repr(credential)
