"""Builds packs and checks them: offline, with a key that came another way.

`build_pack` and `verify_pack` stand in one file because each line of one answers a line of the
other. A pack's own keys and report are never trusted: they are compared with what was proven.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tidegate.base.canonical import Json, digest_bytes
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.personal import Personal
from tidegate.evidence.archive import Manifest, Pack, read_pack, write_pack
from tidegate.evidence.checkpoint import (
    Checkpoint,
    Keys,
    TrustedKey,
    changes_in,
    follow,
    open_checkpoint,
    parse_checkpoint,
    parse_keys,
    require_keys,
)
from tidegate.evidence.events import Event
from tidegate.evidence.finding import Finding, finding_of, in_order
from tidegate.evidence.life import Life, as_of, commitments, digests_named, read_life
from tidegate.evidence.merkle import leaf_hash, verify_inclusion
from tidegate.evidence.note import VerifierKey
from tidegate.evidence.proof import Proof, parse_proof
from tidegate.evidence.report import REPORT_VERSION, Told, can_render, render_report, versions
from tidegate.evidence.seal import read_event

HIGHEST_REPORT_VERSION = 9_999  # beyond it a number is no version of anything


@dataclass(frozen=True, slots=True, kw_only=True)
class PackReport:
    """The outcome. `ok` only when there is no finding; `findings` start with the first bad event.

    `as_of` is empty when the grant is over. `erased` names each text whose disclosure is not in the
    pack: no failure, its commitment still holds. `cannot_exclude` says what no pack can show.
    """

    ok: bool
    findings: tuple[Finding, ...]
    origin: str = ""
    grant: str = ""
    request: str = ""
    state: str = ""
    over: bool = False
    as_of: str = ""
    proof: str = ""
    events: int = 0
    size: int = 0
    erased: tuple[str, ...] = ()
    cannot_exclude: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Json]:
        """For `--json`."""
        return {
            "ok": self.ok,
            "findings": [found.plain() for found in self.findings],
            "origin": self.origin,
            "grant": self.grant,
            "request": self.request,
            "state": self.state,
            "over": self.over,
            "as_of": self.as_of,
            "proof": self.proof,
            "events": self.events,
            "size": self.size,
            "erased": list(self.erased),
            "cannot_exclude": list(self.cannot_exclude),
        }


def build_pack(
    *,
    grant: str,
    leaves: Sequence[bytes],
    proofs: Sequence[Proof],
    checkpoint: str,
    keys: Sequence[VerifierKey | TrustedKey],
    disclosures: Mapping[str, Personal],
    documents: Mapping[str, bytes],
) -> bytes:
    """The pack of `grant` as bytes, the same for the same arguments.

    Args:
        grant: the grant it is about.
        leaves: the whole chain of its request, in order, as stored.
        proofs: one for each leaf, all with `checkpoint`.
        checkpoint: a signed checkpoint that covers them.
        keys: the log's public keys, the first one first. Those that bring the sealed change to them
            let a reader who has only an earlier key follow to the one that signed `checkpoint`.
        disclosures: personal texts by commitment; those no event names are left out.
        documents: canonical bytes of rule sets and catalogue entries by digest; those no event
            names are left out.

    Raises:
        EvidenceBroken: a document that decided is missing, the chain is not one, or the pack would
            be larger than a reader accepts.
    """
    events = [read_event(leaf) for leaf in leaves]
    life = read_life(events, grant)
    head = parse_checkpoint(checkpoint)
    named = digests_named(events)
    kept = {name: data for name, data in sorted(documents.items()) if name in named}
    missing = [name for name in life.documents if name not in kept]
    if missing:
        raise EvidenceBroken("missing_document", "documents", f"`{missing[0]}`", "none")
    disclosed = {pair[1] for event in events for pair in commitments(event)}
    texts = {name: text for name, text in sorted(disclosures.items()) if name in disclosed}
    return write_pack(
        Pack(
            manifest=_manifest(life, events, head),
            leaves=tuple(leaves),
            proofs=tuple(proof.write() for proof in proofs),
            checkpoint=checkpoint,
            keys="".join(f"{_key_line(key)}\n" for key in keys),
            disclosures=texts,
            documents=kept,
            report=render_report(
                Told(life=life, events=events, head=head, texts=texts, documents=kept),
                REPORT_VERSION,
            ),
        )
    )


def verify_pack(data: bytes, keys: Keys) -> PackReport:
    """Check the pack `data` against `keys` that came another way. Never fails for bad evidence.

    Raises:
        AskedWrongly: no key was given. A pack brings its keys along, and that proves nothing.
    """
    require_keys(keys)
    try:
        pack = read_pack(data)
        _require_version(pack.manifest.report)
        keys = _followed(pack, keys)
        head = open_checkpoint(pack.checkpoint, keys)
    except EvidenceBroken as error:
        return PackReport(ok=False, findings=(finding_of(error, None),))
    findings: list[Finding] = []
    events = _check_chain(pack, head, findings)
    _check_keys(pack, keys, findings)
    erased = _check_texts(pack, events, findings)
    life = None
    if len(events) == len(pack.leaves):
        life = _check_life(pack, events, head, findings)
    return PackReport(
        ok=not findings,
        findings=in_order(findings),
        origin=head.origin,
        grant=pack.manifest.grant,
        request=pack.manifest.request,
        state=life.state if life else "",
        over=life.over if life else False,
        as_of=as_of(life, head.size) if life else "",
        proof=life.proof if life else "",
        events=len(events),
        size=head.size,
        erased=erased,
        cannot_exclude=_cannot_exclude(head),
    )


def _require_version(version: int) -> None:
    if not 1 <= version <= HIGHEST_REPORT_VERSION:
        raise EvidenceBroken(
            "bad_pack",
            "`report` of the manifest",
            f"a version from 1 to {HIGHEST_REPORT_VERSION}",
            str(version),
        )


def _check_chain(pack: Pack, head: Checkpoint, findings: list[Finding]) -> list[Event]:
    """Every event, its place in the chain and its place in the log. Gives the readable ones."""
    events: list[Event] = []
    link, last_idx, last_at = "", -1, ""
    if len(pack.proofs) != len(pack.leaves):
        findings.append(
            _finding(
                "bad_pack", None, "proofs in the pack", str(len(pack.leaves)), str(len(pack.proofs))
            )
        )
    for place, leaf in enumerate(pack.leaves):
        idx = None
        try:
            proof = parse_proof(pack.proofs[place]) if place < len(pack.proofs) else None
            idx = proof.index if proof else None
            event = read_event(leaf)
            idx = event.idx
            for what, expected, got in (
                ("chain the event belongs to", pack.manifest.request, event.subject),
                ("place in the chain", place, event.seq),
                ("hash of the event before it", link, event.prev),
            ):
                if expected != got:
                    raise EvidenceBroken("chain_broken", what, f"`{expected}`", f"`{got}`")
            if event.idx <= last_idx or event.at < last_at:
                raise EvidenceBroken(
                    "out_of_order", "place in the log", f"after event {last_idx}", f"{event.idx}"
                )
            if proof:
                _check_proof(proof, event, leaf, pack.checkpoint, head)
        except EvidenceBroken as error:
            findings.append(finding_of(error, idx))
            return events
        events.append(event)
        link, last_idx, last_at = leaf_hash(leaf).hex(), event.idx, event.at
    return events


def _check_proof(
    proof: Proof, event: Event, leaf: bytes, checkpoint: str, head: Checkpoint
) -> None:
    if proof.checkpoint != checkpoint:
        raise EvidenceBroken(
            "bad_proof", "checkpoint of the proof", "the pack's checkpoint", "another"
        )
    if proof.index != event.idx:
        raise EvidenceBroken("bad_proof", "index of the proof", str(event.idx), str(proof.index))
    verify_inclusion(leaf_hash(leaf), proof.index, head.size, proof.hashes, head.root)


def _key_line(key: VerifierKey | TrustedKey) -> str:
    return key.line() if isinstance(key, TrustedKey) else key.text()


def _followed(pack: Pack, keys: Keys) -> Keys:
    """`keys` with those the pack's own key file proves to follow them, signed by a trusted one."""
    try:
        return follow(keys, changes_in(parse_keys(pack.keys)))
    except AskedWrongly:
        return keys  # `_check_keys` tells what is wrong with the file


def _check_keys(pack: Pack, keys: Keys, findings: list[Finding]) -> None:
    """The pack's own keys must be ones the caller trusts: a reader may copy them from there."""
    trusted = {held.key for held in keys}
    try:
        strange = [held.key for held in parse_keys(pack.keys) if held.key not in trusted]
    except AskedWrongly as error:
        findings.append(_finding("bad_pack", None, "`keys.txt`", "verifier keys", error.message))
        return
    if strange:
        findings.append(
            _finding("other_key", None, "`keys.txt`", "only keys you trust", strange[0].text())
        )


def _check_texts(pack: Pack, events: Sequence[Event], findings: list[Finding]) -> tuple[str, ...]:
    """Each disclosed text against its commitment; names those that are erased."""
    erased: list[str] = []
    named: set[str] = set()
    for event in events:
        for field, commitment in commitments(event):
            named.add(commitment)
            text = pack.disclosures.get(commitment)
            if text is None:
                erased.append(f"`{field}` of event {event.idx}")
            elif text.commitment != commitment:
                what = f"disclosed text of `{field}`"
                findings.append(
                    _finding("wrong_text", event.idx, what, commitment, text.commitment)
                )
    whole = len(events) == len(pack.leaves)
    for commitment in sorted(pack.disclosures.keys() - named) if whole else ():
        findings.append(
            _finding("unnamed_text", None, "disclosed text", "one an event names", commitment[:80])
        )
    return tuple(erased)


def _check_life(
    pack: Pack, events: Sequence[Event], head: Checkpoint, findings: list[Finding]
) -> Life | None:
    """What the pack says of its grant: manifest, documents, report."""
    try:
        life = read_life(events, pack.manifest.grant)
    except EvidenceBroken as error:
        findings.append(finding_of(error, None))
        return None
    told, proven = pack.manifest.plain(), _manifest(life, events, head).plain()
    for key in told:
        if key != "report" and told[key] != proven[key]:
            what = f"`{key}` of the manifest"
            findings.append(_finding("bad_manifest", None, what, str(proven[key]), str(told[key])))
    _check_documents(pack, life, events, findings)
    told_of = Told(
        life=life, events=events, head=head, texts=pack.disclosures, documents=pack.documents
    )
    _check_report(pack, told_of, findings)
    return life


def _check_report(pack: Pack, told: Told, findings: list[Finding]) -> None:
    """The report is made again and compared. One that cannot be is a finding: it may be forged.

    One that can is not made from content in which something else was found: it could only differ.
    """
    version = pack.manifest.report
    if not can_render(version):
        known = ", ".join(map(str, versions()))
        got = (
            f"version {version}: the report of version {version} cannot be checked by this verifier"
            "; the events themselves were checked, use a verifier of that version"
        )
        expected = f"a version this verifier can check ({known})"
        findings.append(_finding("unknown_report", None, "`report.html`", expected, got))
    elif not findings and render_report(told, version) != pack.report:
        findings.append(
            _finding(
                "report_changed", None, "`report.html`", "the report of these events", "another"
            )
        )


def _check_documents(
    pack: Pack, life: Life, events: Sequence[Event], findings: list[Finding]
) -> None:
    for name in life.documents:
        if name not in pack.documents:
            findings.append(_finding("missing_document", None, "documents", name, "none"))
    named = digests_named(events)
    for name, document in sorted(pack.documents.items()):
        if digest_bytes(document) != name:
            got = digest_bytes(document)
            findings.append(_finding("wrong_document", None, "document that decided", name, got))
        elif name not in named:
            findings.append(
                _finding("unnamed_document", None, "document", "one an event names", name)
            )


def _manifest(life: Life, events: Sequence[Event], head: Checkpoint) -> Manifest:
    return Manifest(
        origin=head.origin,
        grant=life.grant,
        request=life.request,
        events=len(events),
        log_size=head.size,
        over=life.over,
        as_of=as_of(life, head.size),
        report=REPORT_VERSION,
    )


def _cannot_exclude(head: Checkpoint) -> tuple[str, ...]:
    return (
        "that the log holds further events of this request after the last one here: only a check of"
        " the whole log shows that",
        f"that checkpoint {head.size} was made for this pack alone: compare it with a remembered or"
        " witnessed one",
    )


def _finding(code: str, idx: int | None, what: str, expected: str, got: str) -> Finding:
    return Finding(code=code, idx=idx, what=what, expected=expected, got=got)
