"""What a world is like: how long, who asks for what, and how often people do the unusual."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from sim.town import BOOKS, CROWD, PLACES, REQUESTERS
from tidegate.base.duty import NONE, Duty

MINUTE = 60_000
HOUR = 60 * MINUTE
ALL = tuple(PLACES)
UNGRACED = tuple(name for name, book in BOOKS.items() if not book.grace)
# What is looked at for an hour after its end, again and again, is asked for more seldom.
WEIGHED = tuple(role for role in PLACES for _ in range(1 if role == "bare/admin" else 4))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Spans in milliseconds, shares of one. The default is the long world of `make sim`."""

    busy: int = 40 * MINUTE  # people ask for so long
    faults_end: int = 70 * MINUTE  # then nothing fails any more
    quiet: int = 75 * MINUTE + HOUR  # the longest session that is not cut has ended by then
    lively: int = 10 * MINUTE  # so long after the last fault workers look at full pace
    asks_from: int = 30_000
    roles: tuple[str, ...] = ALL
    askers: tuple[str, ...] = REQUESTERS
    spans: tuple[int, ...] = (
        20_000, 60_000, 2 * MINUTE, 5 * MINUTE, 12 * MINUTE, 25 * MINUTE,
    )  # fmt: skip
    edits: float = 0.08
    early_ends: float = 0.4
    re_adds: float = 0.2
    departs: bool = False  # of what stood before, half is taken away by who gave it
    later: float = 0.1  # asked for a later start
    imps: float = 0.3  # how often people try what nobody may
    aliased: float = 0.1  # who voted turns out to be who asked
    gathers: bool | None = None  # commits of one moment share a transaction; None: by chance
    laws: tuple[str, ...] = UNGRACED  # which states of the laws there are
    first_laws: str = "base"
    panics: int = 0
    panics_about: tuple[str, ...] = ("principal", "target", "target", "role", "all")
    restores: int = 0  # how often an older database is put back
    signs: float = 0.0  # how often operators answer for an end that does not come
    longer: float = 0.0  # asks for a later end, and others vote on that
    longer_by: tuple[int, ...] = (20_000, 2 * MINUTE, 5 * MINUTE, 19 * MINUTE, 29 * MINUTE)
    duties: Mapping[str, frozenset[Duty]] = field(default_factory=dict)  # by process; else all
    forgers: float = 0.0  # how often somebody who can write to the database asks for a credential
    outages: tuple[int, ...] = (30_000, 3 * MINUTE, 40 * MINUTE)  # how long all of a thing is away
    downs: tuple[int, ...] = (500, 5_000, 60_000, 10 * MINUTE)  # how long a process that died is
    beside: bool | None = None  # a second process; None: by chance
    armed: bool = False  # every cloud has deadlines of its own
    lag: int = 0  # how long after it is shown a change of the cloud is not yet true for sessions
    skews: tuple[int, ...] = (2_000, 10_000, 5 * MINUTE, HOUR)  # how far a clock jumps
    befalls: tuple[int, int] | None = None  # when what befalls the whole world does
    lives: int = 120
    faults: Mapping[str, float] = field(default_factory=dict)  # point: chance at each passing


WHOLE = Scene(laws=tuple(BOOKS), longer=0.3, panics=2, signs=0.1, departs=True)
APART = {"one": frozenset({Duty.OPEN}), "two": frozenset({Duty.CLOSE}), "three": NONE}
# The same where one process opens, one closes, and one only serves.
DIVIDED = replace(WHOLE, duties=APART, beside=True, forgers=0.1)
# The same in a quarter of the time, by many people at once: ends come in heaps.
CROWDED = Scene(
    busy=10 * MINUTE,
    faults_end=25 * MINUTE,
    quiet=25 * MINUTE + 75 * MINUTE,
    roles=WEIGHED,
    lively=5 * MINUTE,
    askers=(*REQUESTERS, *CROWD),
    spans=(20_000, 60_000, 2 * MINUTE, 5 * MINUTE, 12 * MINUTE),
    laws=tuple(BOOKS),
    longer=0.05,
    longer_by=(20_000, 2 * MINUTE, 5 * MINUTE),
    outages=(30_000, 3 * MINUTE, 12 * MINUTE),
    downs=(500, 5_000, 20_000, 60_000),  # people who find none up give up, and nothing opens
    lives=800,
)


def small(lives: int = 8, **more: object) -> Scene:
    """Some minutes with a few lives in them, and an hour of silence after."""
    settings: dict[str, object] = {
        "busy": 150_000,
        "asks_from": 1_000,
        "faults_end": 7 * MINUTE,
        "quiet": 70 * MINUTE,
        "lively": 4 * MINUTE,
        "spans": (20_000, 60_000, 2 * MINUTE),
        "beside": False,
        "imps": 0.0,
        "aliased": 0.0,
        "gathers": False,
        "lives": lives,
    }
    return Scene(**{**settings, **more})  # type: ignore[arg-type]


OWN = ("prod/admin", "vault/admin", "dev/admin")
DESK = ("desk/admin", "desk/also")
SCENES: Mapping[str, Scene] = {
    "calm": small(),
    "calm-own": small(roles=OWN, later=0.4),
    "calm-two": small(roles=("desk/admin", "armed/admin"), beside=True),
    "bare": small(5, roles=("bare/admin",)),
    "quick": small(16, roles=("dev/admin",), spans=(20_000,)),
    "votes": small(20, roles=("vault/admin", "prod/admin", "desk/admin"), edits=0.4),
    "held": small(12, roles=DESK, askers=("r2",), early_ends=0.2),
    "held-two": small(12, roles=("desk/admin", "armed/admin"), askers=("r2", "r3"),
                      early_ends=0.5, beside=True),
    "lost-grant": small(roles=DESK, faults={"cloud.grant.lost_reply": 0.7}),
    "lost-then-no": small(10, roles=DESK, faults={
        "cloud.grant.lost_reply": 0.4, "cloud.grant.refuse": 0.5}),
    "grant-away": small(10, roles=DESK, spans=(20_000, 60_000), faults={
        "cloud.grant.lost_reply": 0.9}),
    "grant-nothing": small(10, faults={"cloud.grant.refuse": 0.4, "cloud.grant.down": 0.3}),
    "slow-all": small(10, faults={"cloud.grant.slow": 0.4, "cloud.observe.slow": 0.3,
                                  "store.commit.slow": 0.1}),
    "slow-grant": small(10, roles=DESK, spans=(20_000,), faults={"cloud.grant.slow": 0.8}),
    "revoke-nothing": small(roles=(*DESK, "armed/admin"), faults={"cloud.revoke.nothing": 0.7}),
    "revoke-down": small(roles=(*DESK, "bare/admin"), faults={"cloud.revoke.down": 0.7}),
    "revoke-fails": small(roles=DESK, faults={
        "cloud.revoke.refuse": 0.6, "cloud.observe.stale": 0.8}),
    "cut-fails": small(roles=DESK, faults={"cloud.cut.down": 0.6, "cloud.cut.nothing": 0.3}),
    "cut-nothing": small(roles=DESK, faults={"cloud.cut.nothing": 0.8}),
    "stale": small(12, roles=DESK, spans=(20_000,), early_ends=0.9, faults={
        "cloud.observe.stale": 0.9, "cloud.revoke.nothing": 0.5}),
    "re-added": small(roles=(*DESK, "bare/admin"), re_adds=1.0, faults={
        "world.others.re_added": 1.0, "cloud.cut.nothing": 0.7}),
    "tampered": small(roles=OWN, spans=(2 * MINUTE, 5 * MINUTE), early_ends=0.9, faults={
        "world.others.tampered": 1.0, "cloud.probe.slow": 0.5}),
    "probe": small(14, roles=OWN, spans=(2 * MINUTE, 5 * MINUTE), early_ends=1.0, faults={
        "world.others.tampered": 1.0, "cloud.probe.down": 0.8}),
    "unproven": small(14, roles=OWN, spans=(2 * MINUTE, 5 * MINUTE), early_ends=1.0, faults={
        "world.others.tampered": 1.0, "cloud.probe.down": 0.95, "world.process.killed": 1.0,
        "cloud.mend.down": 0.95}),
    "back": small(14, roles=DESK, re_adds=1.0, early_ends=0.0, faults={
        "world.others.re_added": 1.0, "cloud.cut.down": 0.5}),
    "stood": small(12, roles=DESK, faults={"world.others.stood_before": 1.0}),
    "stood-gone": small(40, roles=DESK, askers=("r1", "r2", "r3"), early_ends=0.1, departs=True,
                        quiet=85 * MINUTE, spans=(2 * MINUTE, 5 * MINUTE),
                        faults={"world.others.stood_before": 1.0}),
    "killed": small(10, faults={"world.process.killed": 1.0, "store.commit.crash_after": 0.02,
                                "cloud.grant.crash_after": 0.2}),
    "killed-two": small(10, beside=True, faults={"cloud.revoke.crash_after": 0.2,
                        "store.claim.crash_after": 0.1}),
    "store-away": small(10, faults={"world.store.outage": 1.0}),
    "store-full": small(10, faults={"world.store.full": 1.0, "store.commit.lost_reply": 0.05}),
    "journal-away": small(10, faults={"journal.append.full": 0.4}),
    "cloud-away": small(10, faults={"world.cloud.outage": 1.0}),
    "single": small(10, faults={"store.end_due.full": 1.0}),
    "single-own": small(10, roles=(*DESK, "armed/admin"), early_ends=0.0,
                        faults={"store.end_due.full": 1.0}),
    "laws": small(24, roles=("prod/admin", "vault/admin", "desk/admin"), faults={
        "world.laws.changed": 1.0, "world.laws.raced": 1.0, "cloud.observe.slow": 0.2}),
    "laws-lost": small(24, roles=("prod/admin", "vault/admin", "desk/admin"), faults={
        "world.laws.changed": 1.0, "world.laws.raced": 1.0, "cloud.grant.lost_request": 0.6}),
    "skewed": small(12, faults={"world.process.clock_behind": 1.0, "world.cloud.clock_ahead": 1.0}),
    "raced": small(16, roles=(*DESK, "dev/admin"), beside=True, early_ends=1.0, faults={
        "world.end.raced": 1.0, "store.commit.slow": 0.05, "cloud.issue.slow": 0.3}),
    "late-open": small(8, roles=DESK, busy=60_000, faults_end=45 * MINUTE, later=0.0,
                       faults={"cloud.observe.down": 0.97}),
    "late-cut": small(12, roles=DESK, spans=(20_000, 60_000), faults={
        "cloud.revoke.late": 0.6, "cloud.cut.late": 0.7, "cloud.observe.slow": 0.2}),
    "late-cut-slow": small(12, roles=DESK, spans=(20_000, 60_000), faults={
        "cloud.revoke.slow": 0.4, "cloud.cut.late": 0.9, "cloud.cut.down": 0.3}),
    "long": small(14, roles=("prod/admin", "vault/admin"), spans=(12 * MINUTE, 25 * MINUTE),
                  faults_end=12 * MINUTE),
    "emergency": small(14, roles=("prod/admin",), spans=(2 * MINUTE, 12 * MINUTE)),
    "stood-away": small(12, roles=("desk/admin",), spans=(60_000,), busy=60_000, faults={
        "world.others.stood_before": 1.0, "world.store.outage": 1.0}),
    "clock": small(12, quiet=200 * MINUTE, faults={"world.process.clock_ahead": 1.0,
                               "world.process.clock_behind": 1.0}),
    "clock-bare": small(10, roles=("bare/admin",), early_ends=0.7, quiet=135 * MINUTE, faults={
        "world.process.clock_ahead": 1.0, "world.process.clock_behind": 1.0}),
    "imps": small(16, roles=("vault/admin", "prod/admin", "desk/admin"), askers=("r0", "r1"),
                  imps=1.0),
    "panic": small(24, roles=("desk/admin", "vault/admin", "prod/admin"), panics=4, later=0.3),
    "panic-mine": small(24, roles=("desk/admin", "dev/admin"), panics=5, askers=("r1", "r2"),
                        panics_about=("principal",)),
    "panic-lost": small(24, roles=("desk/admin", "vault/admin", "dev/admin"), panics=4, later=0.3,
                        beside=True, faults={
                            "store.commit.full": 0.1, "store.commit.slow": 0.05,
                            "store.commit.crash_after": 0.02}),
    "apart": small(12, duties=APART, beside=True, forgers=1.0, longer=0.2,
                   quiet=85 * MINUTE),
    "apart-own": small(12, roles=OWN, duties=APART, beside=True, forgers=1.0),
    "apart-lost": small(12, roles=("desk/admin", "armed/admin", "vault/admin"), duties=APART,
                        beside=True, faults={
                            "cloud.grant.lost_reply": 0.2, "cloud.revoke.lost_request": 0.3,
                            "world.process.killed": 1.0, "store.commit.full": 0.05}),
    "restored": small(14, roles=(*OWN, *DESK), early_ends=0.7, later=0.2, restores=1),
    "restored-later": small(20, roles=("desk/admin", "vault/admin"), later=0.9, restores=1,
                            spans=(60_000, 2 * MINUTE)),
    "restored-bare": small(14, roles=("bare/admin", "desk/admin", "armed/admin"), restores=2,
                           early_ends=0.5, quiet=85 * MINUTE),
    "restored-panic": small(24, roles=("bare/admin", "desk/admin", "vault/admin"), restores=2,
                            panics=6, panics_about=("target", "role", "all"), early_ends=0.1,
                            spans=(12 * MINUTE,), lively=10 * MINUTE, quiet=85 * MINUTE),
    "signed": small(10, roles=DESK, askers=("r1", "r2"), signs=1.0, faults={
        "cloud.revoke.down": 0.9, "cloud.observe.down": 0.3}),
    "longer": small(14, roles=("vault/admin", "desk/admin", "armed/admin", "dev/admin"), longer=1.0,
                    early_ends=0.1, quiet=85 * MINUTE),
    "longer-lost": small(14, roles=("vault/admin", "desk/admin", "armed/admin"), longer=1.0,
                         early_ends=0.2, quiet=85 * MINUTE, faults={
                             "cloud.arm.lost_reply": 0.3, "cloud.arm.down": 0.3,
                             "journal.append.full": 0.1, "store.commit.full": 0.1}),
    "longer-late": small(14, roles=("vault/admin", "desk/admin"), longer=1.0, early_ends=0.1,
                         quiet=85 * MINUTE, first_laws="graced", faults={"store.commit.slow": 0.2}),
    "longer-armed": small(10, roles=("armed/admin",), spans=(60_000,), longer=1.0, early_ends=0.0,
                          longer_by=(2 * MINUTE,)),
    "longer-after": small(16, roles=("dev/admin",), spans=(20_000, 60_000), longer=1.0,
                          early_ends=0.0, quiet=85 * MINUTE, first_laws="graced"),
    "graced": small(14, roles=("vault/admin", "desk/admin", "armed/admin", "prod/admin"),
                    longer=0.4, quiet=85 * MINUTE, first_laws="graced"),
    "graced-later": small(24, roles=("vault/admin", "desk/admin"), laws=("base", "graced"),
                          later=0.8, faults={"world.laws.changed": 1.0}),
    "seats": small(12, roles=("armed/admin",)),
    "edited": small(16, roles=("vault/admin", "armed/admin"), edits=1.0, imps=0.3),
    "aliased": small(20, roles=("vault/admin", "desk/admin"), later=1.0, aliased=1.0),
    "laws-later": small(24, roles=("vault/admin", "desk/admin"), laws=("base", "closed"),
                        later=0.8, faults={"world.laws.changed": 1.0}),
    "closed": small(24, roles=("vault/admin", "desk/admin"), laws=("base", "closed"), faults={
        "world.laws.changed": 1.0}),
    "closed-lost": small(24, roles=("vault/admin", "desk/admin"), laws=("base", "closed"), faults={
        "world.laws.changed": 1.0, "world.laws.raced": 1.0, "cloud.grant.lost_request": 0.8}),
    "left": small(24, roles=("vault/admin", "desk/admin"), laws=("base", "left"), later=0.8,
                  faults={"world.laws.changed": 1.0}),
    "laws-slow": small(40, roles=("vault/admin", "desk/admin"), laws=("base", "closed"), faults={
        "world.laws.changed": 1.0, "world.laws.raced": 1.0, "cloud.observe.slow": 0.9}),
    "thieves": small(8, roles=OWN, imps=1.0, early_ends=0.7),
    "thieves-late": small(8, roles=OWN, imps=1.0, faults={
        "store.end_due.full": 1.0, "store.claim.full": 0.9}),
    "gathered": small(12, roles=("vault/admin", "desk/admin", "armed/admin"), imps=1.0,
                      gathers=True),
    "journal-full": small(20, roles=(*DESK, "dev/admin"), early_ends=1.0, outages=(3 * MINUTE,),
                          faults_end=5 * MINUTE, spans=(20 * MINUTE, 30 * MINUTE), later=0.0,
                          quiet=90 * MINUTE, faults={"world.store.full": 1.0}),
    "soon": small(16, roles=DESK, spans=(20_000,), early_ends=1.0, later=0.0),
    "shared": small(16, roles=("armed/admin",), askers=("r2", "r3"), early_ends=0.0, later=0.0,
                    spans=(60_000, 5 * MINUTE)),
    "database": small(40, faults={"world.database.clock_ahead": 1.0,
                                  "world.database.clock_behind": 1.0}),
    "disarm": small(roles=("armed/admin",), early_ends=0.8, faults={
        "cloud.disarm.down": 0.5, "cloud.arm.nothing": 0.4, "world.store.outage": 1.0}),
    "lagging": small(14, roles=DESK, spans=(20_000, 60_000), early_ends=0.5, lag=4_900),
    "lagging-cut": small(14, roles=DESK, spans=(20_000, 60_000), early_ends=0.5, lag=4_900,
                         faults={"cloud.cut.down": 0.5}),
    "lagging-slow": small(14, roles=DESK, spans=(20_000, 60_000), early_ends=0.5, lag=4_900,
                          faults={"cloud.cut.slow": 0.5, "cloud.revoke.slow": 0.5}),
    "nudged": small(14, skews=(600,), befalls=(1_000, 20_000), faults={
        "world.process.clock_behind": 1.0}),
    "by-journal": small(12, roles=DESK, early_ends=0.0, busy=100_000, faults_end=30 * MINUTE,
                        spans=(20_000, 60_000, 2 * MINUTE), outages=(40 * MINUTE,),
                        befalls=(60_000, 120_000), faults={"world.store.outage": 1.0}),
    "by-journal-apart": small(16, roles=DESK, duties=APART, early_ends=0.0, busy=100_000,
                              faults_end=30 * MINUTE, spans=(2 * MINUTE,), beside=True,
                              outages=(40 * MINUTE,), befalls=(110_000, 130_000), faults={
        "world.store.outage": 1.0}),
    "by-journal-stood": small(16, roles=("desk/admin",), early_ends=0.0, busy=100_000,
                              faults_end=30 * MINUTE, spans=(2 * MINUTE,),
                              outages=(40 * MINUTE,), befalls=(100_000, 130_000), faults={
        "world.store.outage": 1.0, "world.others.stood_before": 1.0}),
    "held-down": small(20, roles=DESK, askers=("r2", "r3"), spans=(20_000, 60_000),
                       busy=5 * MINUTE, faults={"cloud.revoke.down": 0.9}),
    "gate": small(30, roles=DESK, spans=(20_000,), busy=10 * MINUTE, faults_end=14 * MINUTE,
                  faults={"cloud.revoke.down": 1.0}),
    "tampered-long": small(10, roles=OWN, spans=(12 * MINUTE, 20 * MINUTE), early_ends=1.0,
                           faults_end=20 * MINUTE, faults={"world.others.tampered": 1.0}),
    "armed-down": small(10, roles=("armed/admin",), spans=(20_000,), early_ends=0.0, faults={
        "cloud.revoke.down": 1.0}),
    "tampered-alone": small(3, roles=("dev/admin",), spans=(25 * MINUTE,), early_ends=1.0,
                            faults_end=30 * MINUTE, busy=60_000, faults={
        "world.others.tampered": 1.0}),
    "held-armed": small(20, roles=DESK, askers=("r2", "r3"), early_ends=0.0, armed=True,
                        spans=(20_000, 2 * MINUTE)),
    "lapse": small(24, roles=("vault/admin", "armed/admin"), quiet=9 * HOUR),
}  # fmt: skip

__all__ = ["SCENES", "WHOLE", "Scene", "small"]
