"""A short form of `make chaos`: the real server killed at points that matter most, real clouds."""

from pathlib import Path

import pytest
from chaos.run import Batch, Case

CASES = {
    "iam-role": [
        Case("iam-role", "sql.store.after", 3),
        Case("iam-role", "cloud.revoke.after", 1),
        Case("iam-role", "net.lose_reply"),
    ],
    "permission-set": [Case("permission-set", "cloud.grant.after", 1)],
}


def test_crashed_database_keeps_access(tmp_path: Path) -> None:
    """PostgreSQL is killed while both are held and comes back: what fell due meanwhile is over."""
    batch = Batch("iam-role", tmp_path / "pg", lambda _: None, "postgresql")
    batch.run(cases=[Case("iam-role", "db.crash")])
    assert [one for one in batch.verdicts if not one.ok] == []


@pytest.mark.parametrize("kind", CASES)
def test_killed_process_keeps_access(kind: str, tmp_path: Path) -> None:
    """Nothing is lost, doubled, orphaned or late, and the evidence is whole."""
    batch = Batch(kind, tmp_path / kind, lambda _: None)
    batch.run(cases=CASES[kind])
    assert [one for one in batch.verdicts if not one.ok] == []
    assert sum(one.killed for one in batch.verdicts) >= 1
