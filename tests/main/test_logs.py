"""Logs of a process: nothing that is said may stop who says it."""

import sys
from collections.abc import Iterator

import pytest
import structlog

from tidegate.main.logs import log_plainly, log_quietly


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Logging of the other tests stays theirs."""
    before = structlog.get_config()
    yield
    structlog.configure(**before)


@pytest.mark.parametrize("log", [log_plainly, log_quietly])
def test_full_disk_under_the_log_stops_a_worker(log, monkeypatch, capsys):
    """A line that cannot be written is lost, and whoever wanted to say it goes on."""
    full = open("/dev/full", "w")  # noqa: SIM115 - closing it must fail, and nothing before
    with monkeypatch.context() as full_disk:
        full_disk.setattr(sys, "stderr", full)
        log()
        structlog.get_logger("tidegate.worker").error("tick failed", code="x")
    with pytest.raises(OSError, match="No space"):
        full.close()
    log()
    structlog.get_logger("tidegate.worker").error("tick failed again", code="x")
    assert "tick failed again" in capsys.readouterr().err


def test_logger_of_a_server_hears_nothing_of_a_later_set_up(capsys):
    """What was logged once is said as whoever set up the log last wants it."""
    log = structlog.get_logger("tidegate.worker")
    log_plainly()
    log.info("server ready")
    log_quietly()
    log.info("tick")
    assert "server ready" in (said := capsys.readouterr().err) and "tick" not in said
