"""The shared deny: nobody is ever lost from it, and it never grows over its limit."""

import json
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant, from_ms
from tidegate.connectors.identity_center_deny import (
    LONGEST_INLINE,
    LONGEST_SCP,
    Denies,
    Document,
    Whose,
    fit,
    idle,
    parse,
    prune,
    render,
    size,
)

START = from_ms(1_795_000_000_000)
HOUR = timedelta(hours=1)
ACCOUNT = "111122223333"


def user(number: int) -> str:
    """A user id of the identity store's length."""
    return f"90677{number:05d}-00000000-0000-4000-8000-{number:012d}"


def whose(number: int, account: str = ACCOUNT, role: str = "") -> Whose:
    """Somebody's sessions in one account."""
    return Whose(account=account, user=user(number), role=role)


def later(seconds: int) -> Instant:
    """An instant some seconds after the start."""
    return START + timedelta(seconds=seconds)


WHOSE = st.builds(
    whose,
    st.integers(0, 60),
    st.sampled_from([ACCOUNT, "444455556666"]),
    st.sampled_from(["", "Admin", "ReadOnly"]),
)
AT = st.integers(0, 7_200).map(later)
DENIES = st.builds(
    lambda before, holding, everybody: Denies(before=before, holding=holding, everybody=everybody),
    st.dictionaries(WHOSE, AT, max_size=40),
    st.dictionaries(WHOSE, AT, max_size=10),
    st.none() | AT,
)
OWN = st.lists(
    st.fixed_dictionaries(
        {
            "Sid": st.sampled_from(["Own", "TidegateCut1", "TidegateCutHold1", ""]),
            "Effect": st.sampled_from(["Allow", "Deny"]),
            "Action": st.sampled_from(["s3:*", ["s3:GetObject", "s3:PutObject"]]),
            "Resource": st.just("*"),
        }
    ),
    max_size=3,
).map(tuple)


def refuses_no_less(after: Denies, before: Denies) -> None:
    """Each who was refused is refused, up to no earlier instant."""
    for one in {*before.before, *before.holding}:
        was, now = before.refused_until(one), after.refused_until(one)
        assert was is not None and now is not None and now >= was
    for one, at in before.before.items():
        until = after.cut_until(one)
        assert until is not None and until >= at
    if before.everybody is not None:
        assert after.everybody is not None and after.everybody >= before.everybody


@given(own=OWN, denies=DENIES)
@settings(max_examples=60, deadline=None)
def test_entry_lost_between_write_and_read_is_found(
    own: tuple[object, ...], denies: Denies
) -> None:
    """What is written is read back: who is refused until when, and the others' statements."""
    text = render(Document(own=own, denies=denies))  # type: ignore[arg-type]
    read = parse(text)
    assert read.own == own
    refuses_no_less(read.denies, denies)
    assert render(read) == text
    if text:
        sids = [one["Sid"] for one in json.loads(text)["Statement"] if one not in own]
        assert len(set(sids)) == len(sids)


@given(own=OWN, denies=DENIES, spared=st.sets(WHOSE, max_size=20), limit=st.integers(1_500, 4_000))
@settings(max_examples=100, deadline=None)
def test_full_document_loses_nobody(
    own: tuple[object, ...], denies: Denies, spared: set[Whose], limit: int
) -> None:
    """Within any limit everybody who was refused still is; the others' statements stay."""
    fitted = fit(Document(own=own, denies=denies), limit, spared)  # type: ignore[arg-type]
    text = render(fitted)
    assert size(text) <= limit
    read = parse(text)
    assert read.own == own
    refuses_no_less(read.denies, denies)


@pytest.mark.parametrize("limit", [LONGEST_INLINE, LONGEST_SCP])
def test_thousand_revocations_lose_nobody(limit: int) -> None:
    """A thousand people cut one after the other: each stays refused, the text stays in bounds."""
    document = Document(own=({"Effect": "Allow", "Action": "s3:*", "Resource": "*"},))
    for number in range(1_000):
        denies = document.denies.cut(whose(number), later(number * 7))
        document = fit(Document(top=document.top, own=document.own, denies=denies), limit)
        assert size(render(document)) <= limit
    read = parse(render(document))
    for number in range(1_000):
        until = read.denies.cut_until(whose(number))
        assert until is not None and until >= later(number * 7)


def test_room_is_made_by_those_who_hold_nothing_first() -> None:
    """Instants are merged for people without a new grant; who has one keeps the exact instant."""
    before = {whose(number): later(number) for number in range(40)}
    spared = {whose(number) for number in range(5)}
    fitted = fit(Document(denies=Denies(before=before)), 8_000, spared)
    assert fitted.denies.everybody is None
    for number in range(5):
        assert fitted.denies.before[whose(number)] == later(number)
    assert fitted.denies.before[whose(39)] == later(39), "only as much is merged as must be"


def test_last_resort_leaves_newer_instants_apart() -> None:
    """With no room for all the names, everybody is refused only up to the older half's instant."""
    before = {whose(number): later(number) for number in range(400)}
    fitted = fit(Document(denies=Denies(before=before)), LONGEST_INLINE)
    assert fitted.denies.everybody is not None
    assert fitted.denies.everybody < later(399)
    assert fitted.denies.cut_until(whose(1_000)) == fitted.denies.everybody


def test_people_cut_at_one_instant_share_a_statement() -> None:
    """Names are listed under one instant; another account has its own statement."""
    at = later(60)
    denies = Denies(before={whose(1): at, whose(2): at, whose(3, "444455556666"): at})
    statements = json.loads(render(Document(denies=denies)))["Statement"]
    assert len(statements) == 2
    assert statements[0] == {
        "Sid": "TidegateCut1",
        "Effect": "Deny",
        "Action": "*",
        "Resource": "*",
        "Condition": {
            "StringEquals": {
                "aws:PrincipalAccount": ACCOUNT,
                "identitystore:UserId": [user(1), user(2)],
            },
            "DateLessThan": {"aws:TokenIssueTime": "2026-11-18T11:07:40Z"},
        },
    }


def test_scp_entry_names_the_permission_set() -> None:
    """One document for many permission sets: the deny ends sessions of the one only."""
    denies = Denies(before={whose(1, role="Admin"): later(1)})
    text = render(Document(denies=denies))
    assert json.loads(text)["Statement"][0]["Condition"]["ArnLike"] == {
        "aws:PrincipalArn": (
            "arn:*:iam::*:role/aws-reserved/sso.amazonaws.com/*AWSReservedSSO_Admin_*"
        )
    }
    assert parse(text).denies == denies


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '"x"', '{"Statement":[1]}', '{"Statement":[],"Statement":[]}', "[" * 100_000],
)
def test_unreadable_policy_is_refused(text: str) -> None:
    """What cannot be read back whole is never taken for an empty policy."""
    with pytest.raises(AskedWrongly) as refused:
        parse(text)
    assert refused.value.code == "bad_policy"


def test_strange_statement_with_our_sid_is_kept() -> None:
    """A statement somebody made look like ours is left where it is, and its Sid is not reused."""
    strange = {"Sid": "TidegateCut1", "Effect": "Allow", "Action": "*", "Resource": "*"}
    read = parse(json.dumps({"Version": "2012-10-17", "Statement": strange}))
    assert read.own == (strange,)
    text = render(Document(own=read.own, denies=read.denies.cut(whose(1), later(1))))
    assert [one["Sid"] for one in json.loads(text)["Statement"]] == ["TidegateCut1", "TidegateCut2"]


def test_single_user_without_a_list_is_read() -> None:
    """A list of one and its only value mean the same, however the document comes back."""
    text = render(Document(denies=Denies(before={whose(1): later(1)})))
    document = json.loads(text)
    equal = document["Statement"][0]["Condition"]["StringEquals"]
    equal["identitystore:UserId"] = user(1)
    assert parse(json.dumps(document)).denies.before == {whose(1): later(1)}


def test_earlier_cut_never_shortens_a_later_one() -> None:
    """Two ends of one person: the later instant of issue stays."""
    denies = Denies().cut(whose(1), later(100)).cut(whose(1), later(50))
    assert denies.cut_until(whose(1)) == later(100)


def test_held_back_is_not_a_cut() -> None:
    """A stop-gap refuses, and is not taken for the cut that ends a grant."""
    denies = Denies().cut(whose(1), later(5)).hold(whose(1), later(3_600))
    assert denies.refused_until(whose(1)) == later(3_600)
    assert denies.cut_until(whose(1)) == later(5)
    assert denies.cut(whose(1), later(60)).refused_until(whose(1)) == later(60)


def test_pruned_too_early_is_found() -> None:
    """An entry goes when no session of that age can live, and not while somebody names it."""
    other = whose(4, role="X")
    denies = Denies(
        before={
            whose(1): later(0),
            whose(2): later(0),
            whose(3): later(10),
            whose(4, role="X"): START,
        },
        holding={whose(5): later(3_600), whose(6): later(3_602)},
        everybody=later(0),
    )
    cloud_at = later(3_601)
    left = prune(denies, cloud_at=cloud_at, lasting=HOUR, role="", needed={whose(2)})
    assert set(left.before) == {whose(2), whose(3), other}
    assert set(left.holding) == {whose(6)}
    assert left.everybody == later(0), "other permission sets' sessions may live twelve hours"
    twelve = prune(denies, cloud_at=later(43_201), lasting=HOUR, role="", needed=())
    assert twelve.everybody is None


def test_nothing_left_leaves_nothing_behind() -> None:
    """Without entries the text is empty; an SCP keeps one statement that refuses nobody."""
    assert render(Document()) == ""
    assert parse("") == Document()
    left = parse(idle(Document()))
    assert (left.own, left.denies) == ((), Denies())


def test_no_room_is_said() -> None:
    """Others' statements that fill the policy are named as the reason."""
    own = ({"Sid": "Own", "Effect": "Allow", "Action": "s3:" + "x" * 1_000, "Resource": "*"},)
    denies = Denies().cut(whose(1), later(1))
    with pytest.raises(AskedWrongly) as refused:
        fit(Document(own=own, denies=denies), 1_100)
    assert refused.value.code == "no_room"
