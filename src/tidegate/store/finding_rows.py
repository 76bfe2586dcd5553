"""Findings and baselines to rows and back; part of `rows.py`, which says how."""

from typing import Any

from tidegate.base.when import Instant, from_ms, to_ms
from tidegate.catalogue import Baseline
from tidegate.finding import Finding, FindingKind, FindingState, Severity


def from_finding(finding: Finding) -> dict[str, bool | int | str | None]:
    """Every column of a finding but the worker's."""
    return {
        "id": finding.id,
        "kind": finding.kind.value,
        "target": finding.target,
        "what": finding.what,
        "sort": finding.sort,
        "says": finding.says,
        "remedy": finding.remedy,
        "owner": finding.owner,
        "role": finding.role,
        "principal": finding.principal,
        "grant_id": finding.grant,
        "made_by": finding.by,
        "severity": finding.severity.value,
        "state": finding.state.value,
        "assigned_to": finding.assigned_to,
        "times": finding.times,
        "first_seen_ms": to_ms(finding.first_seen_at),
        "closed_at_ms": _ms(finding.closed_at),
        "closed_how": finding.closed_how,
        "closed_by": finding.closed_by,
        "reason": finding.reason,
        "accepted_until_ms": _ms(finding.accepted_until),
        "version": finding.version,
    }


def to_finding(row: Any) -> Finding:
    """The finding of a row."""
    return Finding(
        id=row["id"],
        kind=FindingKind(row["kind"]),
        target=row["target"],
        what=row["what"],
        sort=row["sort"],
        says=row["says"],
        remedy=row["remedy"],
        owner=row["owner"],
        role=row["role"],
        principal=row["principal"],
        grant=row["grant_id"],
        by=row["made_by"],
        severity=Severity(row["severity"]),
        state=FindingState(row["state"]),
        assigned_to=row["assigned_to"],
        times=row["times"],
        first_seen_at=from_ms(row["first_seen_ms"]),
        last_seen_at=from_ms(row["last_seen_ms"]),
        closed_at=_at(row["closed_at_ms"]),
        closed_how=row["closed_how"],
        closed_by=row["closed_by"],
        reason=row["reason"],
        accepted_until=_at(row["accepted_until_ms"]),
        version=row["version"],
    )


def from_baseline(baseline: Baseline) -> dict[str, bool | int | str | None]:
    """Every column of a baseline."""
    return {
        "id": baseline.id,
        "target": baseline.target,
        "role": baseline.role,
        "native_role": baseline.native_role,
        "document": baseline.document,
        "count": baseline.count,
        "taken_at_ms": to_ms(baseline.taken_at),
        "version": baseline.version,
    }


def to_baseline(row: Any) -> Baseline:
    """The baseline of a row."""
    return Baseline(
        id=row["id"],
        target=row["target"],
        role=row["role"],
        native_role=row["native_role"],
        document=row["document"],
        count=row["count"],
        taken_at=from_ms(row["taken_at_ms"]),
        version=row["version"],
    )


def _ms(at: Instant | None) -> int | None:
    return None if at is None else to_ms(at)


def _at(ms: int | None) -> Instant | None:
    return None if ms is None else from_ms(ms)
