"""One verb ends in bounded time, whatever the cloud, another thread or another process does."""

import fcntl
import os
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.connectors.identity_center_world import REGION
from tidegate.base.errors import Refused, Unknown
from tidegate.catalogue import AssignmentKey, Role, Target
from tidegate.connectors import patience
from tidegate.connectors.aws_calls import Aws, AwsSettings
from tidegate.connectors.by_kind import ByKind
from tidegate.connectors.one_writer import OneWriter, file_name
from tidegate.connectors.patience import VERB, go_on, one_verb
from tidegate.connectors.port import Hold, Scope

NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
ROLE = Role(id="prod/admin", kind="slow", native={"arn": "x"})
TARGET = Target(id="prod", connector="aws", account="1")
HOLD = Hold(
    grant="gr_1",
    request="rq_1",
    principal="pr_1",
    target=TARGET,
    role=ROLE,
    key=AssignmentKey(connector="aws", account="1", native_role="x", native_principal="p"),
    ends_at=NOW + timedelta(hours=1),
)


class Watch:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        """Seconds."""
        return self.at


class Slow:
    """A connector whose cloud says `not yet` for ever, each answer ten seconds late."""

    def __init__(self, watch: Watch) -> None:
        self.watch, self.calls = watch, 0

    def _for_ever(self, *_: Any) -> Any:
        while True:
            go_on("sso:DescribeAccountAssignmentDeletionStatus", self.watch)
            self.calls += 1
            self.watch.at += 10
            assert self.calls < 50, "it goes on for ever"

    grant = issue = arm = disarm = revoke = cut = probe = key = observe = _for_ever


@pytest.mark.parametrize(
    ("verb", "values"),
    [
        ("grant", (HOLD, NOW)),
        ("issue", (HOLD, "se_1", NOW)),
        ("arm", (HOLD, NOW, NOW)),
        ("disarm", (HOLD, NOW)),
        ("revoke", (HOLD, NOW)),
        ("cut", (HOLD, NOW)),
        ("probe", (HOLD, NOW)),
        ("key", (TARGET, ROLE, "gr_1", None)),
        ("observe", (Scope(target=TARGET, hold=HOLD), NOW)),
    ],
)
def test_verb_follows_a_change_for_ever(
    verb: str, values: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time it is unknown, which is read back: never called done, never failed."""
    watch = Watch()
    monkeypatch.setattr("tidegate.connectors.by_kind.one_verb", lambda: one_verb(watch))
    cloud = Slow(watch)
    connector = ByKind({"slow": cloud})  # type: ignore[dict-item]
    with pytest.raises(Unknown) as told:
        found = getattr(connector, verb)(*values)
        list(found)
    assert told.value.code == "took_long"
    assert watch.at <= VERB.total_seconds() + 10


def test_time_of_one_verb_is_counted_for_the_next() -> None:
    """Each verb has its own time; a part of one has none of its own."""
    watch = Watch()
    with one_verb(watch):
        watch.at += VERB.total_seconds() - 1
        with one_verb(watch):
            watch.at += 1
            with pytest.raises(Unknown):
                go_on("a", watch)
    with one_verb(watch):
        go_on("b", watch)
    go_on("outside of any verb", watch)


def test_call_is_made_after_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is sent any more once the time is over."""
    aws = Aws(AwsSettings(region=REGION, endpoint_url="http://127.0.0.1:9"))
    monkeypatch.setattr(patience, "VERB", timedelta(0))
    with one_verb(), pytest.raises(Unknown, match="at most"):
        aws.call("iam", lambda client: pytest.fail("it was sent"), "iam:GetRolePolicy")


def test_lock_of_a_stopped_process_keeps_an_end(tmp_path: Path) -> None:
    """A process that was stopped with the lock: closing goes on without, opening is refused."""
    held = os.open(tmp_path / f"{file_name('doc')}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(held, fcntl.LOCK_EX)
    writer = OneWriter(tmp_path, "no_lock", timedelta(milliseconds=60))
    with writer.alone("doc", "the document", must=False):
        pass
    with pytest.raises(Refused) as told, writer.alone("doc", "the document", must=True):
        pass
    assert told.value.code == "no_lock"
    os.close(held)
    with writer.alone("doc", "the document", must=True):
        pass


def test_lock_of_a_hanging_thread_keeps_the_others(tmp_path: Path) -> None:
    """Another thread inside for longer than the patience: busy, which is tried again."""
    writer = OneWriter(tmp_path, "no_lock", timedelta(milliseconds=60))
    inside, release = threading.Event(), threading.Event()

    def hang() -> None:
        with writer.alone("doc", "the document", must=False):
            inside.set()
            release.wait(10)

    thread = threading.Thread(target=hang)
    thread.start()
    assert inside.wait(5)
    with pytest.raises(Refused) as told, writer.alone("doc", "the document", must=False):
        pass
    assert told.value.code == "busy"
    with writer.alone("other", "another document", must=False):
        pass
    release.set()
    thread.join()
    with writer.alone("doc", "the document", must=False):
        pass
