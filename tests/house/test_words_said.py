"""No screen, JSON or report says a word of an end before it was proven at that level.

Every output is read in every state of a grant, for both families of role kinds and under every
fault. What is sealed and what the cloud itself would let through decide which words may stand.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.cli.fake import FakeServer
from tests.house.outputs import Output, Outputs
from tests.support import World, catalogue, laws
from tidegate.connectors.port import Answer
from tidegate.connectors.simulated import Fault, FaultKind
from tidegate.evidence.events import Event
from tidegate.evidence.seal import read_event
from tidegate.flow.expiring import close_now
from tidegate.flow.governing import put_in_force
from tidegate.flow.holding import hold_of
from tidegate.flow.revoking import end_early
from tidegate.flow.trying import Trial, tell_trial
from tidegate.grant import Grant, GrantState

NEVER = 100_000  # times a fault strikes


@dataclass(frozen=True, slots=True)
class Truth:
    """What is sealed of a grant, and what the cloud would let its holder do now."""

    sealed: tuple[Event, ...]
    usable: bool
    acts: bool
    probes: bool
    past: bool

    def has(self, name: str) -> bool:
        """Whether an event of that name is sealed, and no contradiction came after it."""
        names = [event.name for event in self.sealed]
        if name not in names:
            return False
        last = len(names) - 1 - names[::-1].index(name)
        return "grant.contradicted" not in names[last:] or name == "grant.closing"

    @property
    def proof(self) -> str:
        """The proof word sealed with the end."""
        found = [event for event in self.sealed if event.name == "grant.gone"]
        return str(found[-1].data["proof"]) if found else ""

    @property
    def told_denied(self) -> bool:
        """Whether somebody told of a trial that was denied."""
        return any(
            event.name == "access.tried" and event.data["outcome"] == "denied"
            for event in self.sealed
        )


May = Callable[[Truth, bool], bool]

# A word, and when it may be said: by what is sealed, and in looks by what the cloud does now.
WORDS: dict[str, May] = {
    r"gone": lambda truth, looks: truth.has("grant.gone"),
    r"denied": lambda truth, looks: (
        truth.proof == "denied"
        or truth.told_denied
        or (looks and truth.probes and not truth.usable)
    ),
    r"refused when tried|tried as th(?:is|at) access,? and refused": lambda truth, looks: (
        truth.proof == "denied" or (looks and truth.probes and not truth.usable)
    ),
    r"closed": lambda truth, looks: (
        not (truth.usable or truth.acts) if looks else truth.has("grant.gone")
    ),
    r"removed": lambda truth, looks: truth.has("grant.removed") or (looks and not truth.usable),
    r"ended": lambda truth, looks: truth.has("grant.closing") or truth.past,
    r"cut": lambda truth, looks: (
        truth.has("grant.removed") or truth.has("grant.cut") or (looks and not truth.usable)
    ),
    r"no new session can start": lambda truth, looks: (
        truth.has("grant.removed") or (looks and not truth.usable)
    ),
    r"nobody can act": lambda truth, looks: truth.has("grant.gone"),
}

# Said of what is *not* so, of what will be, or of another thing: taken out before words are read.
HARMLESS = (
    r"\bNOT CLOSED\b|\bnot_closed\b|\bis not closed\b",
    r"\bis about to be closed\b|\bis being closed since\b",
    r"\bnot read back as removed\b|\buntil it is (?:read back as )?removed\b|\bnot removed\b",
    r"\bcut it in the cloud now\b",
)


def claims(output: Output) -> str:
    """An output in one line, without what is harmless: a drawing breaks lines where it must."""
    text = re.sub(r"\s+", " ", output.text)
    for phrase in HARMLESS:
        text = re.sub(phrase, "…", text)
    return text


def told(word: str, text: str) -> list[str]:
    """Where `word` stands in a text, with what is around it."""
    found = re.finditer(rf"\b(?:{word})\b", text, re.IGNORECASE)
    return [text[max(0, at.start() - 60) : at.end() + 60] for at in found]


def truth_of(world: World, grant: Grant) -> Truth:
    """By events and by the cloud's own state; nothing of ours decides here."""
    now, row = world.clock(), world.grant(grant)
    sealed = tuple(
        event
        for _, leaf in world.house.store.events(row.request)
        if (event := read_event(leaf)).data.get("grant") == grant.id
    )
    usable = acts = False
    if row.ends_at is not None and row.state is not GrantState.FAILED:
        hold = hold_of(world.house, row)
        key, cloud = hold.key, world.cloud
        if hold.role.kind == "assignment":
            usable = cloud.assigned(key, now) or bool(cloud.group_of(key))
        else:
            denied = cloud.denied(key.account, key.native_role, grant.id, now)
            usable = not denied and now < row.ends_at
        acts = any(one.key == key for one in cloud.alive(now))
    probes = bool(row.ends_at) and bool(world.house.laws.catalogue.roles[row.role].probe)
    past = row.ends_at is not None and now >= row.ends_at
    return Truth(sealed=sealed, usable=usable, acts=acts, probes=probes, past=past)


# States: each takes a fresh world and yields the grant whenever everything must be read.

Walk = Callable[[World], Iterator[Grant]]


def tick(world: World, seconds: float) -> None:
    """Time passes with the worker at work; it has its look every few seconds, or every half minute.

    Its longest pause is two minutes, so nothing due is missed over a longer time.
    """
    step = 5 if seconds <= 60 else 30
    for _ in range(int(seconds // step)):
        world.clock.forward(seconds=step)
        world.work()


def end(world: World, grant: Grant) -> Grant:
    """An early end, and the first look at it."""
    return close_now(world.house, end_early(world.house, world.who("bo"), grant.id))


def session(world: World, grant: Grant) -> None:
    """Its holder takes a session."""
    hold = hold_of(world.house, world.grant(grant))
    if hold.role.kind == "assignment":
        world.cloud.sign_in(hold.key, world.clock())
    else:
        world.keys(world.grant(grant))


def plain_life(world: World) -> Iterator[Grant]:
    """Ready, open, past the end with nobody at work, and to its end."""
    request = world.vote(world.ask())
    (grant,) = world.house.store.grants(request=request.id)
    yield grant
    world.work()
    session(world, grant)
    yield grant
    world.clock.forward(minutes=31)
    yield grant
    for _ in range(4):
        world.work()
        yield grant
        world.clock.forward(seconds=5)
    tick(world, 60)
    assert world.grant(grant).state is GrantState.GONE
    yield grant


def early_end(world: World) -> Iterator[Grant]:
    """Ended early: right after it, while it settles, and over."""
    grant = world.granted()
    session(world, grant)
    tick(world, 60)
    end(world, grant)
    yield grant
    world.clock.forward(seconds=3)
    yield grant
    tick(world, 60)
    assert world.grant(grant).state is GrantState.GONE
    yield grant


def faulty(verb: str, kind: FaultKind) -> Walk:
    """An end under a fault that stays, then without it."""

    def walk(world: World) -> Iterator[Grant]:
        grant = world.granted()
        session(world, grant)
        tick(world, 30)
        world.connector.script(Fault(kind=kind, verb=verb, count=NEVER))
        end(world, grant)
        tick(world, 10)
        yield grant
        world.clock.forward(minutes=40)
        world.work()
        yield grant
        world.connector.calm()
        tick(world, 240)
        assert world.grant(grant).state is GrantState.GONE
        yield grant

    return walk


def never_opened(world: World) -> Iterator[Grant]:
    """A plain no of the cloud at its opening."""
    world.connector.script(Fault(kind=FaultKind.REFUSE, verb="grant"))
    request = world.vote(world.ask())
    world.work()
    (grant,) = world.house.store.grants(request=request.id)
    assert world.grant(grant).state is GrantState.FAILED
    yield grant


def not_cut(world: World) -> Iterator[Grant]:
    """Sessions cannot be cut: removed, until the last of them has died."""
    world.connector.cuts = False
    grant = world.granted()
    session(world, grant)
    tick(world, 30)
    end(world, grant)
    for minutes in (1, 30, 32):
        tick(world, minutes * 60)
        yield grant


def by_group(world: World) -> Iterator[Grant]:
    """A group gives the access too, and lets go at last."""
    grant = world.granted()
    key = hold_of(world.house, world.grant(grant)).key
    world.cloud.give_by_group(key, "admins")
    yield grant
    tick(world, 30)
    end(world, grant)
    yield grant
    tick(world, 300)
    yield grant
    world.cloud.give_by_group(key, "")
    yield grant
    tick(world, 300)
    yield grant


def overlapping(world: World) -> Iterator[Grant]:
    """Another grant of the same access runs on, then ends."""
    grant = world.granted()
    tick(world, 30)
    other = world.granted()
    end(world, grant)
    yield grant
    tick(world, 60)
    yield grant
    end(world, other)
    tick(world, 120)
    yield grant


def made_again(world: World) -> Iterator[Grant]:
    """Somebody makes it again after its end was sealed."""
    grant = world.granted()
    key = hold_of(world.house, world.grant(grant)).key
    tick(world, 30)
    end(world, grant)
    tick(world, 60)
    world.cloud.place(key, world.clock())
    yield grant


def cut_taken(world: World) -> Iterator[Grant]:
    """Somebody takes our cut away after the end was sealed."""
    grant = world.granted()
    session(world, grant)
    tick(world, 30)
    end(world, grant)
    tick(world, 60)
    world.cloud._cuts.clear()
    world.cloud._denied.clear()
    yield grant


def tried(world: World) -> Iterator[Grant]:
    """Its holder tries it during and after."""
    grant = world.granted()

    def tell(outcome: Answer) -> None:
        trial = Trial(outcome=outcome, exit_code=0, call="aws s3 ls", tried_at=world.clock())
        tell_trial(world.house, world.who("ana"), grant.id, trial)

    tell(Answer.ALLOWED)
    yield grant
    tick(world, 30)
    end(world, grant)
    tell(Answer.ALLOWED)
    yield grant
    tick(world, 120)
    tell(Answer.DENIED)
    yield grant


FAULTY = {
    f"{verb} {kind}": faulty(verb, kind)
    for verb in ("revoke", "cut", "observe", "probe")
    for kind in (FaultKind.REFUSE, FaultKind.LOSE_REPLY)
}
WALKS: dict[str, Walk] = {
    **{
        walk.__name__: walk
        for walk in (
            plain_life,
            early_end,
            never_opened,
            not_cut,
            by_group,
            overlapping,
            made_again,
            cut_taken,
            tried,
        )
    },
    **FAULTY,
}
ONLY = {  # of one family: the other has no such thing
    **dict.fromkeys(("not_cut", "by_group", "overlapping", "made_again"), "assignment"),
    **{name: "iam-role" for name in FAULTY if name.startswith("probe")},
}
CASES = [
    (kind, name)
    for kind in ("assignment", "iam-role")
    for name in WALKS
    if ONLY.get(name, kind) == kind
]


@pytest.fixture
def server() -> Iterator[FakeServer]:
    """What the command line asks; it answers what the API answered."""
    made = FakeServer()
    yield made
    made.close()


def said_too_early(outputs: Outputs, world: World, grant: Grant) -> list[str]:
    """Every word an output has no right to."""
    truth = truth_of(world, grant)
    found = []
    for output in outputs.all(world.grant(grant)):
        text = claims(output)
        for word, may in WORDS.items():
            if not may(truth, output.looks):
                found += [f"{output.name}: {word}: {where}" for where in told(word, text)]
    return found


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_word_said_before_it_is_proven(
    tmp_path: Path, server: FakeServer, kind: str, name: str
) -> None:
    """In every state, every output uses only words that are sealed or seen at that level."""
    world = World(tmp_path)
    found = catalogue(probe="" if kind == "assignment" else "iam:ListUsers")
    role = replace(found.roles["prod/admin"], kind=kind)
    put_in_force(world.house, laws(found=replace(found, roles={**found.roles, role.id: role})))
    outputs = Outputs(world, server)
    try:
        for step, grant in enumerate(WALKS[name](world)):
            wrong = said_too_early(outputs, world, grant)
            assert wrong == [], (step, world.grant(grant).state)
    finally:
        outputs.close()
        world.down()
