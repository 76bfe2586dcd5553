"""The Merkle tree of RFC 6962 (section 2.1) and RFC 9162 (section 2.1): pure functions over hashes.

Knows nothing of events, tiles or storage. `MTH` below is the RFC's Merkle Tree Hash. Hashes are
32-byte SHA-256 digests. Whoever asks for a proof hands in a `Subtrees`: a function that answers the
hash of any complete subtree.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tidegate.base.errors import EvidenceBroken

HASH_BYTES = 32
LARGEST_TREE = 2**53 - 1  # leaves: sizes travel in JSON, where a larger number has two readings
MOST_PROOF_HASHES = 64  # no tree of LARGEST_TREE leaves needs more in one proof
EMPTY_ROOT = hashlib.sha256(b"").digest()  # MTH of no leaves

# (height, index) -> MTH of the 2**height leaves from leaf index * 2**height on.
Subtrees = Callable[[int, int], bytes]


def leaf_hash(data: bytes) -> bytes:
    """The hash of a leaf: SHA-256(0x00 ‖ data)."""
    return hashlib.sha256(b"\x00" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node: SHA-256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """All a growing tree must remember: the roots of its complete subtrees, largest first.

    There is one for every 1 bit of `size`, so it stays below two kilobytes for ever.
    """

    size: int = 0
    hashes: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> "Frontier":
        """The frontier after one more leaf hash."""
        return self.extend((leaf,))

    def extend(self, leaves: Iterable[bytes]) -> "Frontier":
        """The frontier after all of `leaves` (leaf hashes, in order)."""
        hashes, size = list(self.hashes), self.size
        sha256 = hashlib.sha256
        for leaf in leaves:
            hashes.append(leaf)
            bits = size
            while bits & 1:
                right = hashes.pop()
                hashes[-1] = sha256(b"\x01" + hashes[-1] + right).digest()
                bits >>= 1
            size += 1
        return Frontier(size=size, hashes=tuple(hashes))

    def root(self) -> bytes:
        """MTH of all leaves so far."""
        if not self.hashes:
            return EMPTY_ROOT
        root = self.hashes[-1]
        for left in reversed(self.hashes[:-1]):
            root = node_hash(left, root)
        return root

    def to_bytes(self) -> bytes:
        """The hashes end to end. `size` must be kept beside it."""
        return b"".join(self.hashes)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Frontier":
        """Read `to_bytes` back. Raises EvidenceBroken when `data` cannot belong to `size`."""
        expected = size.bit_count() * HASH_BYTES if 0 <= size <= LARGEST_TREE else -1
        if len(data) != expected:
            raise EvidenceBroken(
                "bad_frontier",
                f"frontier of a tree of {size} leaves",
                f"{expected} bytes",
                f"{len(data)} bytes",
            )
        return cls(size=size, hashes=split(data))


def split(data: bytes) -> tuple[bytes, ...]:
    """Hashes laid end to end, one by one."""
    return tuple(data[at : at + HASH_BYTES] for at in range(0, len(data), HASH_BYTES))


def range_root(start: int, end: int, read: Subtrees) -> bytes:
    """MTH(D[start:end]), where `start` is a multiple of a power of two at least `end - start`.

    These are the only ranges the RFC's proofs name.
    """
    frontier: list[bytes] = []
    at = start
    for height in reversed(range((end - start).bit_length())):
        if (end - start) >> height & 1:
            frontier.append(read(height, at >> height))
            at += 1 << height
    return Frontier(size=end - start, hashes=tuple(frontier)).root()


def root_at(size: int, read: Subtrees) -> bytes:
    """The root the tree had when it held `size` leaves."""
    return range_root(0, size, read)


def inclusion_proof(index: int, size: int, read: Subtrees) -> tuple[bytes, ...]:
    """PATH(index, D[size]) of RFC 6962 section 2.1.1, from the leaf's sibling upwards."""
    if not 0 <= index < size:
        raise RuntimeError(f"inclusion proof of leaf {index} in a tree of {size}")
    start, end = 0, size
    path: list[bytes] = []
    while end - start > 1:
        middle = start + _largest_power_below(end - start)
        if index < middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start = middle
    return tuple(reversed(path))


def consistency_proof(old: int, new: int, read: Subtrees) -> tuple[bytes, ...]:
    """PROOF(old, D[new]) of RFC 6962 section 2.1.2; empty when `old` is 0 or `new`."""
    if not 0 <= old <= new:
        raise RuntimeError(f"consistency proof from size {old} to {new}")
    if old in (0, new):
        return ()
    start, end = 0, new
    path: list[bytes] = []
    while old != end:
        middle = start + _largest_power_below(end - start)
        if old <= middle:
            path.append(range_root(middle, end, read))
            end = middle
        else:
            path.append(range_root(start, middle, read))
            start = middle
    if start:
        # NB. when the old tree is itself a complete subtree from leaf 0 on, the verifier has its
        # root already, and the RFC leaves it out (SUBPROOF with b = true).
        path.append(range_root(start, end, read))
    return tuple(reversed(path))


def root_from_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes:
    """The root that `proof` leads to from the leaf hash `leaf` (RFC 9162 section 2.1.3.2).

    Raises:
        EvidenceBroken: the index is outside the tree, or the proof has another length than the
            one path of that leaf.
    """
    if not 0 <= index < size <= LARGEST_TREE:
        raise EvidenceBroken(
            "bad_proof", "inclusion proof", f"an index below the tree size {size}", str(index)
        )
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border or any(len(part) != HASH_BYTES for part in proof):
        raise EvidenceBroken(
            "bad_proof",
            f"inclusion proof of leaf {index} in a tree of {size}",
            f"{inner + border} hashes",
            f"{len(proof)} hashes",
        )
    root = leaf
    for height, sibling in enumerate(proof):
        right_child = height >= inner or index >> height & 1
        root = node_hash(sibling, root) if right_child else node_hash(root, sibling)
    return root


def verify_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """Raise EvidenceBroken unless `proof` shows the leaf hash `leaf` at `index` under `root`."""
    got = root_from_inclusion(leaf, index, size, proof)
    if got != root:
        raise EvidenceBroken(
            "not_included",
            f"inclusion proof of leaf {index} in a tree of {size}",
            f"root {root.hex()}",
            f"root {got.hex()}",
        )


def verify_consistency(
    old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Raise EvidenceBroken unless `proof` shows the new tree to extend the old (RFC 9162 2.1.4.2).

    NB. nothing links an empty tree to what follows it; only its root is checked.
    """
    if not 0 <= old <= new <= LARGEST_TREE:
        raise EvidenceBroken(
            "rolled_back", "size of the log", f"at least {old}", f"{new}: it became shorter"
        )
    if old in (0, new):
        _same("old root", old_root, EMPTY_ROOT if old == 0 else new_root)
        if proof:
            raise EvidenceBroken(
                "bad_proof", f"consistency proof from {old} to {new}", "no hashes", str(len(proof))
            )
        return
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    first, last = old - 1, new - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    if not path or any(len(part) != HASH_BYTES for part in path):
        raise _wrong_length(old, new, proof)
    old_got = new_got = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _wrong_length(old, new, proof)
        if first & 1 or first == last:
            old_got, new_got = node_hash(sibling, old_got), node_hash(sibling, new_got)
            while first and not first & 1:
                first, last = first >> 1, last >> 1
        else:
            new_got = node_hash(new_got, sibling)
        first, last = first >> 1, last >> 1
    if last:
        raise _wrong_length(old, new, proof)
    _same(f"root at size {old}", old_root, old_got)
    _same(f"root at size {new}", new_root, new_got)


def _largest_power_below(count: int) -> int:
    """The largest power of two smaller than `count` (the RFC's k); `count` is at least 2."""
    return 1 << ((count - 1).bit_length() - 1)


def _same(what: str, expected: bytes, got: bytes) -> None:
    if expected != got:
        raise EvidenceBroken("not_consistent", what, expected.hex(), got.hex())


def _wrong_length(old: int, new: int, proof: Sequence[bytes]) -> EvidenceBroken:
    return EvidenceBroken(
        "bad_proof",
        f"consistency proof from {old} to {new}",
        "the one path between these sizes",
        f"{len(proof)} hashes",
    )
