"""What a state may be called: nothing is gone, denied or removed before it is."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.stages.make import NOW, a_grant, a_request
from tidegate.connectors.port import Exposure
from tidegate.expire import EndReason, Proof
from tidegate.grant import Cause, Grant, GrantState, Outcome
from tidegate.request import RequestState
from tidegate.shell.api.words import exposure_says, grant_says, request_says

INSTANTS = st.integers(-100_000, 100_000).map(lambda s: NOW + timedelta(seconds=s))
MAYBE = st.none() | INSTANTS


@st.composite
def grants(draw: st.DrawFn) -> Grant:
    """Grants in any state, also in combinations no table makes."""
    grant, _ = a_grant()
    return replace(
        grant,
        state=draw(st.sampled_from(GrantState)),
        ends_at=draw(MAYBE),
        closing_at=draw(MAYBE),
        removed_at=draw(MAYBE),
        residual_until=draw(MAYBE),
        gone_at=draw(MAYBE),
        end_reason=draw(st.sampled_from(["", *EndReason])),
        proof=draw(st.sampled_from(["", *Proof])),
        cause=draw(st.sampled_from(["", *Cause])),
        outcome=draw(st.sampled_from(["", *Outcome])),
        tries=draw(st.integers(0, 5)),
        still_held_by=draw(st.sampled_from(["", "standing access"])),
    )


@given(grants(), INSTANTS)
def test_word_said_too_early(grant: Grant, now: object) -> None:
    """`gone` is said of gone grants only, `denied` never, `removed` from removed on."""
    assert isinstance(now, type(NOW))
    said = grant_says(grant, now)
    assert said
    assert ("gone" in said) == (grant.state is GrantState.GONE)
    assert "denied" not in said
    if grant.state in (GrantState.READY, GrantState.INTENDED, GrantState.OPEN):
        assert "removed;" not in said
    tried = "tried as that access and refused" in said
    assert tried == (grant.state is GrantState.GONE and grant.proof == Proof.DENIED)


@given(INSTANTS)
def test_residual_time_left_out(now: object) -> None:
    """While a session taken before may act, exactly that is said, and until when."""
    assert isinstance(now, type(NOW))
    grant, _ = a_grant()
    until = NOW + timedelta(minutes=5)
    removed = replace(grant, state=GrantState.REMOVED, residual_until=until)
    said = grant_says(removed, now)
    ahead = said == "removed; a session taken before may act until 2026-11-22 07:05:00 UTC"
    assert ahead == (now < until)


def test_standing_access_called_removed() -> None:
    """Access that stood before us is said to be still held, never removed or gone."""
    grant, _ = a_grant()
    held = replace(
        grant, state=GrantState.REMOVED, end_reason="expired", still_held_by="standing access"
    )
    assert "still held by standing access" in grant_says(held, NOW)
    assert "removed;" not in grant_says(held, NOW)


@pytest.mark.parametrize("state", list(RequestState))
def test_request_that_says_nothing(state: RequestState) -> None:
    """Every state has its sentence; only a decided-against one says that nothing opens."""
    said = request_says(replace(a_request(), state=state, decided_at=NOW), ["1 of group:x"], [])
    assert said
    assert ("nothing opens" in said) == (
        state in (RequestState.DENIED, RequestState.WITHDRAWN, RequestState.LAPSED)
    )


def test_exposure_that_hides_the_worst_case() -> None:
    """It says what happens with Tidegate dead: at once, late, or nothing until a person acts."""
    second, hour = timedelta(seconds=1), timedelta(hours=1)
    assert "without Tidegate" in exposure_says(Exposure(attended=5 * second, unattended=second))
    late = exposure_says(Exposure(attended=second, unattended=hour))
    assert "with Tidegate down the cloud ends it within 1h" in late
    never = exposure_says(Exposure(attended=hour, unattended=None))
    assert "within 1h" in never and "with Tidegate down nothing ends it" in never
    assert "not known" in exposure_says(None)
