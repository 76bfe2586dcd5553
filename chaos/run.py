"""`make chaos`: a kill at every named point, and networks that misbehave, on real processes.

    python -m chaos.run                              everything
    python -m chaos.run --kind iam-role --sample 6   six cases drawn by --seed
    python -m chaos.run --case iam-role:cloud.revoke.after:1
    python -m chaos.run --database postgresql        the same on PostgreSQL, which is hurt too
    python -m chaos.run --database postgresql --servers 2   one of two dies, the other takes over

Each case is one life of two grants. The table counts what must be zero: lost (approved and not
brought to its end), doubled (opened, ended or granted twice), orphaned (acts or stands with no
grant behind it), late (acted beyond the stated bound), cut (ended long before its end). Exits with
1 on any, and when a point was never reached, so that nobody was killed at it.
"""

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from chaos.life import TAKEN, WINDOW, Life, Verdict
from chaos.proxy import Rule
from chaos.town import Town
from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.seal import read_event
from tidegate.main import local
from tidegate.main.config import load_config
from tidegate.main.first import CONFIG_NAME
from tidegate.main.wiring import open_store

KINDS = ("iam-role", "permission-set")
NETWORK = {
    # what is done to the way to the cloud once both grants are held; it heals by itself
    "net.slow": Rule(act="slow", seconds=1.0, count=8),
    "net.reset": Rule(act="reset", count=4),
    "net.lose_reply": Rule(act="lose_reply", count=4),
    "net.reset_mid": Rule(act="reset_mid", count=4),
    "net.half_open": Rule(act="half_open", count=1),
    "net.twice": Rule(act="twice", count=8),
}
SETTINGS = "settings.target_left"  # both targets leave the settings and the server is killed
FREEZES = {"net.cut": 4.0, "net.freeze": 4.0}  # seconds
HOLE = "db.hole"  # it takes connections and never answers, until long after an end has come
DATABASE = ("db.crash", "db.cut", "db.freeze", "db.slow", HOLE)  # PostgreSQL and the way to it
# Only the database cannot grow; or nothing of the server can, its journal and log neither.
DISK = ("disk.full", "disk.everything")
REFUSED = 8.0  # seconds within which a full disk must be felt
AWAY = 5.0  # seconds for which the database is away
HOLE_SECONDS = WINDOW + TAKEN + 5.0  # whatever ended within the bound was ended without it
MOST_OF_A_POINT = 3  # kills at the first, second, third passing: later ones repeat a phase
# Lives with points that no other has, by what the name of these begins with, and how many passings
# of them differ: what is ended early is ended by a panic (called, named, ended, swept); the journal
# drops what is over at once.
PANIC, COMPACT = "store.urgent", "compact"
LIVES = {PANIC: 4, COMPACT: 2}
# Ends at which nobody but us takes the access away: else the cloud would hide one that was lost.
OURS = ("db.", "disk.", "settings.", "writer.", "mass.")
ENOUGH = 12.0  # seconds after a life for its last points: a head is published every ten
TRIES = 2  # lives, until one passes the point: how often one is passed is the machine's mood too
ONCE = ("grant.intended", "grant.opened", "grant.gone")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Case:
    """One case: a point with which passing of it, or what is done to the network."""

    kind: str
    point: str
    nth: int = 1

    def __str__(self) -> str:
        """As `--case` takes it."""
        return f"{self.kind}:{self.point}:{self.nth}"


def parse_case(text: str) -> Case:
    """`kind:point:nth`. Raises ValueError."""
    kind, point, nth = text.split(":")
    return Case(kind, point, int(nth))


class Batch:
    """Cases of one kind on one installation, and the evidence held against them at the end."""

    def __init__(
        self,
        kind: str,
        directory: Path,
        say: Say,
        engine: str = "sqlite",
        servers: int = 1,
        *,
        brief: bool = False,
    ) -> None:
        """`brief`: what lasts until long after an end is over as soon as that end came under it."""
        self.kind, self._say, self._brief = kind, say, brief
        self.town = Town(kind, directory, engine, servers)
        self.verdicts: list[Verdict] = []
        self._number = 0

    def run(
        self,
        choose: Callable[[Sequence[Case]], Sequence[Case]] = lambda found: found,
        cases: Sequence[Case] = (),
    ) -> None:
        """Live `cases`; without any, what `choose` takes of all there are."""
        try:
            self._run(choose, cases)
            self._hold_against_the_evidence()
        finally:
            self.town.close()

    def _run(
        self, choose: Callable[[Sequence[Case]], Sequence[Case]], cases: Sequence[Case]
    ) -> None:
        with self.town as town:
            for case in cases or choose(self._found()):
                if case.point.startswith(("net.", "db.", "disk.", "settings.")):
                    town.restart(("", 0))
                    self._live(case, lambda life, case=case: self._trouble(case.point, life))
                else:
                    self._kill(case)
            left = town.standing()
            if left:
                self.verdicts[-1].orphaned.append(f"still in the cloud: {', '.join(left)}")

    def _kill(self, case: Case) -> None:
        """Lives until somebody was killed at the point. One that is never reached has failed."""
        for _ in range(TRIES):
            self.town.restart((case.point, case.nth), compacts=case.point.startswith(COMPACT))
            self._live(case, lambda _: None, kills=True)
            if self.verdicts[-1].killed:
                return
        self.verdicts[-1].unreached.append(f"{case.point} was not passed {case.nth} times")
        self._say(f"{case!s:48} FAILED never reached")

    def _found(self) -> list[Case]:
        """Lives without any kill find the points there are and how often each is passed."""
        found = self._passed(Case(self.kind, "none"), MOST_OF_A_POINT)
        for name, most in LIVES.items():
            lived = self._passed(Case(self.kind, name), most)
            found += [one for one in lived if one.point.startswith(name)]
        if len(self.town.stage.servers) > 1:
            return found  # what is about two of them; the rest is about one as well
        more = (*NETWORK, *FREEZES, SETTINGS, *DISK, *(DATABASE if self.town.postgres else ()))
        return found + [Case(self.kind, name) for name in more]

    def _passed(self, case: Case, most: int) -> list[Case]:
        self.town.restart(("", 0), compacts=case.point == COMPACT)
        self._live(case, lambda _: None)
        hits = Counter(self.town.stage.hits.read_text().split())
        return [
            Case(self.kind, point, nth)
            for point in sorted(hits)
            for nth in range(1, min(hits[point], most) + 1)
        ]

    def _live(self, case: Case, trouble: Callable[[Life], None], *, kills: bool = False) -> None:
        self._number += 1
        self.town.stage.armed.touch()
        swapped, panics = case.point.startswith(OURS), case.point.startswith(PANIC)
        life = Life(self.town, str(case), 1000 + self._number, swapped=swapped, panics=panics)
        verdict = life.live(trouble)
        if kills and self.town.died(ENOUGH):
            verdict.killed = self.town.kills
        self.town.stage.armed.unlink(missing_ok=True)
        self.town.heal()
        if self.town.one_lives:  # the other comes back when its grants are long gone
            life.come_back()
        self.verdicts.append(verdict)
        words = "ok" if verdict.ok else "FAILED"
        self._say(f"{verdict.case:48} {words:6} kills {verdict.killed} {verdict.seconds:5.1f} s")

    def _trouble(self, name: str, life: Life) -> None:
        proxy = self.town.stage.proxy
        if name == SETTINGS:
            self.town.without_targets()
            self.town.revive()
            life.must_be_refused(REFUSED)  # nobody can ask for what the settings do not have
            return
        if name in DISK:
            self._disk_trouble(name, life)
            return
        if name in NETWORK:
            proxy.add(NETWORK[name])
            return
        if name in DATABASE:
            self._database_trouble(name, life)
            return
        proxy.cut() if name == "net.cut" else proxy.freeze()
        _later(FREEZES[name], proxy.clear)

    def _disk_trouble(self, name: str, life: Life) -> None:
        """Nothing can be written until long after an end has come; then there is room again."""
        self.town.fill_disk(everything=name == DISK[1])
        try:
            life.must_be_refused(REFUSED)
            self._outlast_an_end(life)
        finally:
            self.town.make_room()

    def _outlast_an_end(self, life: Life) -> None:
        """Until long after an end; one that did not come by then is late in the oracle's books."""
        enough = life.has_run_out if self._brief else lambda: False
        life.watch(time.time() + HOLE_SECONDS, enough=enough)

    def _database_trouble(self, name: str, life: Life) -> None:
        """PostgreSQL is killed and started again, or the way to it misbehaves for a while."""
        server, way = self.town.postgres, self.town.way_to_database
        if server is None or way is None:
            raise SystemExit(f"`{name}` needs --database postgresql")
        if name == "db.crash":
            server.stop(signal.SIGKILL)
            _later(AWAY, server.start)
            return
        if name == HOLE:
            way.freeze()
            self._outlast_an_end(life)
            way.clear()
            return
        if name == "db.slow":
            way.delay = 0.05
        else:
            way.cut() if name == "db.cut" else way.freeze()
        _later(AWAY, way.clear)

    def _hold_against_the_evidence(self) -> None:
        """With every process down: each life once in the log, the log whole, rows as it says."""
        config = self.town.stage.home / CONFIG_NAME
        store = open_store(load_config(config))
        try:
            events = [read_event(leaf) for _, leaf in store.all_events()]
        finally:
            store.close()
        seen = Counter((str(one.data.get("request", "")), one.name) for one in events)
        for verdict in self.verdicts:
            for request in verdict.requests:
                for name in ONCE:
                    if seen[request, name] > 1:
                        verdict.doubled.append(f"{request}: {seen[request, name]} × {name}")
                ended = seen[request, "grant.gone"] + seen[request, "grant.failed"]
                if not ended:
                    verdict.lost.append(f"{request}: no end in the evidence")
        last = self.verdicts[-1]
        try:
            if different := local.rebuild_check(config):
                last.lost.append(f"{len(different)} rows differ from the evidence: {different[0]}")
        except EvidenceBroken as broken:
            last.lost.append(f"the evidence contradicts itself: {broken.message}")
        if not local.verify_log(config, ()).ok:
            last.lost.append("the log does not verify")
        for one in self.town.stage.servers:
            journal = ClosingJournal(one.home / "closing.journal")
            if broken := journal.inspect().broken:
                last.lost.append(f"the journal cannot be read at line {broken[0]}")


def _later(seconds: float, act: Callable[[], None]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()


def chosen(cases: Sequence[Case], asked: argparse.Namespace) -> Sequence[Case]:
    """What of `cases` was asked for."""
    found = [one for one in cases if asked.points in one.point]
    if asked.sample:
        found = random.Random(asked.seed).sample(found, min(asked.sample, len(found)))
    return found


def table(verdicts: Sequence[Verdict], engine: str = "sqlite", servers: int = 1) -> Iterator[str]:
    """The result, for people."""
    counted = f"{'lost':>7}{'doubled':>9}{'orphaned':>10}{'late':>6}{'cut':>5}"
    yield f"{'':24}{'cases':>7}{'kills':>7}{counted}"
    for kind in KINDS:
        mine = [one for one in verdicts if one.case.startswith(f"{kind}:")]
        if mine:
            sums = [sum(len(getattr(v, w)) for v in mine) for w in COUNTED]
            kills = sum(one.killed for one in mine)
            yield (
                f"{kind:24}{len(mine):7}{kills:7}{sums[0]:7}{sums[1]:9}{sums[2]:10}{sums[3]:6}{sums[4]:5}"
                f"   latest {max(one.latest for one in mine):.1f} s past an end, "
                f"{max(one.latest_up for one in mine):.1f} s with Tidegate up"
            )
    for one in verdicts:
        if not one.ok:
            yield f"\n{one.case}"
            for word in (*COUNTED, "unreached"):
                yield from (f"  {word}: {what}" for what in getattr(one, word))
            words = f"--database {engine} --servers {servers} --case {one.case}"
            yield f"  again: python -m chaos.run {words}"


def _in_a_word(verdicts: Sequence[Verdict]) -> str:
    if any(one.kept for one in verdicts):
        return "ACCESS WAS KEPT"
    return "nothing kept" if all(one.ok for one in verdicts) else "A POINT WAS NEVER REACHED"


COUNTED = ("lost", "doubled", "orphaned", "late", "cut")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what is asked. 0 when nothing was lost, doubled, orphaned, late, cut or unreached."""
    parser = argparse.ArgumentParser(prog="python -m chaos.run", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--kind", choices=KINDS, action="append", help="only this role kind")
    parser.add_argument("--points", default="", help="only points with this in their name")
    parser.add_argument("--case", action="append", default=[], help="this case; may be given again")
    parser.add_argument("--sample", type=int, default=0, help="so many cases a kind, drawn by seed")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--servers", type=int, choices=(1, 2), default=1, help="on one PostgreSQL")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one object at the end, nothing else")
    asked = parser.parse_args(arguments)
    if asked.servers > 1 and asked.database != "postgresql":
        parser.error("--servers 2 needs --database postgresql: on SQLite one process is all")
    kinds = asked.kind or list(KINDS)
    if asked.case:
        kinds = sorted({parse_case(one).kind for one in asked.case})
    say: Say = (lambda _: None) if asked.json else (lambda words: print(words, flush=True))
    began, verdicts = time.time(), list[Verdict]()
    with tempfile.TemporaryDirectory(prefix="tidegate-chaos-") as directory:
        for kind in kinds:
            batch = Batch(kind, Path(directory) / kind, say, asked.database, asked.servers)
            mine = [one for one in map(parse_case, asked.case) if one.kind == kind]
            batch.run(lambda found: chosen(found, asked), mine)
            verdicts += batch.verdicts
    ok = all(one.ok for one in verdicts)
    if asked.json:
        told: dict[str, Any] = {"ok": ok, "seed": asked.seed, "seconds": time.time() - began}
        print(json.dumps({**told, "cases": [asdict(one) | {"ok": one.ok} for one in verdicts]}))
    else:
        print(
            "\n".join(
                [
                    "",
                    *table(verdicts, asked.database, asked.servers),
                    "",
                    _in_a_word(verdicts),
                ]
            )
        )
    return 0 if ok else 1


if __name__ == "__main__":
    sys.exit(main())
