"""A later end reaches what runs: the AWS SDK's own refresh asks the endpoint and goes on."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.credentials import ContainerProvider
from botocore.exceptions import CredentialRetrievalError, MetadataRetrievalError

from tidegate.base.when import Instant
from tidegate.broker.container import Endpoint
from tidegate.broker.holding import Holding
from tidegate.broker.material import Material, ended, read_warning

MINUTE = timedelta(minutes=1)


class Grant:
    """A grant of ten minutes on a server, and a clock ahead of the machine's by `ahead`."""

    def __init__(self, grace: timedelta = timedelta(0)) -> None:
        self.ahead = timedelta(0)
        self.grace = grace
        self.ends_at = datetime.now(UTC) + 10 * MINUTE + grace
        self.mints = 0
        self.told: list[str] = []
        self.holding = Holding(grant="gr_one", fetch=self.fetch, look=self.look, clock=self.clock)

    def clock(self) -> Instant:
        """The time it is."""
        return datetime.now(UTC) + self.ahead

    def fetch(self) -> Material:
        """A session, bound to the end there is now."""
        if self.clock() >= self.ends_at - self.grace:
            raise ended("gr_one", self.ends_at)
        self.mints += 1
        return Material(
            grant="gr_one",
            access_key_id=f"ASIA{self.mints}",
            secret_access_key="hidden",
            session_token="token",
            ends_at=self.ends_at,
            expires_at=self.clock() + 60 * MINUTE,
            bound_until=self.ends_at,
            grace=self.grace,
        )

    def look(self) -> Instant:
        """The end."""
        return self.ends_at


def made_by_sdk(endpoint: Endpoint) -> Any:
    """What botocore makes of the environment a child of `exec` has."""
    environment = {
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.uri,
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": endpoint.token,
    }
    return ContainerProvider(environ=environment).load()


def test_running_process_stops_at_the_old_end() -> None:
    """Extended before its end, the same SDK object signs past it; at the new end it is told."""
    grant = Grant()
    token = iter(letter * 40 for letter in "ab")
    with Endpoint(grant.holding, lambda: next(token)) as endpoint:
        keys = made_by_sdk(endpoint)
        assert keys.get_frozen_credentials().access_key == "ASIA1"
        grant.ahead = 5 * MINUTE
        grant.ends_at += 30 * MINUTE
        grant.ahead = 10 * MINUTE + timedelta(seconds=1)
        assert keys.get_frozen_credentials().access_key == "ASIA2"
        grant.ahead = 40 * MINUTE + timedelta(seconds=1)
        with pytest.raises((CredentialRetrievalError, MetadataRetrievalError)):
            made_by_sdk(endpoint)


def test_end_without_a_word_to_who_runs_a_command() -> None:
    """One line in the last ten minutes, once for each end; none when it has moved meanwhile."""
    grant = Grant()
    grant.ends_at += 5 * MINUTE
    grant.holding.take()
    assert grant.holding.warning() == ""
    grant.ahead = 6 * MINUTE
    assert "tidegate extend gr_one" in grant.holding.warning()
    assert grant.holding.warning() == ""
    grant.ends_at += 30 * MINUTE
    grant.holding.take()
    grant.ahead = 20 * MINUTE
    assert grant.holding.warning() == ""
    grant.ahead = 36 * MINUTE
    assert "ends at" in grant.holding.warning()


def test_keys_dropped_at_the_window_of_a_graced_end() -> None:
    """In the grace no session is minted, and the keys at hand go on to the sealed end."""
    grant = Grant(grace=5 * MINUTE)
    assert grant.holding.take().access_key_id == "ASIA1"
    grant.ahead = 12 * MINUTE
    assert grant.holding.take().access_key_id == "ASIA1"
    grant.ahead = 5 * MINUTE
    assert "running work may finish until" in grant.holding.warning()
    assert grant.mints == 1


def test_warning_that_comes_when_the_server_does_not_say() -> None:
    """The server's own setting holds; without its word, ten minutes and at most half a window."""
    window = {"window_ends_at": "2026-11-23T09:30:00.000Z"}
    assert read_warning({**window, "warn_at": "2026-11-23T09:05:00.000Z"}) == 25 * MINUTE
    assert read_warning({**window, "warn_at": "2026-11-23T09:31:00.000Z"}) == timedelta(0)
    assert read_warning({**window, "duration_seconds": 3600, "extended_seconds": 0}) == 10 * MINUTE
    assert read_warning({**window, "duration_seconds": 360, "extended_seconds": 60}) == 3.5 * MINUTE
    assert read_warning({**window, "warn_at": None}) == 10 * MINUTE
    grant = Grant()
    grant.holding.warn_before = 3 * MINUTE
    grant.holding.take()
    grant.ahead = 6 * MINUTE
    assert grant.holding.warning() == ""
    grant.ahead = 8 * MINUTE
    assert "tidegate extend gr_one" in grant.holding.warning()
