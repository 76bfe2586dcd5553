"""The sealed log: events, the Merkle tree, checkpoints, proofs, packs, the offline verifier."""
