"""Checks a whole log: every event, every chain, the root, and what was remembered of it.

Streams: memory grows with the number of subjects, not of events. Pure; the caller brings events,
checkpoint, keys, and the checkpoints it trusts from before. Whether anything *should* have been
sealed that was not is no question a log can answer.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from tidegate.base.canonical import Json, canonical
from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.checkpoint import (
    MOST_KEYS,
    Checkpoint,
    Keys,
    open_checkpoint,
    parse_checkpoint,
    require_keys,
)
from tidegate.evidence.finding import MOST_FINDINGS, Finding, finding_of, in_order
from tidegate.evidence.keychange import EVENT as KEY_CHANGED
from tidegate.evidence.merkle import Frontier, leaf_hash
from tidegate.evidence.seal import read_leaf
from tidegate.evidence.verify_keys import Stated, keys_of_log

_BATCH = 4_096  # events hashed into the tree at once


@dataclass(frozen=True, slots=True, kw_only=True)
class LogReport:
    """The outcome. `ok` only when there is no finding; `findings` start with the first bad event.

    `size` and `root` (hex) are the signed checkpoint's, 0 and "" when it does not hold; `events` is
    how many were read. `cannot_exclude` says in words what this check could not have seen.
    """

    ok: bool
    findings: tuple[Finding, ...]
    origin: str
    size: int
    root: str
    events: int
    remembered: tuple[int, ...]
    cannot_exclude: tuple[str, ...]

    def as_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "findings": [found.plain() for found in self.findings],
            "origin": self.origin,
            "size": self.size,
            "root": self.root,
            "events": self.events,
            "remembered": list(self.remembered),
            "cannot_exclude": list(self.cannot_exclude),
        }


def verify_log(
    events: Iterable[bytes],
    checkpoint: str,
    keys: Keys,
    *,
    since: Sequence[Checkpoint | str] = (),
    hashes: Iterable[bytes] | None = None,
) -> LogReport:
    """Check `events` (leaves, from index 0 on) against the signed note `checkpoint`.

    Args:
        events: every leaf the checkpoint covers, in order.
        checkpoint: the log's newest signed checkpoint.
        keys: keys trusted from elsewhere, never from the log itself. One of them is enough: the
            others follow from the log's own key changes, each signed by both keys.
        since: remembered or witnessed checkpoints, opened by the caller, or as signed notes, to be
            opened with the keys of the log. Only they can show truncation, rollback and re-signing
            with the real key.
        hashes: the stored leaf hashes, if there are any. When they give the signed root, the first
            bad event is named exactly; without them it is found by the chains, and an event whose
            whole chain was recomputed is known only to lie in a range.

    Raises:
        AskedWrongly: no key was given.
    """
    require_keys(keys)
    walk, stored = _Walk(), _Stored(hashes)
    size = _claimed_size(checkpoint)
    # Which keys to open checkpoints with is known only once the events were read; until then a
    # size that is claimed costs a root to be kept, and no more.
    sizes = {_claimed_size(old) if isinstance(old, str) else old.size for old in since}
    roots = _read(walk, stored, iter(events), {s for s in (size, *sizes) if s <= size})
    trusted, wrong = keys_of_log(keys, walk.key_changes, size)
    head, remembered = _opened(checkpoint, since, trusted, wrong)
    claims = _claims(head, remembered, walk)
    exact = None
    if head is not None:
        _check_length(walk, head)
        _check_roots(walk, claims, roots)
        exact = stored.judge(head, walk)
    found = [f for f in walk.found if exact is None or f.idx is None or f.idx >= exact]
    return LogReport(
        ok=not (found or wrong),
        findings=in_order([*wrong, *found]),
        origin=head.origin if head else "",
        size=head.size if head else 0,
        root=head.root.hex() if head else "",
        events=walk.count,
        remembered=tuple(sorted(old.size for old in remembered)),
        cannot_exclude=_cannot_exclude(head, remembered),
    )


def _claimed_size(note: str) -> int:
    """What a checkpoint says of its size, unproven; 0 when it says nothing."""
    try:
        return parse_checkpoint(note).size
    except EvidenceBroken:
        return 0


def _opened(
    checkpoint: str, since: Sequence[Checkpoint | str], keys: Keys, wrong: list[Finding]
) -> tuple[Checkpoint | None, list[Checkpoint]]:
    """The checkpoint under test and those remembered; what does not open is added to `wrong`."""
    opened: list[Checkpoint] = []
    for note in (checkpoint, *since):
        try:
            opened.append(open_checkpoint(note, keys) if isinstance(note, str) else note)
        except EvidenceBroken as error:
            wrong.append(finding_of(error, None))
            if note is checkpoint:
                return None, []
    return opened[0], opened[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Claim:
    """A root that the events must give at a size; `ours` is the checkpoint under test."""

    size: int
    root: bytes
    ours: bool


class _Walk:
    """What one pass over the events knows: where each chain stands, and what did not fit."""

    def __init__(self) -> None:
        self.found: list[Finding] = []
        self.count = 0
        self.at = ""
        self.next_idx = 0
        # subject -> (length, hash of its last event in hex, index of that event)
        self.chains: dict[str, tuple[int, str, int]] = {}
        # subject -> what its last event said of the one before, and the hash that last event would
        # have, had only its own `prev` been changed
        self.accused: dict[str, tuple[Finding, str]] = {}
        self.key_changes: list[Stated] = []

    def note(self, finding: Finding) -> None:
        # Twice the bound: accusations are taken back, and the earliest are what is kept.
        if len(self.found) < 2 * MOST_FINDINGS:
            self.found.append(finding)

    def take(self, leaf: bytes) -> bytes:
        """Check one event against all before it; gives its leaf hash."""
        position, digest = self.count, leaf_hash(leaf)
        self.count += 1
        try:
            event = read_leaf(leaf)
        except EvidenceBroken as error:
            self.note(finding_of(error, position))
            self.next_idx += 1
            return digest
        idx, at, subject = event["idx"], event["at"], event["subject"]
        if idx != self.next_idx:
            self._misplaced(idx)
        self.next_idx = idx + 1
        if at < self.at:
            self.note(_finding("clock_back", idx, "time of sealing", f"not before {self.at}", at))
        self.at = at
        length, link, before = self.chains.get(subject, (0, "", -1))
        if event["prev"] != link or event["seq"] != length:
            self._unlinked(event, length, link, before)
        elif self.accused:
            self.accused.pop(subject, None)
        self.chains[subject] = (event["seq"] + 1, digest.hex(), idx)
        if event["name"] == KEY_CHANGED and len(self.key_changes) <= MOST_KEYS:
            self.key_changes.append((idx, event))
        return digest

    def _misplaced(self, idx: int) -> None:
        expected = self.next_idx
        self.note(
            _finding(
                "out_of_order",
                min(expected, idx),
                "place in the log (dropped, swapped, moved or inserted)",
                f"event {expected}",
                f"event {idx}",
            )
        )

    def _unlinked(self, event: dict[str, Any], length: int, link: str, before: int) -> None:
        subject, seq, idx = event["subject"], event["seq"], event["idx"]
        if seq != length:
            what = f"place in the chain of `{subject}`"
            self.note(_finding("chain_broken", idx, what, str(length), str(seq)))
            return
        # This event says that the one before it was another. Either that one was changed, or only
        # this `prev`: the next of the chain tells which.
        earlier, mended = self.accused.pop(subject, (None, ""))
        if earlier in self.found and mended == event["prev"]:
            self.found.remove(earlier)
        accusation = _finding(
            "edited",
            before,
            f"bytes of an event of `{subject}`, as event {idx} names them",
            f"hash {event['prev']}",
            f"hash {link}",
        )
        own_link_changed = leaf_hash(canonical({**event, "prev": link})).hex()
        self.accused[subject] = (accusation, own_link_changed)
        self.note(accusation)


class _Stored:
    """The stored leaf hashes, read in step with the events."""

    def __init__(self, hashes: Iterable[bytes] | None) -> None:
        self.given = hashes is not None
        self._hashes = iter(hashes or ())
        self._frontier = Frontier()
        self._differs: tuple[int, str, str] | None = None

    def compare(self, first: int, digests: Sequence[bytes]) -> None:
        """Hold the hashes of the events from `first` on against those stored."""
        if not self.given:
            return
        stored = tuple(islice(self._hashes, len(digests)))
        self._frontier = self._frontier.extend(stored)
        if self._differs is None and stored != tuple(digests):
            for idx, digest in enumerate(digests):
                kept = stored[idx].hex() if idx < len(stored) else "none"
                if kept != digest.hex():
                    self._differs = (first + idx, kept, digest.hex())
                    return

    def judge(self, head: Checkpoint, walk: _Walk) -> int | None:
        """The first bad event for certain, or None when the stored hashes cannot tell."""
        if not self.given:
            return None
        rest = islice(self._hashes, max(0, head.size - self._frontier.size))
        root = self._frontier.extend(rest).root()
        if self._differs is not None:
            idx, kept, got = self._differs
            walk.note(_finding("edited", idx, "stored hash of the event", kept, got))
        if root == head.root:
            return self._differs[0] if self._differs else None
        walk.note(
            _finding(
                "hashes_changed",
                None,
                "root of the stored leaf hashes",
                f"the signed {head.root.hex()}",
                root.hex(),
            )
        )
        return None


def _claims(head: Checkpoint | None, since: Sequence[Checkpoint], walk: _Walk) -> list[_Claim]:
    """The roots to hold the events against, smallest size first."""
    if head is None:
        return []
    claims = [_Claim(size=head.size, root=head.root, ours=True)]
    for old in since:
        if old.origin != head.origin:
            walk.note(
                _finding(
                    "other_log", None, "origin of what was remembered", head.origin, old.origin
                )
            )
        elif old.size > head.size:
            walk.note(
                _finding(
                    "rolled_back",
                    head.size,
                    "size of the log (it was set back or cut short)",
                    f"at least the remembered {old.size}",
                    str(head.size),
                )
            )
        else:
            claims.append(_Claim(size=old.size, root=old.root, ours=False))
    return sorted(claims, key=lambda claim: (claim.size, claim.ours))


def _read(
    walk: _Walk, stored: _Stored, events: Iterator[bytes], sizes: Iterable[int]
) -> dict[int, bytes]:
    """Take every event; gives the root at each of `sizes` that was reached."""
    frontier = Frontier()
    roots: dict[int, bytes] = {}
    for size in [*sorted(sizes), None]:
        while size is None or walk.count < size:
            room = _BATCH if size is None else min(_BATCH, size - walk.count)
            first = walk.count
            digests = [walk.take(leaf) for leaf in islice(events, room)]
            if not digests:
                break
            stored.compare(first, digests)
            frontier = frontier.extend(digests)
        if size is not None and walk.count == size:
            roots[size] = frontier.root()
    return roots


def _check_length(walk: _Walk, head: Checkpoint) -> None:
    if walk.count < head.size:
        walk.note(
            _finding("truncated", walk.count, "events of the log", f"{head.size}", f"{walk.count}")
        )
    elif walk.count > head.size:
        what = "events of the log (more than were signed)"
        walk.note(_finding("not_signed", head.size, what, f"{head.size}", f"{walk.count}"))


def _check_roots(walk: _Walk, claims: Sequence[_Claim], roots: dict[int, bytes]) -> None:
    """Compare each claimed root with the events; a range is all that a root can name."""
    good = 0
    for claim in claims:
        got = roots.get(claim.size)
        if got is None:
            continue
        if got == claim.root:
            good = max(good, claim.size)
            continue
        where = f"events {good} to {claim.size - 1}" if claim.size else "the empty log"
        whose = "signed" if claim.ours else "remembered"
        walk.note(
            _finding(
                "not_signed" if claim.ours else "rewritten",
                None,
                f"root over {where}, against the {whose} checkpoint {claim.size}",
                claim.root.hex(),
                got.hex(),
            )
        )


def _cannot_exclude(head: Checkpoint | None, since: Sequence[Checkpoint]) -> tuple[str, ...]:
    if head is None:
        return ("anything: the checkpoint itself does not hold",)
    newest = max((old.size for old in since if old.origin == head.origin), default=None)
    if newest is None:
        return (
            "that whoever holds the signing key cut the log short, set it back to an earlier state,"
            " or rewrote and signed it again: no remembered or witnessed checkpoint was given",
        )
    if newest < head.size:
        return (
            f"that whoever holds the signing key rewrote or cut what follows event {newest - 1}:"
            f" the newest remembered checkpoint covers {newest} of {head.size} events",
        )
    return ()


def _finding(code: str, idx: int | None, what: str, expected: str, got: str) -> Finding:
    return Finding(code=code, idx=idx, what=what, expected=expected, got=got)
