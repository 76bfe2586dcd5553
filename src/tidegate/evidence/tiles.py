"""Hash tiles of C2SP tlog-tiles, height 8: how the tree is stored, and how it is read back.

A tile of level L holds 256 hashes; each is the root of 256**L leaves. Only complete tiles are
stored: they never change. What is not yet a complete tile is the *edge*, kept beside the frontier
in `Tree`. The commit writer calls `grow` once a batch; proofs come from a `TileReader`.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.merkle import HASH_BYTES, LARGEST_TREE, Frontier, node_hash, split

HEIGHT = 8
WIDTH = 1 << HEIGHT
TILE_BYTES = WIDTH * HASH_BYTES

# (level, index) -> the TILE_BYTES of a complete tile. Raises EvidenceBroken or NotFound without it.
TileSource = Callable[[int, int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """A complete tile. `hashes` is exactly TILE_BYTES; (`level`, `index`) is its primary key."""

    level: int
    index: int
    hashes: bytes

    @property
    def path(self) -> str:
        """Where tlog-tiles publishes it: `tile/0/x001/234`."""
        parts = [f"{self.index % 1000:03d}"]
        rest = self.index // 1000
        while rest:
            parts.append(f"x{rest % 1000:03d}")
            rest //= 1000
        return f"tile/{self.level}/" + "/".join(reversed(parts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """A growing tree between two batches: everything `grow` needs, and nothing that grows with it.

    `edge[L]` is the hashes of level L that do not fill a tile yet, end to end: `size // 256**L`
    modulo 256 of them. At 100 million leaves that is at most 32 KB, on average half of it.
    """

    frontier: Frontier = field(default_factory=Frontier)
    edge: tuple[bytes, ...] = ()

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return self.frontier.size

    def root(self) -> bytes:
        """MTH of all its leaves."""
        return self.frontier.root()

    def to_bytes(self) -> bytes:
        """Frontier, then the edge from level 0 upwards: one column of the log-head row.

        `size` must be kept beside it: all lengths follow from it.
        """
        return self.frontier.to_bytes() + b"".join(self.edge)

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> "Tree":
        """Read `to_bytes` back. Raises EvidenceBroken when `data` cannot belong to `size`."""
        if not 0 <= size <= LARGEST_TREE:
            raise EvidenceBroken("bad_tree", "tree head", "a size of the log", str(size))
        at = size.bit_count() * HASH_BYTES
        frontier = Frontier.from_bytes(size, data[:at])
        edge = []
        for level in range(_levels(size)):
            width = edge_width(size, level) * HASH_BYTES
            edge.append(data[at : at + width])
            at += width
        if len(data) != at:
            raise EvidenceBroken(
                "bad_tree", f"tree head of {size} leaves", f"{at} bytes", f"{len(data)} bytes"
            )
        return cls(frontier=frontier, edge=tuple(edge))


def grow(tree: Tree, leaves: Iterable[bytes]) -> tuple[Tree, list[Tile]]:
    """`tree` after `leaves` (leaf hashes, in order), and the tiles this completed, lowest first.

    The caller stores the tiles and the new tree in the same transaction as the events. Costs one
    hash a leaf and nothing that depends on how large the tree is already.
    """
    hashes = list(tree.frontier.hashes)
    edge = [bytearray(level) for level in tree.edge]
    size = tree.size
    tiles: list[Tile] = []
    for leaf in leaves:
        hashes.append(leaf)
        _put(edge, 0, leaf)
        bits, height = size, 0
        while bits & 1:
            right = hashes.pop()
            hashes[-1] = node_hash(hashes[-1], right)
            bits >>= 1
            height += 1
            if height % HEIGHT == 0:
                level = height // HEIGHT
                full = bytes(edge[level - 1])
                tiles.append(Tile(level=level - 1, index=size >> height, hashes=full))
                edge[level - 1].clear()
                _put(edge, level, hashes[-1])
        size += 1
    grown = Frontier(size=size, hashes=tuple(hashes))
    return Tree(frontier=grown, edge=tuple(bytes(level) for level in edge)), tiles


@dataclass(frozen=True, slots=True)
class TileReader:
    """Answers any complete subtree of `tree`; hand it to `merkle` as its `Subtrees`.

    `tile` is asked only for complete tiles. A reader of an older size works too: complete subtrees
    never change.
    """

    tree: Tree
    tile: TileSource

    def __call__(self, height: int, index: int) -> bytes:
        """MTH of the 2**height leaves from leaf `index << height` on.

        Raises:
            EvidenceBroken: a tile of another length than TILE_BYTES came back.
        """
        if (index + 1) << height > self.tree.size:
            raise RuntimeError(f"subtree {index} of height {height} in {self.tree.size} leaves")
        level, inner = divmod(height, HEIGHT)
        first = index << inner
        hashes = self._hashes(level, first // WIDTH)
        at = first % WIDTH * HASH_BYTES
        row = split(hashes[at : at + (HASH_BYTES << inner)])
        while len(row) > 1:
            row = tuple(node_hash(row[i], row[i + 1]) for i in range(0, len(row), 2))
        return row[0]

    def _hashes(self, level: int, tile: int) -> bytes:
        if tile == self.tree.size >> HEIGHT * (level + 1):
            return self.tree.edge[level]
        data = self.tile(level, tile)
        if len(data) != TILE_BYTES:
            raise EvidenceBroken(
                "bad_tile",
                f"tile {tile} of level {level}",
                f"{TILE_BYTES} bytes",
                f"{len(data)} bytes",
            )
        return data


def edge_width(size: int, level: int) -> int:
    """How many hashes of `level` do not fill a tile yet in a tree of `size` leaves."""
    return (size >> HEIGHT * level) % WIDTH


def _levels(size: int) -> int:
    """How many levels a tree of `size` leaves has: one more for each power of 256."""
    return -(-size.bit_length() // HEIGHT)


def _put(edge: list[bytearray], level: int, value: bytes) -> None:
    if level == len(edge):
        edge.append(bytearray())
    edge[level] += value
