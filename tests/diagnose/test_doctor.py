"""Each fault that keeps access from opening or closing is named, with a fix."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.diagnose.tales import END, MINUTE, SECOND, closing, is_open, is_removed
from tests.stages.make import NOW
from tests.support import World
from tidegate.base.errors import AskedWrongly, WorldFailed
from tidegate.base.text import cells_of
from tidegate.catalogue import Target
from tidegate.connectors.port import Health, Trouble
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.diagnose.doctor import (
    Diagnosis,
    Examined,
    InForce,
    JournalSeen,
    Kept,
    Places,
    Published,
    Restored,
    RulesSeen,
    TargetSeen,
    examine,
    look,
    parse_diagnosis,
    render_text,
)
from tidegate.diagnose.looking import look_at_targets
from tidegate.evidence.checkpoint import Checkpoint, TrustedKey, sign_checkpoint
from tidegate.evidence.journal import JournalLine
from tidegate.evidence.note import FileSigner
from tidegate.flow.expiring import close_now
from tidegate.flow.mending import mend_cuts
from tidegate.flow.revoking import end_early
from tidegate.policy.finding import Level, RuleFinding
from tidegate.store import Head

SIGNER = FileSigner("test.tidegate.invalid/log", b"k" * 32)
KEYS = (TrustedKey(key=SIGNER.verifier()),)
DIGEST, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
AT = END + timedelta(hours=1)


def a_head(signer: FileSigner = SIGNER, size: int = 9) -> Head:
    """A log of nine events whose checkpoint speaks of `size`."""
    checkpoint = Checkpoint(origin=SIGNER.name, size=size, root=b"r" * 32)
    return Head(
        origin=SIGNER.name,
        size=9,
        root=b"r" * 32,
        checkpoint_text=sign_checkpoint(checkpoint, signer),
        at=AT - MINUTE,
    )


def health(**more: Any) -> TargetSeen:
    """A target that answered well."""
    sound = Health(
        reached=True, cloud_at=AT, round_trip=timedelta(milliseconds=80), identity="arn:tidegate"
    )
    return TargetSeen(target="prod", asked_at=AT, health=replace(sound, **more))


def trouble(message: str) -> Trouble:
    """Something a target is found with."""
    return Trouble(code="found", message=message, help="mend it")


KEPT = Kept(
    problems=(),
    head=a_head(),
    now=AT,
    beats={"worker": (AT - SECOND, "")},
    rules_sealed=DIGEST,
    catalogue_sealed=DIGEST,
    closing=(),
    removed=(),
    ungranted=(),
    restored=(),
)
SOUND = Examined(
    now=AT,
    kept=KEPT,
    fault=None,
    free={"database": 10**12, "journal": 10**12},
    keys=KEYS,
    witness=Published(configured=True, published_size=9, published_at=AT - SECOND),
    journal=JournalSeen(),
    rules=RulesSeen(digest=DIGEST, catalogue_digest=DIGEST, count=3),
    targets=(health(certificate_until=AT + timedelta(days=90)),),
)
WARNING = RuleFinding(
    file="a.cedar",
    line=3,
    expected="a group that exists",
    got="`x`",
    help="make it",
    code="unknown_group",
    level=Level.WARNING,
)
UNTIL = AT + timedelta(days=13)


def kept(**more: Any) -> Examined:
    """Sound, but for this in the database."""
    return replace(SOUND, kept=replace(KEPT, **more))


def seen(**more: Any) -> Examined:
    """Sound, but for this."""
    return replace(SOUND, **more)


def published(**more: Any) -> Examined:
    """Sound, but for how publishing went."""
    return replace(SOUND, witness=replace(SOUND.witness, **more))


FAULTS: dict[str, tuple[Examined, str, bool | None, str]] = {
    "database unreadable": (
        seen(kept=None, fault=WorldFailed("x", "the database cannot be read: malformed", "mend")),
        "database",
        False,
        "cannot be read: malformed",
    ),
    "database read-only": (kept(problems=("evidence cannot be written",)), "database", False, "ev"),
    "disk full": (seen(free={"journal": 5_000_000}), "disk of the journal", False, "5 MB free"),
    "disk low": (seen(free={"database": 5 * 10**8}), "disk of the database", None, "500 MB free"),
    "house clocks apart": (kept(now=AT + 2 * SECOND), "clock", False, "2.0 s ahead of ours"),
    "checkpoint of another key": (
        kept(head=a_head(FileSigner(SIGNER.name, b"x" * 32))),
        "evidence",
        False,
        "",
    ),
    "checkpoint of another size": (kept(head=a_head(size=8)), "evidence", False, "got one of 8"),
    "no witness": (published(configured=False), "witness", None, "no checkpoint leaves"),
    "witness fails": (published(fault="witness x: got 500"), "witness", False, "got 500"),
    "witness never": (published(published_at=None), "witness", None, "nothing was published"),
    "witness behind": (
        published(published_size=4, published_at=AT - 5 * MINUTE),
        "witness",
        False,
        "4 events published 5m ago, 5 events behind",
    ),
    "log cut short": (published(mismatch="the log has 9 events, 12 seen"), "witness", False, "12"),
    "journal unwritable": (
        seen(journal=JournalSeen(fault="`j` cannot be used: Read-only file system")),
        "closing journal",
        False,
        "Read-only",
    ),
    "journal damaged": (seen(journal=JournalSeen(broken=(4,))), "closing journal", False, "line 4"),
    "journal unsealed": (seen(journal=JournalSeen(unsealed=2)), "closing journal", None, "2 clos"),
    "no worker": (kept(beats={}), "worker", False, "none has ever"),
    "silent worker": (
        kept(beats={"worker": (AT - 31 * SECOND, "")}),
        "worker",
        False,
        "silent for 31s",
    ),
    "no closer keeps a journal": (
        kept(beats={"worker:a": (AT, "close+unkept 1"), "worker:b": (AT, "open 1")}),
        "worker's journal",
        False,
        "`a` closes, and its journal does not take what others open",
    ),
    "one closer keeps no journal": (
        kept(beats={"worker:a": (AT, "close+open+unkept 1"), "worker:b": (AT, "close 1")}),
        "worker's journal",
        None,
        "`a` closes, and its journal does not",
    ),
    "several closers keep no journal": (
        kept(beats={"worker:b": (AT, "close+open+unkept 1"), "worker:a": (AT, "close+unkept 1")}),
        "worker's journal",
        False,
        "`a`, `b` close, and their journals do not take",
    ),
    "closers cannot read their journals": (
        kept(beats={"worker:b": (AT, "close+unread 1"), "worker:a": (AT, "close+open+unread 1")}),
        "worker's journal",
        None,
        "the closing journal of `a`, `b` is not read",
    ),
    "closer died without its journal": (
        kept(
            beats={
                "worker:a": (AT - 31 * SECOND, "close+unread 1"),
                "worker:b": (AT, "close+open 1"),
            }
        ),
        "worker's journal",
        None,
        "was not read when it was last heard of `a` (",
    ),
    "rules broken": (
        seen(rules=replace(SOUND.rules, fault=AskedWrongly("x", "a.cedar:3: no", "mend line 3"))),
        "rules",
        False,
        "a.cedar:3: no",
    ),
    "rules odd": (
        seen(rules=replace(SOUND.rules, warnings=(WARNING,))),
        "rules",
        None,
        "a.cedar:3",
    ),
    "rules not sealed": (kept(rules_sealed=OTHER), "rules", False, "last sealed was sha256:2"),
    "no rules": (seen(rules=replace(SOUND.rules, count=0)), "rules", None, "refused"),
    "catalogue not sealed": (kept(catalogue_sealed=None), "catalogue", False, "none"),
    "target unreached": (
        seen(targets=(health(reached=False, cloud_at=None, findings=(trouble("no route"),)),)),
        "target prod",
        False,
        "no route",
    ),
    "target silent": (
        seen(targets=(TargetSeen(target="prod", asked_at=AT, health=None, fault="no answer"),)),
        "target prod",
        False,
        "no answer",
    ),
    "target unidentified": (seen(targets=(health(identity=""),)), "target prod", None, "nobody"),
    "target may not close": (
        seen(targets=(health(findings=(trouble("Tidegate may not call `iam:PutRolePolicy`"),)),)),
        "target prod",
        False,
        "iam:PutRolePolicy",
    ),
    "administrators not told": (
        seen(targets=(replace(health(), administrators=trouble("no baseline of them")),)),
        "target prod administrators",
        None,
        "no baseline of them",
    ),
    "cloud clock ahead": (
        seen(targets=(health(cloud_at=AT + timedelta(minutes=10)),)),
        "target prod clock",
        False,
        "599.9 s ahead of ours",
    ),
    "cloud clock behind": (
        seen(targets=(health(cloud_at=AT - timedelta(minutes=10)),)),
        "target prod clock",
        False,
        "600.0 s behind ours",
    ),
    "certificate expired": (
        seen(targets=(health(certificate_until=AT),)),
        "target prod certificate",
        False,
        "expired at",
    ),
    "certificate ends soon": (
        seen(
            targets=(
                health(
                    certificate_until=UNTIL,
                    findings=(trouble("the certificate ends at 2026-12-05T08:45:00.000Z"),),
                ),
            )
        ),
        "target prod certificate",
        None,
        "in 13d",
    ),
    "overdue": (
        kept(closing=(is_open().grant,)),
        "grants",
        False,
        "1 grant past the end and not read back as removed; the oldest, `gr_",
    ),
    "closing for long": (kept(closing=(closing().grant,)), "grants", False, "for 1h"),
    "not proven": (kept(removed=(is_removed().grant,)), "not proven", False, "59m59s"),
    "held by standing access": (
        kept(removed=(is_removed(held_by="standing access").grant,)),
        "still held",
        False,
        "ended, still held by standing access",
    ),
    "held by another grant": (
        kept(removed=(is_removed(held_by="gr_01m810vyc0cxkpesv7cxkpesv8").grant,)),
        "still held",
        None,
        "still held by gr_",
    ),
    "approved without grants": (kept(ungranted=("rq_1",)), "grants", False, "1 request approved"),
    "cut restored": (
        kept(restored=(Restored(target="prod", role="prod/a", grants=("gr_1",), at="T"),)),
        "cuts",
        None,
        "somebody removed our deny on `prod/a` (gr_1)",
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_fault_without_a_name_or_a_fix(name: str) -> None:
    """Each fault is named where it is, says what was seen, and gives a fix."""
    examined, where, ok, says = FAULTS[name]
    told = examine(examined)
    found = [check for check in told.findings if check.ok is not True]
    assert [(check.name, check.ok) for check in found] == [(where, ok)]
    assert says in found[0].says
    assert found[0].fix
    assert told.ok is (ok is None)
    assert told.first == (found[0] if ok is False else None)


def test_sound_house_called_ill() -> None:
    """With nothing wrong every check is sound, none is left out, and none has a fix."""
    told = examine(SOUND)
    assert all(check.ok and not check.fix for check in told.findings)
    assert [check.name for check in told.findings] == [
        "database",
        "disk of the database",
        "disk of the journal",
        "clock",
        "evidence",
        "witness",
        "closing journal",
        "worker",
        "rules",
        "catalogue",
        "target prod",
        "target prod clock",
        "target prod certificate",
        "grants",
    ]


def test_journal_of_who_is_dead_or_closes_nothing() -> None:
    """Only living closers are asked for what others opened."""
    dead, opener = (AT - 31 * SECOND, "close+unkept 1"), (AT, "open+unkept 1")
    beats = {"worker:a": dead, "worker:b": opener, "worker:c": (AT, "close 1")}
    assert [one for one in examine(kept(beats=beats)).findings if one.ok is not True] == []


def test_slow_answer_taken_for_skew() -> None:
    """A clock read anywhere between asking and answer is no skew, however slow the answer."""
    slow = health(cloud_at=AT + 20 * SECOND, round_trip=30 * SECOND)
    assert examine(seen(targets=(slow,))).ok


def test_grant_inside_its_window_called_overdue() -> None:
    """Open until later, just past the end, or removed with an instant to come: no fault."""
    for now, more in (
        (NOW + MINUTE, {"closing": (is_open().grant,)}),
        (END + SECOND, {"closing": (is_open().grant,)}),
        (END + SECOND, {"closing": (closing().grant,)}),
        (END + SECOND, {"removed": (is_removed(residual=MINUTE).grant,)}),
    ):
        told = examine(replace(kept(**more), now=now))
        assert [c for c in told.findings if c.name == "grants" and not c.ok] == []


@pytest.mark.parametrize("name", FAULTS)
def test_diagnosis_that_cannot_be_read_back_or_drawn(name: str) -> None:
    """It parses to itself, and no line is wider than the terminal."""
    told = examine(FAULTS[name][0])
    assert parse_diagnosis(told.as_json()) == told
    text = render_text(told, 80)
    assert all(cells_of(line) <= 80 for line in text.splitlines())
    assert ("✗" in text) is not told.ok


@pytest.mark.parametrize(
    "plain",
    [{}, {"at": "x"}, {"at": "x", "findings": [1]}, {"at": "x", "findings": [{"name": "n"}]}],
)
def test_strange_diagnosis_is_drawn(plain: dict[str, object]) -> None:
    """An answer of another shape is told as one."""
    with pytest.raises(WorldFailed):
        parse_diagnosis(plain)


def look_at(world: World, **more: Any) -> Diagnosis:
    """The doctor in a small world that publishes well."""
    house = world.house
    size = house.store.head().size
    places = Places(
        database=world.directory / "tidegate.db",
        journal=world.directory / "closing.journal",
        **more,
    )
    examined = look(
        house.store,
        house.connectors,
        InForce(
            rules=house.laws.rules,
            catalogue=house.laws.catalogue,
            groups=house.laws.groups.names,
        ),
        keys=(TrustedKey(key=world.signer.verifier()),),
        witness=Published(configured=True, published_size=size, published_at=house.now()),
        places=places,
        clock=house.now,
    )
    return examine(replace(examined, free={}))  # the disk of whoever runs the tests is theirs


def faults(told: Diagnosis) -> list[str]:
    """Names of what is not sound."""
    return [check.name for check in told.findings if check.ok is not True]


def test_sound_world_called_ill(world: World) -> None:
    """A running installation with an open grant, and one closed, has no fault."""
    world.granted()
    close_now(world.house, end_early(world.house, world.who("eve"), world.granted("eve").id))
    world.work()
    world.worker.tick()
    assert faults(look_at(world)) == []


def test_access_past_its_end_unnoticed(world: World) -> None:
    """With the cloud down past an end, the overdue grant and the target are both named."""
    grant = world.granted()
    world.clock.forward(minutes=32)
    world.connector.script(Fault(kind=FaultKind.DOWN, until=world.clock() + MINUTE))
    world.work()
    world.clock.forward(seconds=10)
    told = look_at(world)
    assert {"target prod", "grants"} <= set(faults(told))
    (overdue,) = [check for check in told.findings if check.name == "grants"]
    assert f"`tidegate verify {grant.id}`" in overdue.fix


def test_removed_cut_unnoticed(world: World) -> None:
    """A cut somebody took away is told for a day after it was put back."""
    grant = world.granted()
    close_now(world.house, end_early(world.house, world.who("ana"), grant.id))
    world.cloud.tamper("123456789012", f"{grant_arn(world)}", grant.id, world.clock())
    mend_cuts(world.house)
    world.worker.tick()
    assert faults(look_at(world)) == ["cuts"]
    world.clock.forward(days=1, seconds=1)
    world.work()
    assert "cuts" not in faults(look_at(world))


def grant_arn(world: World) -> str:
    """The native role of prod/admin."""
    return world.laws.catalogue.role("prod/admin").native["arn"]


@pytest.mark.only("sqlite")  # what its file may be
def test_database_that_vanished(world: World) -> None:
    """A database that is not the file that was opened is a fault, told without raising."""
    (world.directory / "tidegate.db").rename(world.directory / "away")
    told = look_at(world)
    (world.directory / "away").rename(world.directory / "tidegate.db")
    assert "database" in faults(told)


def test_log_shorter_than_witnessed(world: World) -> None:
    """A witnessed checkpoint ahead of the log, or of another history, is a fault."""
    head = world.house.store.head()
    assert "witness" not in faults(look_at(world, witnessed=head.checkpoint_text))
    for size, root in ((head.size + 1, b"r" * 32), (head.size - 1, b"r" * 32)):
        ahead = Checkpoint(origin=head.origin, size=size, root=root)
        note = sign_checkpoint(ahead, world.signer)
        told = look_at(world, witnessed=note)
        (check,) = [one for one in told.findings if one.name == "witness"]
        assert check.ok is False
        assert ("it was cut" in check.says) is (size > head.size)


def test_closing_done_without_the_database_unnoticed(world: World) -> None:
    """A journal line whose end no row knows is counted, and a damaged line is named."""
    grant = world.granted()
    world.worker.tick()
    world.house.journal.append(
        JournalLine(kind="removed", grant=grant.id, at=world.clock(), data={})
    )
    assert faults(look_at(world)) == ["closing journal"]
    path: Path = world.directory / "closing.journal"
    path.write_bytes(b"nonsense\n" + path.read_bytes())
    texts = [check.says for check in look_at(world).findings if check.name == "closing journal"]
    assert any("line 1 is damaged" in text for text in texts)


def test_journal_that_cannot_be_opened(world: World) -> None:
    """A path that is no file of ours is a fault; looking never makes or changes it."""
    path = world.directory / "closing.journal"
    path.unlink(missing_ok=True)
    told = look_at(world)
    assert "closing journal" not in faults(told)
    assert not path.exists()
    path.mkdir()
    assert "closing journal" in faults(look_at(world))


def test_hanging_or_broken_target_holds_up_the_rest(world: World) -> None:
    """A target that never answers, one that breaks and one unknown are told; the others answer."""
    import threading

    release = threading.Event()

    class Hanging:
        """A connector whose health never comes back."""

        def health(self, target: Target, now: object) -> Health:
            """Waits until the test is over."""
            release.wait(30)
            raise RuntimeError("late")

    class Broken:
        """A connector with a bug."""

        def health(self, target: Target, now: object) -> Health:
            """Breaks."""
            raise ZeroDivisionError

    connectors: Any = {"hang": Hanging(), "bug": Broken(), "simulated": world.connector}
    targets = [Target(id=name, connector=name, account="1") for name in (*connectors, "unknown")]
    seen = look_at_targets(targets, connectors, world.clock, timedelta(milliseconds=300))
    release.set()
    told = {one.target: one.fault for one in seen}
    assert told["simulated"] == ""
    assert "ZeroDivisionError" in told["bug"]
    assert told["hang"].startswith("no answer within")
    assert "not installed" in told["unknown"]
