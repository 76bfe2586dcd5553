"""Evidence packs: everything about one grant in one file, to be checked by whoever trusts nobody.

A pack is a zip archive of plain members, byte for byte the same for the same content. `write_pack`
writes one, `read_pack` takes one apart and refuses whatever is not of this layout; what the content
is worth is decided in `pack.py`.
"""

import io
import re
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from tidegate.base.canonical import Json, canonical
from tidegate.base.errors import EvidenceBroken
from tidegate.base.personal import SALT_BYTES, Personal
from tidegate.evidence.events import LONGEST_LEAF
from tidegate.evidence.note import decode
from tidegate.evidence.proof import LONGEST_PROOF

FORMAT = "tidegate.pack.v1"
LARGEST_PACK = 64 * 1024 * 1024  # bytes: ten thousand events with their proofs stay below it
MOST_EVENTS = 10_000  # of one request: twenty grants with their sessions and notes stay below it
MOST_DOCUMENTS = 200  # rule sets and catalogue entries one request can name
LARGEST_DOCUMENT = 4 * 1024 * 1024  # bytes: a rule set of an organisation
LARGEST_REPORT = 16 * 1024 * 1024
LARGEST_DISCLOSURES = 16 * 1024 * 1024

MANIFEST, CHECKPOINT, KEYS = "manifest.json", "checkpoint", "keys.txt"
DISCLOSURES, REPORT = "disclosures.json", "report.html"
_FIXED = {
    MANIFEST: 65_536,
    CHECKPOINT: 65_536,
    KEYS: 65_536,
    DISCLOSURES: LARGEST_DISCLOSURES,
    REPORT: LARGEST_REPORT,
}
_EVENT = re.compile(r"events/(\d{5})\.json", re.ASCII)
_PROOF = re.compile(r"proofs/(\d{5})\.tlog-proof", re.ASCII)
_DOCUMENT = re.compile(r"documents/sha256-([0-9a-f]{64})\.json", re.ASCII)
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest instant a zip archive can name
_MANIFEST_KEYS = frozenset(
    {"format", "origin", "grant", "request", "events", "log_size", "over", "as_of", "report"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What a pack says of itself. The verifier recomputes every line of it.

    `events` is the number of events of `request`, `log_size` the size of the whole log at the
    checkpoint; `as_of` is empty when the grant is over, else says as of which checkpoint all of
    this is told. `report` is the version of the template behind `report.html`.
    """

    origin: str
    grant: str
    request: str
    events: int
    log_size: int
    over: bool
    as_of: str
    report: int

    def plain(self) -> dict[str, Json]:
        """As written to `manifest.json`."""
        return {
            "format": FORMAT,
            "origin": self.origin,
            "grant": self.grant,
            "request": self.request,
            "events": self.events,
            "log_size": self.log_size,
            "over": self.over,
            "as_of": self.as_of,
            "report": self.report,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Pack:
    """A pack taken apart. Nothing in it is trusted yet, its own keys least of all.

    `leaves` and `proofs` are in the order of the request's chain; `disclosures` by commitment;
    `documents` (rule sets, catalogue entries) by the digest their member name claims.
    """

    manifest: Manifest
    leaves: tuple[bytes, ...]
    proofs: tuple[str, ...]
    checkpoint: str
    keys: str
    disclosures: Mapping[str, Personal] = field(repr=False)
    documents: Mapping[str, bytes]
    report: str


def write_pack(pack: Pack) -> bytes:
    """The archive of `pack`: sorted names, fixed times, nothing compressed, so that equal content
    is equal bytes on every machine."""
    members: dict[str, bytes] = {
        MANIFEST: canonical(pack.manifest.plain()),
        CHECKPOINT: pack.checkpoint.encode(),
        KEYS: pack.keys.encode(),
        DISCLOSURES: canonical(_plain_disclosures(pack.disclosures)),
        REPORT: pack.report.encode(),
    }
    for seq, leaf in enumerate(pack.leaves):
        members[f"events/{seq:05d}.json"] = leaf
    for seq, proof in enumerate(pack.proofs):
        members[f"proofs/{seq:05d}.tlog-proof"] = proof.encode()
    for digest, document in pack.documents.items():
        members[f"documents/{digest.replace(':', '-')}.json"] = document
    _check_bounds(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(members):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.create_system = 3  # Unix, on every platform
            info.external_attr = 0o100644 << 16
            archive.writestr(info, members[name])
    return out.getvalue()


def read_pack(data: bytes) -> Pack:
    """Take the archive `data` apart. Raises EvidenceBroken for anything outside the layout.

    Members may be compressed (people pack things again), but are never read beyond their bound.
    Names are matched against the layout and never used as paths.
    """
    members = _read_members(data)
    missing = sorted(_FIXED.keys() - members.keys())
    if missing:
        raise _bad("pack", f"a member `{missing[0]}`", "none")
    return Pack(
        manifest=_parse_manifest(members[MANIFEST]),
        leaves=_numbered(members, _EVENT),
        proofs=tuple(_text("proof", proof) for proof in _numbered(members, _PROOF)),
        checkpoint=_text(CHECKPOINT, members[CHECKPOINT]),
        keys=_text(KEYS, members[KEYS]),
        disclosures=_parse_disclosures(members[DISCLOSURES]),
        documents={
            f"sha256:{match[1]}": data
            for name, data in members.items()
            if (match := _DOCUMENT.fullmatch(name))
        },
        report=_text(REPORT, members[REPORT]),
    )


def _bound_of(name: str) -> int | None:
    """How large a member of this name may be; None when the layout has none."""
    if name in _FIXED:
        return _FIXED[name]
    if _EVENT.fullmatch(name):
        return LONGEST_LEAF
    if _PROOF.fullmatch(name):
        return LONGEST_PROOF
    return LARGEST_DOCUMENT if _DOCUMENT.fullmatch(name) else None


def _check_bounds(members: Mapping[str, bytes]) -> None:
    """Refuse to write what `read_pack` would refuse to read."""
    for name, data in members.items():
        bound = _bound_of(name)
        if bound is None or len(data) > bound:
            raise EvidenceBroken(
                "pack_too_large", f"member `{name}`", f"at most {bound} bytes", f"{len(data)} bytes"
            )
    _check_count(members)
    if sum(map(len, members.values())) > LARGEST_PACK:
        raise EvidenceBroken("pack_too_large", "pack", f"at most {LARGEST_PACK} bytes", "more")


def _check_count(names: Sequence[str] | Mapping[str, bytes]) -> None:
    for what, pattern, most in (
        ("events", _EVENT, MOST_EVENTS),
        ("proofs", _PROOF, MOST_EVENTS),
        ("documents", _DOCUMENT, MOST_DOCUMENTS),
    ):
        count = sum(1 for name in names if pattern.fullmatch(name))
        if count > most:
            raise EvidenceBroken(
                "pack_too_large", f"{what} of a pack", f"at most {most}", f"{count}"
            )


def _read_members(data: bytes) -> dict[str, bytes]:
    if len(data) > LARGEST_PACK:
        raise _bad("pack", f"at most {LARGEST_PACK} bytes", f"{len(data)} bytes")
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            infos = archive.infolist()
            _check_names(infos)
            return {info.filename: _read_member(archive, info) for info in infos}
    except (
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        OSError,
        ValueError,
        NotImplementedError,  # a compression method or version the library does not know
        RuntimeError,  # how zipfile refuses an encrypted member
    ) as error:
        raise _bad("pack", "a zip archive", f"{type(error).__name__}: {error}") from error


def _check_names(infos: Sequence[zipfile.ZipInfo]) -> None:
    names = [info.filename for info in infos]
    _check_count(names)
    seen: set[str] = set()
    total = 0
    for info in infos:
        bound = _bound_of(info.filename)
        if bound is None:
            raise _bad("member of the pack", "a name of the layout", f"`{info.filename[:80]}`")
        if info.filename in seen:
            raise _bad("member of the pack", "each name once", f"`{info.filename}` again")
        if info.file_size > bound:
            raise _bad(f"`{info.filename}`", f"at most {bound} bytes", f"{info.file_size} bytes")
        seen.add(info.filename)
        total += info.file_size
    if total > LARGEST_PACK:
        raise _bad("pack", f"at most {LARGEST_PACK} bytes unpacked", f"{total} bytes")


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """At most what the archive's own directory declares: what comes beyond is a bomb."""
    with archive.open(info) as member:
        data = member.read(info.file_size + 1)
    if len(data) != info.file_size:
        raise _bad(f"`{info.filename}`", f"the declared {info.file_size} bytes", "another length")
    return data


def _numbered(members: Mapping[str, bytes], pattern: re.Pattern[str]) -> tuple[bytes, ...]:
    """The members `pattern` numbers, from 0 up without a gap."""
    found = {
        int(match[1]): data for name, data in members.items() if (match := pattern.fullmatch(name))
    }
    for number in range(len(found)):
        if number not in found:
            raise _bad("members of the pack", f"`{pattern.pattern[:6]}/{number:05d}…`", "a gap")
    return tuple(found[number] for number in range(len(found)))


def _parse_manifest(data: bytes) -> Manifest:
    value = _json(MANIFEST, data)
    if value.keys() != _MANIFEST_KEYS or value["format"] != FORMAT:
        raise _bad("manifest", f"the keys of `{FORMAT}`", f"`{str(value.get('format'))[:40]}`")
    value.pop("format")
    kinds = {"events": int, "log_size": int, "report": int, "over": bool}
    for key, part in value.items():
        if type(part) is not kinds.get(key, str):
            raise _bad(
                f"`{key}` of the manifest", kinds.get(key, str).__name__, type(part).__name__
            )
    return Manifest(**value)


def _plain_disclosures(disclosures: Mapping[str, Personal]) -> dict[str, Json]:
    return {
        "texts": [
            {
                "commitment": commitment,
                "salt": b64encode(personal.salt).decode(),
                "text": personal.text,
            }
            for commitment, personal in sorted(disclosures.items())
        ]
    }


def _parse_disclosures(data: bytes) -> dict[str, Personal]:
    value = _json(DISCLOSURES, data)
    texts = value.get("texts") if value.keys() == {"texts"} else None
    if not isinstance(texts, list):
        raise _bad("disclosures", "a list `texts`", "something else")
    found: dict[str, Personal] = {}
    for entry in texts:
        if not isinstance(entry, dict) or entry.keys() != {"commitment", "salt", "text"}:
            raise _bad("disclosure", "commitment, salt and text", "something else")
        commitment, salt, text = entry["commitment"], entry["salt"], entry["text"]
        raw = decode(salt) if isinstance(salt, str) else None
        if raw is None or len(raw) != SALT_BYTES or not isinstance(text, str):
            raise _bad("disclosure", f"a salt of {SALT_BYTES} bytes and a text", "something else")
        if not isinstance(commitment, str) or commitment in found:
            raise _bad("disclosure", "each commitment once", f"`{str(commitment)[:80]}`")
        found[commitment] = Personal(raw, text)
    return found


def _json(name: str, data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise _bad(f"`{name}`", "JSON", str(error)) from error
    if not isinstance(value, dict):
        raise _bad(f"`{name}`", "a map", type(value).__name__)
    return value


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _bad(f"`{name}`", "UTF-8", str(error)) from error


def _bad(what: str, expected: str, got: str) -> EvidenceBroken:
    return EvidenceBroken("bad_pack", what, expected, got)
