"""A small log to tamper with: two requests and a principal, interleaved, signed by a test key."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate.base.canonical import canonical, digest
from tidegate.base.fact import Fact
from tidegate.base.personal import Personal
from tidegate.base.when import from_ms, wire
from tidegate.evidence.checkpoint import Checkpoint, TrustedKey, sign_checkpoint
from tidegate.evidence.events import EVENTS
from tidegate.evidence.merkle import inclusion_proof
from tidegate.evidence.note import FileSigner
from tidegate.evidence.pack import build_pack
from tidegate.evidence.proof import Proof
from tidegate.evidence.seal import Sealed, seal
from tidegate.evidence.tiles import Tile, TileReader, Tree, grow

ORIGIN = "tidegate.example/log"
SIGNER = FileSigner(ORIGIN, bytes(range(32)))
KEYS = (TrustedKey(key=SIGNER.verifier()),)
STRANGER = FileSigner(ORIGIN, bytes(32))

START = from_ms(1_795_000_000_000)
REQUEST, OTHER, ANA, BO = "rq_one", "rq_two", "pr_ana", "pr_bo"
GRANT = "gr_one"
REASON = Personal(b"r" * 32, 'INC-4711 roll back <script>alert(1)</script> "=1+1"')
COMMENT = Personal(b"c" * 32, '=HYPERLINK("http://x") go on')
RULES = {
    "files": [
        {"name": "prod.cedar", "text": '@id("prod-admin")\npermit (principal, action, resource);\n'}
    ]
}
ENTRY = {"role": "aws-prod/admin", "kind": "iam-role", "native": {"arn": "arn:aws:iam::1"}}
RULES_DIGEST, ROLE_DIGEST = digest(RULES), digest(ENTRY)
DOCUMENTS = {RULES_DIGEST: canonical(RULES), ROLE_DIGEST: canonical(ENTRY)}
TEXTS = {REASON.commitment: REASON, COMMENT.commitment: COMMENT}

_BY_KIND: Mapping[str, Any] = {
    "text": "x",
    "int": 900,
    "flag": False,
    "instant": wire(START),
    "digest": "sha256:" + "0" * 64,
    "personal": REASON.commitment,
    "list": [],
    "map": {"by": "x"},
}


def fact(name: str, subject: str = REQUEST, actor: str = "system", **given: Any) -> Fact:
    """A fact of `name` with a plain value in every field but those given."""
    fields = EVENTS[name]
    strange = given.keys() - fields.keys()
    assert not strange, strange
    data = {field: _BY_KIND[kind.removesuffix("?")] for field, kind in fields.items()}
    data |= {"request": subject} if "request" in fields else {}
    return Fact(name=name, subject=subject, actor=actor, data=data | given)


def at(minutes: float) -> str:
    """An instant of the story, on the wire."""
    return wire(START + timedelta(minutes=minutes))


def request_facts(request: str = REQUEST, grant: str = GRANT) -> list[Fact]:
    """One grant from filing to its end."""
    mine = {"grant": grant}
    terms = digest({"request": request})
    item = {
        "role": "aws-prod/admin",
        "role_digest": ROLE_DIGEST,
        "carrier": "prod-admin",
        "requirement": "1 of group:leads",
        "rules": ["prod-admin"],
    }
    filed = {
        "principal": ANA,
        "items": [item],
        "duration_seconds": 2700,
        "start": None,
        "ticket": "INC-4711",
        "reason": REASON.commitment,
        "rules_digest": RULES_DIGEST,
        "digest": terms,
    }
    vote = {"vote": "vt_1", "voter": BO, "choice": "approve", "digest": terms}
    readied = {
        "principal": ANA,
        "role": "aws-prod/admin",
        "role_digest": ROLE_DIGEST,
        "opens_at": at(1),
        "claim_by": at(31),
        "duration_seconds": 2700,
        "start": None,
    }
    intended = {
        "ends_at": at(46),
        "assignment": "as_1",
        "connector": "aws",
        "account": "111122223333",
        "native_role": "arn:aws:iam::111122223333:role/admin",
        "native_principal": grant,
        "rules_digest": RULES_DIGEST,
        "carrier": "prod-admin",
        "requirement": "1 of group:leads",
        "exposure_seconds": 0,
        "unattended_seconds": 0,
        "risk": 0,
    }
    session = {"session": "se_1", "key_id": "KEY1", "kind": "issued"}
    removed = {"residual_until": at(46), "still_held_by": "", "read_back": {"by": "clock"}}
    gone = {"proof": "denied", "how": {"call": "iam:ListUsers"}}
    told: list[tuple[str, str, float, dict[str, Any]]] = [
        ("request.filed", ANA, 0, filed),
        ("request.voted", BO, 1, {**vote, "groups": ["leads"], "comment": COMMENT.commitment}),
        ("request.approved", BO, 1, {"votes": ["vt_1"]}),
        ("grant.readied", "system", 1, {**mine, **readied}),
        ("grant.intended", "system", 1, {**mine, **intended}),
        ("grant.opened", "system", 1, {**mine, "cloud_at": at(1), "receipt": {"arn": "a"}}),
        ("session.issued", ANA, 2, {**mine, **session, "bound_until": at(46)}),
        ("grant.closing", "system", 46, {**mine, "reason": "expired", "comment": None}),
        ("grant.removed", "system", 46, {**mine, **removed, "cloud_at": at(46)}),
        ("grant.gone", "system", 46.5, {**mine, **gone, "acted_at": at(46.5)}),
        ("session.ended", "system", 46.5, {**mine, "session": "se_1", "why": "expired"}),
    ]
    return [fact(name, request, actor, at=at(minute), **data) for name, actor, minute, data in told]


def story() -> list[Fact]:
    """The facts of the whole log, chains interleaved."""
    one, two = request_facts(), request_facts(OTHER, "gr_two")
    mixed = [fact("log.started", "system", origin=ORIGIN), fact("principal.recorded", ANA)]
    for left, right in zip(one, two, strict=True):
        mixed += [left, right]
    return [*mixed, fact("membership.joined", ANA, group="sre")]


@dataclass(frozen=True, slots=True, kw_only=True)
class MadeLog:
    """A sealed log and everything a server would keep of it."""

    sealed: tuple[Sealed, ...]
    tree: Tree
    tiles: Mapping[tuple[int, int], Tile]

    @property
    def leaves(self) -> list[bytes]:
        """The exact bytes of every event."""
        return [event.data for event in self.sealed]

    @property
    def hashes(self) -> list[bytes]:
        """The stored leaf hashes."""
        return [event.hash for event in self.sealed]

    def checkpoint(self, signer: FileSigner = SIGNER) -> str:
        """The signed checkpoint of the whole log."""
        return sign_checkpoint(self.head(), signer)

    def head(self) -> Checkpoint:
        """The checkpoint of the whole log, as remembered."""
        return Checkpoint(origin=ORIGIN, size=self.tree.size, root=self.tree.root())

    def read(self) -> TileReader:
        """A reader of its tree."""
        return TileReader(self.tree, lambda level, index: self.tiles[level, index].hashes)

    def proof(self, idx: int) -> Proof:
        """The proof of one event."""
        path = inclusion_proof(idx, self.tree.size, self.read())
        return Proof(index=idx, hashes=path, checkpoint=self.checkpoint())

    def pack(self, grant: str = GRANT, request: str = REQUEST, **changed: Any) -> bytes:
        """The pack of one grant."""
        chain = [event for event in self.sealed if event.subject == request]
        given: dict[str, Any] = {
            "grant": grant,
            "leaves": [event.data for event in chain],
            "proofs": [self.proof(event.idx) for event in chain],
            "checkpoint": self.checkpoint(),
            "keys": [SIGNER.verifier()],
            "disclosures": TEXTS,
            "documents": DOCUMENTS,
        }
        return build_pack(**given | changed)


def make_log(facts: Sequence[Fact] | None = None) -> MadeLog:
    """Seal `facts` in batches of three, a minute apart, as the commit writer would."""
    heads: dict[str, tuple[int, str]] = {}
    sealed: list[Sealed] = []
    tree, tiles = Tree(), {}
    facts = story() if facts is None else facts
    for first in range(0, len(facts), 3):
        batch = seal(
            facts[first : first + 3],
            first_idx=first,
            at=START + timedelta(minutes=first),
            heads=heads,
        )
        heads |= {event.subject: event.head for event in batch}
        tree, full = grow(tree, [event.hash for event in batch])
        tiles |= {(tile.level, tile.index): tile for tile in full}
        sealed += batch
    return MadeLog(sealed=tuple(sealed), tree=tree, tiles=tiles)
