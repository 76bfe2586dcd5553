"""Operational logs: one line of JSON an event, on standard error. Not evidence.

Never local variables: a traceback with locals would print secrets. And never an error of its own: a
full disk or a reader that went away must not stop what only wanted to say something.
"""

import logging
import sys
from contextlib import suppress
from typing import Any

import structlog


class Line(structlog.PrintLogger):
    """Prints; a line that cannot be printed is lost."""

    def msg(self, message: str) -> None:
        """Print `message` if that is possible."""
        with suppress(OSError, ValueError):  # ValueError: the stream is closed
            super().msg(message)

    log = debug = info = warn = warning = msg
    fatal = failure = err = error = critical = exception = msg


def _lines(*_: Any) -> Line:
    return Line(sys.stderr)


def log_plainly() -> None:
    """Set up logging for a server process.

    No logger is cached: one that was would keep this set-up for good, and what listens to the log
    later in the same process, a test or a simulated world, would hear nothing of it.
    """
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=_lines,
    )


def log_quietly() -> None:
    """Set up logging for a command: only what is wrong, in one short line."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR),
        logger_factory=_lines,
    )
