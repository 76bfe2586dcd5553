"""The tree against RFC 6962 written down naively, and against every false proof in reach."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.base.errors import EvidenceBroken
from tidegate.evidence.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_at,
    verify_consistency,
    verify_inclusion,
)
from tidegate.evidence.tiles import Tile, TileReader, Tree, grow

LEAVES = [leaf_hash(b"%d" % n) for n in range(300)]


def mth(leaves: Sequence[bytes]) -> bytes:
    """MTH as section 2.1 of RFC 6962 defines it."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(mth(leaves[:k]), mth(leaves[k:]))


ROOTS = [mth(LEAVES[:size]) for size in range(301)]


def read(height: int, index: int) -> bytes:
    """Any subtree of LEAVES, naively."""
    start = index << height
    assert start + (1 << height) <= len(LEAVES)
    return mth(LEAVES[start : start + (1 << height)])


def test_known_answers_of_the_rfc_test_tree() -> None:
    """The roots of the well-known eight-leaf tree of the RFC 6962 implementations."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    tree = Frontier().extend(leaf_hash(bytes.fromhex(text)) for text in inputs)
    assert (
        tree.append(leaf_hash(bytes.fromhex("606162636465666768696a6b6c6d6e6f"))).root().hex()
        == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    )
    assert tree.root().hex() == "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"


def test_frontier_equals_the_rfc_at_every_size() -> None:
    """Appending one by one gives the recursive definition's root for 0 to 300 leaves."""
    frontier = Frontier()
    for size, leaf in enumerate(LEAVES):
        assert frontier.root() == ROOTS[size]
        assert Frontier.from_bytes(size, frontier.to_bytes()) == frontier
        frontier = frontier.append(leaf)
    assert frontier == Frontier().extend(LEAVES)
    assert frontier.root() == ROOTS[300]


def test_frontier_of_another_size_is_refused() -> None:
    """Bytes that cannot belong to the size are told, not used."""
    with pytest.raises(EvidenceBroken, match="96 bytes"):
        Frontier.from_bytes(7, bytes(64))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 255, 256, 257, 300])
def test_every_leaf_is_proven_and_no_other_leaf_is(size: int) -> None:
    """A proof holds for its leaf and place, and for no other leaf, place or root."""
    for index in range(0, size, 1 if size < 20 else 13):
        proof = inclusion_proof(index, size, read)
        verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
        false = [
            (LEAVES[(index + 1) % 300], index, size, proof, ROOTS[size]),
            (LEAVES[index], index, size, proof, ROOTS[size - 1]),
            (LEAVES[index], index, size, (*proof, LEAVES[0]), ROOTS[size]),
            (LEAVES[index], size, size, proof, ROOTS[size]),
        ]
        if proof:
            false.append((LEAVES[index], index, size, proof[:-1], ROOTS[size]))
            false.append((LEAVES[index], index ^ 1, size, proof, ROOTS[size]))
        for case in false:
            with pytest.raises(EvidenceBroken):
                verify_inclusion(*case)


@given(st.integers(0, 300), st.integers(0, 300))
def test_consistency_of_any_two_sizes(one: int, two: int) -> None:
    """The proof between any two sizes holds, and fails for any other old or new root."""
    old, new = min(one, two), max(one, two)
    proof = consistency_proof(old, new, read)
    verify_consistency(old, ROOTS[old], new, ROOTS[new], proof)
    wrong = leaf_hash(b"wrong")
    with pytest.raises(EvidenceBroken):
        verify_consistency(old, wrong, new, ROOTS[new], proof)
    if 0 < old < new:
        with pytest.raises(EvidenceBroken):
            verify_consistency(old, ROOTS[old], new, wrong, proof)
        for broken in (proof[:-1], (*proof, wrong), (wrong, *proof[1:])):
            with pytest.raises(EvidenceBroken):
                verify_consistency(old, ROOTS[old], new, ROOTS[new], broken)


def test_shrunken_log_is_no_extension() -> None:
    """A smaller new size is a rollback, whatever the proof."""
    with pytest.raises(EvidenceBroken) as caught:
        verify_consistency(9, ROOTS[9], 8, ROOTS[8], ())
    assert caught.value.code == "rolled_back"


def test_unevenly_grown_tree_is_the_same_tree_and_fills_the_same_tiles() -> None:
    """Batch sizes leave no trace: tiles, edge and root depend on the leaves alone."""
    leaves = [leaf_hash(b"%d" % n) for n in range(70_000)]
    whole, whole_tiles = grow(Tree(), leaves)
    tree, tiles, first = Tree(), list[Tile](), 0
    for step in (1, 254, 1, 1, 255, 256, 257, 10_000, 55_000, 70_000):
        tree, full = grow(Tree.from_bytes(tree.size, tree.to_bytes()), leaves[first : first + step])
        tiles += full
        first += step
    assert (tree, tiles) == (whole, whole_tiles)
    assert (len(tiles), tiles[-1].level) == (274, 0)
    assert [len(level) // 32 for level in tree.edge] == [112, 17, 1]
    assert all(len(tile.hashes) == 8192 for tile in tiles)
    stored = {(tile.level, tile.index): tile.hashes for tile in tiles}
    assert b"".join(stored[0, n] for n in range(273)) == b"".join(leaves[: 273 * 256])
    reader = TileReader(tree, lambda level, index: stored[level, index])
    assert root_at(70_000, reader) == tree.root()
    for size in (1, 255, 256, 257, 65_535, 65_536, 65_537, 69_999):
        old = Frontier().extend(leaves[:size]).root()
        assert root_at(size, reader) == old
        proof = consistency_proof(size, 70_000, reader)
        verify_consistency(size, old, 70_000, tree.root(), proof)
        path = inclusion_proof(size, 70_000, reader)
        verify_inclusion(leaves[size], size, 70_000, path, tree.root())


def test_tile_reader_answers_every_subtree() -> None:
    """Complete tiles and the edge together give the same subtrees as the leaves themselves."""
    tree, tiles = grow(Tree(), LEAVES)
    stored = {(tile.level, tile.index): tile.hashes for tile in tiles}
    reader = TileReader(tree, lambda level, index: stored[level, index])
    for height in range(9):
        for index in range(300 >> height):
            assert reader(height, index) == read(height, index)
    with pytest.raises(RuntimeError):
        reader(1, 150)


def test_short_tile_is_told() -> None:
    """A tile that lost bytes is broken evidence, not a wrong hash."""
    tree, _ = grow(Tree(), LEAVES)
    with pytest.raises(EvidenceBroken, match="tile 0 of level 0"):
        TileReader(tree, lambda level, index: b"short")(0, 3)


def test_tree_head_of_another_size_is_refused() -> None:
    """A head row whose bytes cannot belong to its size stops the writer."""
    tree, _ = grow(Tree(), LEAVES)
    for size in (256, 301, -1):
        with pytest.raises(EvidenceBroken):
            Tree.from_bytes(size, tree.to_bytes())


def test_tile_paths_are_those_of_tlog_tiles() -> None:
    """The published name of tile 1234067 is split as the specification's example is."""
    assert Tile(level=0, index=1_234_067, hashes=b"").path == "tile/0/x001/x234/067"
    assert Tile(level=1, index=7, hashes=b"").path == "tile/1/007"
