"""The whole path on the simulated cloud: what a person can do, and when it ends."""

from datetime import timedelta

import pytest

from tests.support import ARN, RULES, START, World, catalogue, laws
from tidegate.approve import Choice
from tidegate.base.errors import AskedWrongly, NotAllowed, NotFound, Stale
from tidegate.catalogue import AssignmentKey
from tidegate.connectors.port import Answer
from tidegate.expire import Proof
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.mending import mend_cuts
from tidegate.flow.people import LOCAL, record
from tidegate.flow.revoking import end_early
from tidegate.grant import Cause, GrantState
from tidegate.policy.rules import load_rules
from tidegate.request import DECIDE_WITHIN, RequestState

MINUTE = timedelta(minutes=1)


def test_access_outlives_its_window(world: World) -> None:
    """Allowed during, denied from the very end on, gone with the strongest proof there is."""
    grant = world.granted()
    keys = world.keys(grant)
    assert grant.ends_at == START + 30 * MINUTE
    assert world.use(keys) is Answer.ALLOWED
    world.clock.forward(minutes=30, milliseconds=-1)
    assert world.use(keys) is Answer.ALLOWED
    world.clock.forward(milliseconds=1)
    assert world.use(keys) is Answer.DENIED  # the cloud itself: no worker has run
    world.work()
    over = world.grant(grant)
    assert over.state is GrantState.GONE
    assert over.proof == Proof.DENIED
    assert over.end_reason == "expired"
    (session,) = world.house.store.sessions(grant.id)
    assert session.why == "expired"


def test_story_has_a_gap(world: World) -> None:
    """Every step of a life is sealed, in order, in the request's own chain."""
    grant = world.granted()
    world.keys(grant)
    world.clock.forward(minutes=31)
    world.work()
    assert world.names(grant.request) == [
        "request.filed",
        "request.voted",
        "request.approved",
        "grant.readied",
        "grant.intended",
        "grant.opened",
        "session.issued",
        "grant.closing",
        "grant.removed",
        "grant.gone",
        "session.ended",
    ]


def test_credential_after_the_end(world: World) -> None:
    """The broker issues nothing from the end on, though no worker has run (I3c)."""
    grant = world.granted()
    world.clock.forward(minutes=30)
    with pytest.raises(NotAllowed):
        world.keys(grant)
    assert world.connector.calls["issue"] == 0


def test_early_end_that_cuts_the_wrong_session(world: World) -> None:
    """Revoking one grant refuses its sessions at once and leaves another's on the same role."""
    anas, eves = world.granted("ana"), world.granted("eve")
    held, other = world.keys(anas), world.keys(eves, "eve")
    ended = end_early(world.house, world.who("bo"), anas.id, "wrong account")
    ended = close_now(world.house, ended)
    assert world.use(held) is Answer.DENIED
    assert world.use(other) is Answer.ALLOWED
    assert (ended.state, ended.end_reason, ended.proof) == (GrantState.GONE, "revoked", "denied")


def test_owner_called_revoker(world: World) -> None:
    """Its owner ends it `done`; ending it again changes nothing."""
    grant = world.granted()
    first = end_early(world.house, world.who("ana"), grant.id)
    assert first.end_reason == "done"
    assert end_early(world.house, world.who("ana"), grant.id) == first


def test_cut_that_somebody_removed(world: World) -> None:
    """A deny taken away by hand is put back and sealed, until the grant's own end passes."""
    grant = world.granted()
    keys = world.keys(grant)
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    assert world.use(keys) is Answer.ALLOWED
    assert mend_cuts(world.house) == [grant.id]
    assert world.use(keys) is Answer.DENIED
    assert "cut.restored" in world.names("target:prod")
    (found,) = world.house.store.findings()
    assert (found.kind.value, found.grant, found.closed_how) == ("deny_removed", grant.id, "healed")
    world.cloud.tamper("123456789012", f"{ARN}-prod", grant.id, world.clock())
    assert mend_cuts(world.house) == [grant.id]
    assert [one.times for one in world.house.store.findings()] == [2]
    world.clock.forward(minutes=31)
    assert mend_cuts(world.house) == []


def test_role_mapped_elsewhere_between_vote_and_opening(world: World) -> None:
    """The votes named another native role: nothing opens."""
    request = world.vote(world.ask())
    put_in_force(world.house, laws(found=catalogue("arn:aws:iam::999999999999:role/root")))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.ROLE_CHANGED)
    assert world.connector.calls["grant"] == 0


def test_role_mapped_elsewhere_while_open(world: World) -> None:
    """Closing acts on what was opened, whatever the catalogue says by then."""
    grant = world.granted()
    keys = world.keys(grant)
    put_in_force(world.house, laws(found=catalogue("arn:aws:iam::999999999999:role/root")))
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    assert world.use(keys) is Answer.DENIED


@pytest.mark.parametrize(
    "rules",
    [
        "",
        '@id("admin") @max("2h") @approve("2 of group:leads") permit (principal in Group::"sre",'
        ' action == Action::"request", resource in Target::"prod");',
        '@id("admin") @max("10m") @approve("1 of group:leads") permit (principal in Group::"sre",'
        ' action == Action::"request", resource in Target::"prod");',
    ],
    ids=["no rule", "more votes", "shorter"],
)
def test_rules_tightened_between_vote_and_opening(world: World, rules: str) -> None:
    """At opening everything is evaluated again under the set in force (I9)."""
    request = world.vote(world.ask())
    put_in_force(world.house, laws(rules=rules))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)


def test_approver_removed_between_vote_and_opening(world: World) -> None:
    """A vote whose voter left the group no longer meets the requirement."""
    from dataclasses import replace

    request = world.vote(world.ask())
    members = {**world.laws.groups.members, "leads": ("cy",)}
    put_in_force(
        world.house, replace(world.laws, groups=replace(world.laws.groups, members=members))
    )
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)


def test_leaver_opens_what_was_approved(world: World) -> None:
    """A disabled account opens nothing."""
    request = world.vote(world.ask())
    record(world.house, LOCAL, "ana", world.clock(), name="ana", enabled=False)
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)


def test_self_approval_as_member_of_the_approving_group(world: World) -> None:
    """Being a lead does not let one decide on one's own request."""
    request = world.ask()
    with pytest.raises(NotAllowed) as caught:
        world.vote(request, "ana")
    assert caught.value.code == "self_approval"


@pytest.mark.parametrize(
    "mail", ["ANA@x.invalid", "ana+ops@x.invalid", "ａｎａ@x.invalid", "ana@X.invalid."]
)
def test_self_approval_through_a_second_account(world: World, mail: str) -> None:
    """An account with the same mail address in another spelling is the same person."""
    record(world.house, LOCAL, "cy", world.clock(), name="cy", mail=mail)
    request = world.ask()
    with pytest.raises(NotAllowed) as caught:
        world.vote(request, "cy")
    assert caught.value.code == "self_approval"


def test_two_votes_race(world: World) -> None:
    """Two approvers in the same moment both count; neither is lost, nothing opens twice."""
    from concurrent.futures import ThreadPoolExecutor

    request = world.ask(role="vault/admin")
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda login: world.vote(request, login), ("bo", "cy")))
    after = world.house.store.request(request.id)
    assert after.state is RequestState.APPROVED
    assert len(after.votes) == 2
    assert len(world.house.store.grants(request=request.id)) == 1


def test_vote_on_terms_edited_meanwhile(world: World) -> None:
    """The digest shown before an edit is refused after it, and the old vote is void."""
    from tidegate.flow.approving import cast
    from tidegate.flow.asking import Asked, change

    request = world.ask(role="vault/admin")
    world.vote(request, "bo")
    asked = Asked(roles=("vault/admin",), duration=timedelta(hours=1), reason="more")
    changed = change(world.house, world.who("ana"), request.id, asked)
    assert changed.votes == ()
    with pytest.raises(Stale) as caught:
        cast(world.house, world.who("cy"), request.id, Choice.APPROVE, request.digest)
    assert caught.value.code == "digest_changed"


def test_refusal_by_the_rules_leaves_no_trace(world: World) -> None:
    """What no rule permits is filed as refused: it has an id and a reason, and opens nothing."""
    request = world.ask("bo")
    assert (request.state, request.code) == (RequestState.REFUSED, "no_rule")
    assert world.names(request.id) == ["request.filed", "request.refused"]
    assert world.house.store.grants(request=request.id) == []


def test_request_nobody_decides(world: World) -> None:
    """It lapses at decide-by and takes no vote after it."""
    request = world.ask()
    world.clock.at += DECIDE_WITHIN
    world.work()
    assert world.house.store.request(request.id).state is RequestState.LAPSED
    with pytest.raises(Stale):
        world.vote(request)


def test_no_vote_needed_opens_at_once(world: World) -> None:
    """A requirement of none opens without anybody; it still ends."""
    request = world.ask(role="dev/admin")
    assert request.state is RequestState.APPROVED
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.OPEN


def test_start_in_the_future(world: World) -> None:
    """It waits for its start, and its end counts from there."""
    request = world.vote(world.ask(start=START + 10 * MINUTE))
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.state is GrantState.READY
    world.clock.forward(minutes=10)
    world.work()
    assert world.grant(grant).state is GrantState.OPEN
    assert world.grant(grant).ends_at == START + 40 * MINUTE


@pytest.mark.parametrize(
    ("field", "value", "code"),
    [
        ("roles", ("prod/none",), "unknown_role"),
        ("roles", ("../../etc",), "unknown_role"),
        ("reason", "a\x1b[2Jb", "bad_reason"),
        ("reason", "two\nlines", "bad_reason"),
        ("reason", "x" * 1_000_000, "long_reason"),
        ("reason", "  ", "empty_reason"),
        ("reason", "right\u202eleft", "bad_reason"),
        ("ticket", "INC 1", "bad_ticket"),
        ("ticket", "x" * 200, "bad_ticket"),
        ("duration", timedelta(0), "bad_duration"),
        ("duration", timedelta(minutes=-1), "bad_duration"),
    ],
)
def test_nonsense_that_is_filed(world: World, field: str, value: object, code: str) -> None:
    """Bad input gets its own clear error and leaves nothing behind."""
    before = world.house.store.head().size
    with pytest.raises(AskedWrongly) as caught:
        world.ask(**{field: value})
    assert caught.value.code == code
    assert world.house.store.head().size == before


@pytest.mark.parametrize("login", ["nobody", "eve"])
def test_somebody_elses_grant(world: World, login: str) -> None:
    """What is not yours to see is not found, for reading, using and ending alike."""
    grant = world.granted()
    for act in (
        lambda: end_early(world.house, world.who(login), grant.id),
        lambda: world.keys(grant, login),
    ):
        with pytest.raises(NotFound):
            act()


def test_standing_access_removed_or_called_gone(world: World) -> None:
    """Access that stood before any intent of ours is never removed, and never called gone (I5)."""
    from dataclasses import replace

    found = catalogue()
    standing = replace(found.roles["prod/admin"], kind="assignment", probe="")
    put_in_force(
        world.house, laws(found=replace(found, roles={**found.roles, "prod/admin": standing}))
    )
    key = AssignmentKey(
        connector="simulated",
        account="123456789012",
        native_role=f"{ARN}-prod",
        native_principal="ana",
    )
    world.cloud.place(key, world.clock())
    grant = world.granted()
    world.clock.forward(minutes=31)
    world.work()
    world.clock.forward(days=2)
    world.work()
    after = world.grant(grant)
    assert (after.state, after.still_held_by) == (GrantState.REMOVED, "standing access")
    assert world.cloud.standing(world.clock()) == (key,)


@pytest.mark.parametrize(
    ("login", "may"), [("audit", False), ("cy", False), ("bo", True), ("op", True)]
)
def test_revoking_by_whoever_can_see(world: World, login: str, may: bool) -> None:
    """Seeing is not revoking: auditors and approvers who did not vote cannot, voters can."""
    grant = world.granted()
    if may:
        assert end_early(world.house, world.who(login), grant.id).end_reason == "revoked"
        return
    with pytest.raises(NotAllowed):
        end_early(world.house, world.who(login), grant.id)
    assert world.grant(grant).state is GrantState.OPEN


def test_done_by_somebody_else(world: World) -> None:
    """Only its holder uses a grant, whatever else one may do to it."""
    grant = world.granted()
    with pytest.raises(NotAllowed):
        world.keys(grant, "op")


def test_cuts_of_two_entries_on_one_native_role(world: World) -> None:
    """Two catalogue entries on one native role: looking after one's denies keeps the other's."""
    first = world.granted("ana")
    held = world.keys(first)
    close_now(world.house, end_early(world.house, world.who("ana"), first.id))
    put_in_force(world.house, laws(found=catalogue(probe="s3:ListAllMyBuckets")))
    second = world.granted("eve")
    other = world.keys(second, "eve")
    close_now(world.house, end_early(world.house, world.who("eve"), second.id))
    for _ in range(2):
        mend_cuts(world.house)
        assert world.use(held) is Answer.DENIED
        assert world.use(other) is Answer.DENIED


def test_rules_swapped_in_the_middle_of_a_decision(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict and the digest it is sealed with are of one rule set (I9)."""
    from tidegate.flow import asking

    real, old = asking.judge, world.house.laws.rules.digest

    def swapping(given, *rest):  # type: ignore[no-untyped-def]
        world.house.laws = laws(rules="")
        return real(given, *rest)

    monkeypatch.setattr(asking, "judge", swapping)
    request = world.ask()
    assert request.state is RequestState.PENDING
    assert request.terms.rules_digest == old


def test_rule_on_an_outer_group_misses_a_member_of_an_inner_one(world: World) -> None:
    """Groups within groups count in full: for asking, for voting, and for a forbid."""
    from dataclasses import replace

    groups = replace(
        world.laws.groups,
        members={**world.laws.groups.members, "sre": (), "night": ("ana",)},
        within={"night": ("sre",), "sre": ("staff",)},
    )
    put_in_force(world.house, replace(world.laws, groups=groups))
    assert world.who("ana").groups == {"night", "sre", "staff", "leads"}
    assert world.ask().state is RequestState.PENDING
    forbid = '@id("no") forbid (principal in Group::"staff", action, resource);'
    both = load_rules({"rules.cedar": RULES, "stop.cedar": forbid})
    put_in_force(world.house, replace(world.laws, groups=groups, rules=both))
    assert world.ask().code == "forbidden"


def test_second_account_that_turns_out_to_be_the_requester_s(world: World) -> None:
    """Accounts found to be one person after the vote no longer make two at opening (I9)."""
    request = world.vote(world.ask())
    record(world.house, LOCAL, "bo", world.clock(), name="bo", mail="ana@x.invalid")
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert (grant.state, grant.cause) == (GrantState.FAILED, Cause.NOT_PERMITTED)


def test_window_that_begins_before_its_intent_is_sealed(world: World) -> None:
    """The clock of the window is read after the cloud was asked, not before."""
    real = world.connector.observe

    def slow(scope, now):  # type: ignore[no-untyped-def]
        world.clock.forward(seconds=3)
        return real(scope, now)

    request = world.vote(world.ask())
    world.connector.observe = slow  # type: ignore[method-assign]
    world.worker.tick()
    (grant,) = world.house.store.grants(request=request.id)
    assert grant.ends_at == START + timedelta(seconds=3) + 30 * MINUTE


def test_grant_in_hand_is_given_to_a_second_worker(world: World) -> None:
    """A leased grant is nobody else's until the lease is over."""
    world.vote(world.ask())
    now = world.clock()
    first = world.house.store.claim_due(now, 10, timedelta(minutes=2))
    assert len(first) == 1
    other = world.vote(world.ask("eve"))  # something else is due, so the claim really looks
    again = world.house.store.claim_due(now, 10, timedelta(minutes=2))
    assert [grant.request for grant in again] == [other.id]
    later = now + timedelta(minutes=3)
    assert len(world.house.store.claim_due(later, 10, timedelta(minutes=2))) == 2
