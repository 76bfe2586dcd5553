"""The checkers of the end, when all is quiet: nothing open, left over, missing or doubled."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import orjson

from sim.book import NEVER
from sim.sight import acts
from tidegate.evidence.verify import verify_log
from tidegate.store import compare

DECIDED_WITHIN = 8 * 60 * 60_000 + 10 * 60_000  # in ms: eight hours, and a look at chores


def nothing_open(oracle: Any) -> Iterator[tuple[str, str]]:
    """Every grant is over: gone, or failed, and none of its sessions acts."""
    for life in oracle.lives.values():
        if life.forgotten:
            if acts(oracle, life) and life.key not in oracle.foreign:
                yield "I3", f"a session of {life.id} acts at the end, and no row tells of it"
            continue
        if life.intended_at == NEVER:
            if life.failed_at == NEVER and life.wish.grant == life.id:
                yield "I2", f"{life.id} is neither open nor failed at the end"
            continue
        if life.signed_at != NEVER:
            continue  # somebody answers for it
        standing = life.key in oracle.foreign
        if not standing and life.gone_at == NEVER and life.failed_at == NEVER:
            yield "I2", f"{life.id} is not gone at the end"
        if acts(oracle, life) and not standing:
            yield "I3", f"a session of {life.id} acts at the end"


def nothing_orphaned(oracle: Any) -> Iterator[tuple[str, str]]:
    """Nothing of ours is left in a cloud."""
    for key in oracle.world.cloud.standing(oracle.world.cloud_now()):
        answered = any(one.signed_at != NEVER for one in oracle.by_key.get(key, ()))
        if key not in oracle.foreign and not answered:
            yield "I2", f"{key.text()} is left over in the cloud"


def nothing_missing(oracle: Any) -> Iterator[tuple[str, str]]:
    """What stood before stands, and every approval has its grant."""
    standing = set(oracle.world.cloud.standing(oracle.world.cloud_now()))
    for key in oracle.stood - standing:
        yield "I5", f"{key.text()} stood before, was not ours, and is removed"
    for wish in oracle.wishes.values():
        if wish.extends is not None:
            if wish.approved_at != NEVER and not wish.applied:
                yield "I6", f"{wish.request} was approved and neither applied nor refused"
        elif wish.approved_at != NEVER and not wish.grant:
            yield "I6", f"{wish.request} was approved and has no grant"


def nothing_waiting(oracle: Any) -> Iterator[tuple[str, str]]:
    """What nobody decided in time is over."""
    for wish in oracle.wishes.values():
        waited = oracle.loop.now - wish.filed_at
        if wish.approved_at == NEVER and not wish.ended and waited > DECIDED_WITHIN:
            yield "I9", f"{wish.request} still waits to be decided after {waited // 60_000} minutes"


def nothing_doubled(oracle: Any) -> Iterator[tuple[str, str]]:
    """Every event is in the log as often as it was sealed: not once more, not once less."""
    real = oracle.world.real
    counted = Counter(
        str(orjson.loads(leaf)["name"]) for _, leaf in real.all_events(oracle.founded_size)
    )  # whether they are events at all, `log_verifies` asks
    for name in sorted(set(counted) | set(oracle.sealed_names)):
        sealed = oracle.sealed_names[name]
        if counted[name] != sealed:
            yield "I7", f"{sealed} times {name} was sealed, {counted[name]} kept"


def log_verifies(oracle: Any) -> Iterator[tuple[str, str]]:
    """The log verifies by the offline verifier, and gives the rows."""
    real = oracle.world.real
    with real.whole_log() as (head, leaves, hashes):
        report = verify_log(leaves, head.checkpoint_text, [oracle.world.trusted], hashes=hashes)
    for finding in report.findings[:3]:
        yield "I7", f"the log: {finding}"
    for difference in compare(real)[:3]:
        yield "I7", difference.text()


QUIET: Mapping[str, Callable[[Any], Iterator[tuple[str, str]]]] = {
    check.__name__.replace("_", " "): check
    for check in (
        nothing_open,
        nothing_orphaned,
        nothing_missing,
        nothing_waiting,
        nothing_doubled,
        log_verifies,
    )
}

__all__ = ["QUIET"]
