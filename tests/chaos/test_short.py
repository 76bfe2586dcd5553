"""A short form of `make chaos`: the real server killed at points that matter most, real clouds."""

from pathlib import Path

import pytest
from chaos.run import Batch, Case

CASES = {
    "iam-role": [
        Case("iam-role", "sql.store.after", 3),
        Case("iam-role", "cloud.revoke.after", 1),
        Case("iam-role", "mass.write_log.before", 1),
        Case("iam-role", "store.urgent.after", 3),
    ],
    "permission-set": [
        Case("permission-set", "cloud.grant.after", 1),
        Case("permission-set", "writer.end.after", 1),
        Case("permission-set", "settings.target_left"),
    ],
}
ON_POSTGRES = [
    Case("permission-set", "disk.full"),
    Case("permission-set", "mass.write_log.after", 1),
]


def test_database_that_is_gone_keeps_access(tmp_path: Path) -> None:
    """While both are held the disk of PostgreSQL is full, it dies of that and comes back: what
    falls due meanwhile is over, which this cloud does not do by itself, and nothing is lost. Then
    the server is killed when ends are sealed together, written and not committed.
    """
    batch = Batch("permission-set", tmp_path / "pg", lambda _: None, "postgresql", brief=True)
    batch.run(cases=ON_POSTGRES)
    assert [one for one in batch.verdicts if not one.ok] == []


@pytest.mark.parametrize("kind", CASES)
def test_killed_process_keeps_access(kind: str, tmp_path: Path) -> None:
    """Nothing is lost, doubled, orphaned or late, and the evidence is whole."""
    batch = Batch(kind, tmp_path / kind, lambda _: None)
    batch.run(cases=CASES[kind])
    assert [one for one in batch.verdicts if not one.ok] == []
    points = [one.point for one in CASES[kind]]
    kills = sum(one.endswith((".before", ".torn", ".after")) for one in points)
    assert sum(one.killed for one in batch.verdicts) >= kills
