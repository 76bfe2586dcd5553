"""Which keys signed which part of a log, as its own `log.key_changed` events say.

For the check of a whole log: given one trusted key, the events name those before and after it, each
change signed by both. Pure.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from tidegate.base.errors import EvidenceBroken
from tidegate.base.fact import SYSTEM
from tidegate.evidence.checkpoint import MOST_KEYS, Keys, TrustedKey, follow
from tidegate.evidence.finding import Finding, finding_of
from tidegate.evidence.keychange import KeyChange, read_change
from tidegate.evidence.merkle import LARGEST_TREE
from tidegate.evidence.note import VerifierKey

Stated = tuple[int, Mapping[str, Any]]  # (index, the whole event `log.key_changed`)


def keys_of_log(
    given: Keys, stated: Sequence[Stated], size: int
) -> tuple[tuple[TrustedKey, ...], list[Finding]]:
    """The keys of a log of `size` events, and what is wrong with the changes it states.

    `given` are trusted from elsewhere; sizes that they name hold against the log's. A change that
    does not hold brings no key: whatever its key signed is then signed by a stranger.
    """
    changes, findings = _sound(stated)
    keys = follow(given, changes)
    known = {held.key: held for held in keys}
    sealed = {change.index for change in changes}
    for change in changes:
        findings += _misfits(change, known)
    for held in given:
        if held.until < min(size, LARGEST_TREE) and held.until not in sealed:
            what = f"change of the key {held.key.key_id.hex()}, trusted until size {held.until}"
            expected = f"`log.key_changed` as event {held.until}"
            findings.append(
                _finding("no_key_change", held.until, what, expected, "none that holds")
            )
    return keys, findings


def _sound(stated: Sequence[Stated]) -> tuple[list[KeyChange], list[Finding]]:
    """The changes that hold by themselves and follow on each other, and why the others do not."""
    changes: list[KeyChange] = []
    findings: list[Finding] = []
    used: set[str] = set()
    for idx, event in stated[:MOST_KEYS]:
        try:
            if event["subject"] != SYSTEM:
                raise EvidenceBroken(
                    "key_change_forged", "chain of a key change", f"`{SYSTEM}`", event["subject"]
                )
            change = read_change(idx, event["data"])
            if changes and changes[-1].after != change.before:
                raise EvidenceBroken(
                    "key_change_out_of_turn",
                    "key that goes",
                    changes[-1].after.text(),
                    change.before.text(),
                )
            if change.after.text() in used:
                raise EvidenceBroken(
                    "key_reused",
                    "key that comes",
                    "one the log did not have before",
                    change.after.text(),
                )
        except EvidenceBroken as error:
            findings.append(finding_of(error, idx))
            continue
        used |= {change.before.text(), change.after.text()}
        changes.append(change)
    if len(stated) > MOST_KEYS:
        idx = stated[MOST_KEYS][0]
        got = str(len(stated))
        findings.append(_finding("many_keys", idx, "key changes", f"at most {MOST_KEYS}", got))
    return changes, findings


def _misfits(change: KeyChange, known: Mapping[VerifierKey, TrustedKey]) -> list[Finding]:
    """Where a sound change contradicts the keys that are trusted."""
    before, after = known.get(change.before), known.get(change.after)
    if before is None and after is None:
        got = f"{change.before.key_id.hex()} and {change.after.key_id.hex()}"
        what = "key change between keys nobody vouches for"
        expected = "one of a key that is trusted"
        return [_finding("strange_key_change", change.index, what, expected, got)]
    found = []
    if before is not None and before.until != change.index:
        what = f"last size of the key {before.key.key_id.hex()}"
        expected = f"{before.until}, as it is trusted"
        found.append(_finding("key_change_moved", change.index, what, expected, f"{change.index}"))
    if after is not None and after.first != change.index + 1:
        what = f"first size of the key {after.key.key_id.hex()}"
        expected = f"{after.first}, as it is trusted"
        found.append(
            _finding("key_change_moved", change.index, what, expected, f"{change.index + 1}")
        )
    return found


def _finding(code: str, idx: int | None, what: str, expected: str, got: str) -> Finding:
    return Finding(code=code, idx=idx, what=what, expected=expected, got=got)
