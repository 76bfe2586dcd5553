"""The bomb goes off where it was told to, once: else a case kills nobody, or the wrong one."""

import os
from pathlib import Path

import pytest
from chaos.launch import Bomb


def test_two_processes_count_apart_or_both_die(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two processes with one file of hits, the one that passes the point as the n-th dies."""
    died: list[str] = []
    monkeypatch.setattr(os, "kill", lambda *_: died.append("killed"))
    armed = tmp_path / "armed"
    told = {
        "TIDEGATE_CHAOS_POINT": "cloud.revoke.before",
        "TIDEGATE_CHAOS_NTH": "2",
        "TIDEGATE_CHAOS_ARMED": str(armed),
        "TIDEGATE_CHAOS_HITS": str(tmp_path / "hits"),
    }
    one, two = Bomb(told), Bomb(told)
    one.at("cloud.revoke.before")  # not armed: it does not count
    armed.touch()
    one.at("cloud.revoke.before")
    two.at("cloud.revoke.after")
    assert died == []
    two.at("cloud.revoke.before")
    assert died == ["killed"]
    one.at("cloud.revoke.before")
    assert died == ["killed"]
