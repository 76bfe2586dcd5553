"""Request: what may be asked, what its digest names, which moves are legal."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from tests.stages.make import NOW, REASON, TERMS, a_request, thing
from tidegate.base.errors import AskedWrongly, Stale
from tidegate.base.fact import Fact
from tidegate.base.when import wire
from tidegate.request import (
    DECIDE_WITHIN,
    TABLE,
    Request,
    RequestState,
    check_terms,
    edit,
    evolve,
    lapse,
    request_digest,
    withdraw,
)


@pytest.mark.parametrize(
    "change",
    [
        {"principal": "pr_bo"},
        {"items": (replace(TERMS.items[0], role="aws-prod/other"),)},
        {"items": (replace(TERMS.items[0], role_digest="sha256:" + "c" * 64),)},
        {"items": (replace(TERMS.items[0], carrier="other"),)},
        {"items": (replace(TERMS.items[0], requirement="none"),)},
        {"items": TERMS.items * 2},
        {"duration": timedelta(minutes=46)},
        {"start": NOW},
        {"reason": "sha256:" + "d" * 64},
        {"ticket": None},
        {"emergency": True},
        {"rules_digest": "sha256:" + "e" * 64},
    ],
)
def test_a_change_an_approver_would_not_see_in_the_digest(change: dict[str, object]) -> None:
    """Changing anything an approver is shown changes the digest (I9)."""
    assert request_digest("rq_1", replace(TERMS, **change)) != request_digest("rq_1", TERMS)  # type: ignore[arg-type]


def test_one_digest_for_two_requests() -> None:
    """The same terms under another id are another digest: votes cannot be carried over."""
    assert request_digest("rq_1", TERMS) != request_digest("rq_2", TERMS)


def test_digest_format_that_drifts_is_found() -> None:
    """The digest of fixed terms is fixed: a change breaks every vote cast under the old format."""
    assert (
        request_digest("rq_1", TERMS)
        == "sha256:d87248a3a5ad13f7f1bdf5898d16d88b36182ccf31b97b715b39d700e2e1999c"
    )


@pytest.mark.parametrize(
    ("roles", "minutes", "start_minutes", "code"),
    [
        ([], 45, None, "bad_items"),
        (["a/b"] * 2, 45, None, "bad_items"),
        ([f"a/r{n}" for n in range(21)], 45, None, "bad_items"),
        (["a/b"], 0, None, "bad_duration"),
        (["a/b"], -5, None, "bad_duration"),
        (["a/b"], 45, -2, "bad_start"),
        (["a/b"], 45, 60 * 24 * 31, "bad_start"),
    ],
)
def test_terms_no_rule_could_make_right(
    roles: list[str], minutes: int, start_minutes: int | None, code: str
) -> None:
    """Nonsense is refused before any rule is asked, each with its own code."""
    start = NOW + timedelta(minutes=start_minutes) if start_minutes is not None else None
    with pytest.raises(AskedWrongly) as caught:
        check_terms(roles, timedelta(minutes=minutes), start, NOW)
    assert caught.value.code == code


def test_fraction_of_a_second_is_refused() -> None:
    """Durations are whole seconds, so that the sealed number is the whole truth."""
    with pytest.raises(AskedWrongly):
        check_terms(["a/b"], timedelta(seconds=1.5), None, NOW)


def test_votes_survive_an_edit() -> None:
    """Editing makes a new digest and voids the votes cast on the old one."""
    request = replace(a_request(), votes=("a vote",))  # type: ignore[arg-type]
    after = thing(edit(request, replace(TERMS, duration=timedelta(hours=1)), NOW, REASON), Request)
    assert isinstance(after, Request)
    assert after.votes == ()
    assert after.digest != request.digest
    assert after.version == request.version + 1


def test_edit_after_decide_by() -> None:
    """A lapsed request is not brought back by editing it."""
    with pytest.raises(Stale):
        edit(a_request(), TERMS, NOW + DECIDE_WITHIN, REASON)


def test_lapse_before_its_time_is_our_bug() -> None:
    """Nothing lapses a millisecond early."""
    request = a_request()
    with pytest.raises(RuntimeError):
        lapse(request, request.decide_by - timedelta(milliseconds=1))
    assert lapse(request, request.decide_by).facts[0].name == "request.lapsed"


def test_move_that_is_not_in_the_table() -> None:
    """Every (state, event) pair absent from the table raises Stale and changes nothing."""
    events = {name for _, name in TABLE.moves}
    for state, event in product(RequestState, events):
        if not TABLE.allows(state, event):
            request = replace(a_request(), state=state)
            with pytest.raises(Stale):
                evolve(
                    request, Fact(name=event, subject=request.id, actor="x", data={"at": wire(NOW)})
                )


def test_withdrawn_twice() -> None:
    """The second withdrawal is told that the request moved on."""
    after = thing(withdraw(a_request(), NOW), Request)
    assert isinstance(after, Request)
    with pytest.raises(Stale):
        withdraw(after, NOW)


def test_state_rebuilt_from_facts_differs() -> None:
    """Folding the facts gives the very thing the Step carried (I7)."""
    request = a_request()
    step = withdraw(request, NOW)
    assert evolve(request, step.facts[0]) == thing(step, Request)
