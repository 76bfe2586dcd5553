"""Writers of one document on two machines: one at a time, and an end waits a bounded time only."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tidegate.base.errors import Refused
from tidegate.connectors import one_writer
from tidegate.connectors.one_writer import OneWriter
from tidegate.store.database import KeysInHand


def test_two_machines_write_one_document_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who may wait is refused while another machine writes; an end goes on after a bounded time."""
    naps: list[float] = []
    monkeypatch.setattr(one_writer.time, "sleep", naps.append)
    keys = KeysInHand()  # the database's, as both see it
    one, two = (OneWriter(None, "no_lock", between=keys.only_one) for _ in range(2))
    with one.alone("role", "the role's denies", must=True):
        with pytest.raises(Refused) as busy, two.alone("role", "the denies", must=True):
            pytest.fail("both are writing")
        assert busy.value.code == "busy" and sum(naps) <= 2.5
        with two.alone("other", "another role's", must=True):
            pass
        with two.alone("role", "the denies", must=False):
            pass
    with two.alone("role", "the denies", must=True):
        pass


def test_key_is_kept_when_writing_fails() -> None:
    """The key is given back however the writing ends."""
    held: list[str] = []

    @contextmanager
    def between(key: str) -> Iterator[bool]:
        held.append(key)
        try:
            yield True
        finally:
            held.remove(key)

    writer = OneWriter(None, "no_lock", between=between)
    with pytest.raises(ValueError), writer.alone("role", "it", must=True):
        assert held == ["document|role"]
        raise ValueError
    assert held == []
