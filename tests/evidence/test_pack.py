"""Packs: offline verification, every tampering, and archives made to hurt their reader."""

import io
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.evidence.made_log import (
    COMMENT,
    DOCUMENTS,
    GRANT,
    KEYS,
    OTHER,
    REASON,
    RULES_DIGEST,
    SIGNER,
    STRANGER,
    TEXTS,
    make_log,
    request_facts,
    story,
)
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.base.personal import Personal
from tidegate.evidence import pack as pack_file
from tidegate.evidence import report as report_file
from tidegate.evidence.archive import Pack, read_pack, write_pack
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.evidence.pack import PackReport, verify_pack

LOG = make_log()
DATA = LOG.pack()
PACK = read_pack(DATA)
CHAIN = [event.idx for event in LOG.sealed if event.subject == "rq_one"]


def check(**changes: Any) -> PackReport:
    """The report on the true pack with some of its content changed."""
    return verify_pack(write_pack(replace(PACK, **changes)), KEYS)


def manifest(**changes: Any) -> dict[str, Any]:
    """A changed manifest."""
    return {"manifest": replace(PACK.manifest, **changes)}


def put(place: int, leaf: bytes) -> dict[str, Any]:
    """The pack's leaves with one replaced."""
    return {"leaves": (*PACK.leaves[:place], leaf, *PACK.leaves[place + 1 :])}


def test_true_pack_verifies_offline_with_a_key_of_ones_own() -> None:
    """Everything holds, and the report says what the pack is about."""
    report = verify_pack(DATA, KEYS)
    assert (report.ok, report.findings, report.erased) == (True, (), ())
    assert (report.grant, report.state, report.proof) == (GRANT, "gone", "denied")
    assert (report.events, report.size, report.over, report.as_of) == (11, 25, True, "")
    assert orjson.loads(orjson.dumps(report.as_json()))["ok"] is True
    assert any("further events" in text for text in report.cannot_exclude)


def test_pack_is_the_same_bytes_every_time() -> None:
    """Equal content is an equal file, and reading gives back what was written."""
    assert LOG.pack() == DATA
    assert write_pack(PACK) == DATA


def test_pack_without_a_key_is_an_error() -> None:
    """The keys inside a pack are never trusted."""
    for data in (DATA, b"no pack at all"):
        with pytest.raises(AskedWrongly) as caught:
            verify_pack(data, ())
        assert caught.value.code == "no_key"
    report = verify_pack(DATA, [TrustedKey(key=STRANGER.verifier())])
    assert [f.code for f in report.findings] == ["unknown_signer"]


def test_grant_that_is_not_over_says_as_of_which_checkpoint() -> None:
    """A pack made in the middle of a grant's life promises nothing about its end."""
    report = verify_pack(make_log(story()[:-8]).pack(), KEYS)
    assert (report.ok, report.over, report.proof) == (True, False, "")
    assert report.as_of == "closing as of checkpoint 17"


SWAPPED = (PACK.leaves[0], PACK.leaves[2], PACK.leaves[1], *PACK.leaves[3:])
EDITED = PACK.leaves[3].replace(b"gr_one", b"gr_two")
TAMPERED: dict[str, tuple[Callable[[], dict[str, Any]], str, int | None]] = {
    "edited": (lambda: put(3, EDITED), "not_included", CHAIN[3]),
    "misspelt": (lambda: put(3, PACK.leaves[3] + b" "), "not_canonical", CHAIN[3]),
    "swapped": (lambda: {"leaves": SWAPPED}, "chain_broken", CHAIN[2]),
    "of another request": (lambda: put(3, LOG.leaves[3]), "chain_broken", 3),
    "dropped": (lambda: {"leaves": PACK.leaves[:3] + PACK.leaves[4:]}, "chain_broken", CHAIN[4]),
    "cut": (
        lambda: {"leaves": PACK.leaves[:-1], "proofs": PACK.proofs[:-1]}, "bad_manifest", None
    ),
    "without a proof": (lambda: {"proofs": PACK.proofs[:-1]}, "bad_pack", None),
    "with another's proof": (
        lambda: {"proofs": (PACK.proofs[1], *PACK.proofs[1:])}, "bad_proof", CHAIN[0]
    ),
    "with a proof to another checkpoint": (
        lambda: {"proofs": (make_log(story()[:-1]).proof(CHAIN[0]).write(), *PACK.proofs[1:])},
        "bad_proof", CHAIN[0],
    ),
    "text changed": (
        lambda: {"disclosures": {**TEXTS, REASON.commitment: Personal(REASON.salt, "other")}},
        "wrong_text", CHAIN[0],
    ),
    "text added": (
        lambda: {"disclosures": {**TEXTS, "sha256:x": REASON}}, "unnamed_text", None
    ),
    "rules changed": (
        lambda: {"documents": {**DOCUMENTS, RULES_DIGEST: b"{}"}}, "wrong_document", None
    ),
    "rules missing": (
        lambda: {"documents": {k: v for k, v in DOCUMENTS.items() if k != RULES_DIGEST}},
        "missing_document", None,
    ),
    "document added": (
        lambda: {"documents": {**DOCUMENTS, "sha256:" + "0" * 64: b"{}"}}, "wrong_document", None
    ),
    "said to be over": (lambda: manifest(over=False), "bad_manifest", None),
    "count changed": (lambda: manifest(events=10), "bad_manifest", None),
    "log size changed": (lambda: manifest(log_size=26), "bad_manifest", None),
    "as of changed": (lambda: manifest(as_of="open as of checkpoint 3"), "bad_manifest", None),
    "another grant": (lambda: manifest(grant="gr_two"), "unknown_grant", None),
    "another request": (lambda: manifest(request=OTHER), "chain_broken", CHAIN[0]),
    "report changed": (
        lambda: {"report": PACK.report.replace("Gone", "Open")}, "report_changed", None
    ),
    "key changed": (lambda: {"keys": STRANGER.verifier().text() + "\n"}, "other_key", None),
    "key garbage": (lambda: {"keys": "trust me"}, "bad_pack", None),
    "checkpoint of a stranger": (
        lambda: {"checkpoint": LOG.checkpoint(STRANGER)}, "unknown_signer", None
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_tampered_pack_names_what_is_wrong_first(how: str) -> None:
    """Each tampering is found, with the event of the chain where it shows."""
    change, code, idx = TAMPERED[how]
    report = check(**change())
    assert not report.ok
    first = report.findings[0]
    assert (first.code, first.idx) == (code, idx), report.findings


def test_erased_text_is_said_and_is_no_failure() -> None:
    """A text erased from the server leaves a pack that verifies and says so."""
    data = LOG.pack(disclosures={COMMENT.commitment: COMMENT})
    report = verify_pack(data, KEYS)
    assert report.ok and report.erased == (f"`reason` of event {CHAIN[0]}",)
    assert "erased (commitment sha256:" in read_pack(data).report


@pytest.mark.parametrize("page", [PACK.report, "<p>anything</p>"])
def test_report_of_a_version_that_cannot_be_checked_never_verifies(page: str) -> None:
    """A forger picks a version we cannot render: the pack fails, and says what was checked."""
    report = check(**manifest(report=99), report=page)
    assert not report.ok and [found.code for found in report.findings] == ["unknown_report"]
    said = report.findings[0].text()
    assert "the report of version 99 cannot be checked by this verifier" in said
    assert "the events themselves were checked, use a verifier of that version" in said
    assert report.events == len(PACK.leaves)


@pytest.mark.parametrize("version", [0, -1, -(2**53) + 1, 10_000, 2**53 - 1])
def test_report_number_that_is_no_version_is_a_bad_pack(version: int) -> None:
    """A number no version of ours can have ends the reading."""
    report = check(**manifest(report=version), report="<p>anything</p>")
    assert [found.code for found in report.findings] == ["bad_pack"]
    assert not report.ok and "`report` of the manifest" in report.findings[0].text()


def test_pack_of_an_earlier_report_version_is_still_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When new packs get a new page, an old pack verifies by its own, and a forged one does not."""
    pages = {**report_file._PAGES, 4: lambda told: f"<p>{told.life.grant}</p>"}
    monkeypatch.setattr(report_file, "_PAGES", pages)
    monkeypatch.setattr(pack_file, "REPORT_VERSION", 4)
    newer = read_pack(LOG.pack())
    assert (newer.manifest.report, newer.report) == (4, f"<p>{GRANT}</p>")
    assert verify_pack(LOG.pack(), KEYS).ok and verify_pack(DATA, KEYS).ok
    for changes in ({"report": newer.report}, manifest(report=4)):
        assert [found.code for found in check(**changes).findings] == ["report_changed"]


def test_pack_without_what_decided_is_not_built() -> None:
    """The text of the rules that decided is part of every pack."""
    with pytest.raises(EvidenceBroken, match="documents"):
        LOG.pack(documents={})
    with pytest.raises(EvidenceBroken) as caught:
        LOG.pack(grant="gr_none")
    assert caught.value.code == "unknown_grant"


def test_pack_discloses_no_text_its_events_do_not_name() -> None:
    """Texts handed in by mistake stay out."""
    stray = Personal(b"s" * 32, "somebody else's reason")
    data = LOG.pack(disclosures={**TEXTS, stray.commitment: stray})
    assert data == DATA


def test_request_without_grant_makes_no_pack() -> None:
    """A chain that holds no grant of that name is refused in words."""
    log = make_log(request_facts()[:2])
    with pytest.raises(EvidenceBroken, match="one that was made"):
        log.pack()


def zipped(members: list[tuple[str, bytes]], method: int = zipfile.ZIP_STORED) -> bytes:
    """A zip archive of these members, names repeated as given."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members:
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return out.getvalue()


def members() -> list[tuple[str, bytes]]:
    """The members of the true pack."""
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def test_pack_compressed_again_still_verifies() -> None:
    """Packing the same members another way changes nothing that counts."""
    assert verify_pack(zipped(members(), zipfile.ZIP_DEFLATED), KEYS).ok


@pytest.mark.parametrize(
    "name",
    ["../evil", "/etc/passwd", "events/../../x.json", "events/00000.json/", "C:\\x", "EVENTS/1"],
)
def test_member_outside_the_layout_is_refused(name: str) -> None:
    """Names that climb, or that the layout does not have, end the reading."""
    report = verify_pack(zipped([*members(), (name, b"x")]), KEYS)
    assert report.findings[0].code == "bad_pack"


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_member_named_twice_is_refused() -> None:
    """Two readers must not see two different members under one name."""
    report = verify_pack(zipped([*members(), ("manifest.json", b"{}")]), KEYS)
    assert "again" in report.findings[0].got


def test_decompression_bomb_is_refused() -> None:
    """Neither an honest nor a lying size lets a member grow beyond its bound."""
    bomb = zipped([("events/00000.json", b" " * 5_000_000)], zipfile.ZIP_DEFLATED)
    assert verify_pack(bomb, KEYS).findings[0].code == "bad_pack"
    lying = bomb.replace((5_000_000).to_bytes(4, "little"), (100).to_bytes(4, "little"))
    assert lying != bomb
    assert verify_pack(lying, KEYS).findings[0].code == "bad_pack"


@pytest.mark.parametrize(
    "name", ["manifest.json", "checkpoint", "keys.txt", "disclosures.json", "report.html"]
)
def test_missing_or_broken_member_is_named(name: str) -> None:
    """A pack without one of its parts, or with bytes that are no text there, is not read."""
    rest = [member for member in members() if member[0] != name]
    assert name in verify_pack(zipped(rest), KEYS).findings[0].expected
    for garbage in (b"\xff\xfe", b"[]", b""):
        assert not verify_pack(zipped([*rest, (name, garbage)]), KEYS).ok


def test_gap_in_the_events_is_refused() -> None:
    """Events are numbered without a gap."""
    rest = [member for member in members() if member[0] != "events/00003.json"]
    assert verify_pack(zipped(rest), KEYS).findings[0].got == "a gap"


@settings(max_examples=150)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_no_changed_byte_of_the_archive_raises_or_changes_the_verdict(at: int, flip: int) -> None:
    """A damaged file is refused in words, or is still the same evidence; it never crashes."""
    damaged = bytearray(DATA)
    damaged[at] ^= flip
    report = verify_pack(bytes(damaged), KEYS)
    if report.ok:
        assert report.grant == GRANT and report.events == len(PACK.leaves)


@given(st.binary(max_size=300))
def test_garbage_is_no_pack(data: bytes) -> None:
    """Any bytes give a report with a finding."""
    assert not verify_pack(data, KEYS).ok


def test_pack_read_back_is_the_pack_written() -> None:
    """Every part of a pack survives the archive."""
    assert isinstance(PACK, Pack)
    assert PACK.leaves == tuple(LOG.leaves[idx] for idx in CHAIN)
    assert PACK.documents == DOCUMENTS
    assert PACK.disclosures == TEXTS
    assert PACK.keys == SIGNER.verifier().text() + "\n"
