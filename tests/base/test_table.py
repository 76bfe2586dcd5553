"""Illegal moves are refused in words for people, in every stage."""

import pytest

from tidegate.base.errors import Stale
from tidegate.base.table import Table
from tidegate.grant import TABLE as GRANTS
from tidegate.request import TABLE as REQUESTS
from tidegate.request import RequestState
from tidegate.session import TABLE as SESSIONS


def test_event_name_is_said_to_people() -> None:
    """Whoever comes too late reads what they wanted, not the name of an event."""
    with pytest.raises(Stale) as caught:
        REQUESTS.next(RequestState.WITHDRAWN, "request.voted")
    assert caught.value.code == "wrong_state"
    assert caught.value.message == "this request is withdrawn, so nobody can vote on it now"


@pytest.mark.parametrize("table", [REQUESTS, GRANTS, SESSIONS], ids=lambda table: table.thing)
def test_event_without_a_verb(table: Table[RequestState]) -> None:
    """Every event of every table has its word for people, and no word is of no event."""
    assert set(table.verbs) == {event for _, event in table.moves}
