"""What a process started from a script learns from us: one small table of exit codes."""

from enum import IntEnum

from tidegate.base.errors import (
    AskedWrongly,
    EvidenceBroken,
    NotAllowed,
    TidegateError,
)


class Exit(IntEnum):
    """The exit codes. `exec` and `shell` give the code of the command they ran instead."""

    OK = 0
    WORLD_FAILED = 1  # something outside did not answer as it should; the same may work later
    ASKED_WRONGLY = 2  # the command or its input is at fault; also every usage error
    NOT_ALLOWED = 3  # understood and refused
    NOT_YET = 4  # not there yet: still pending, or not proven
    EVIDENCE_BROKEN = 5  # evidence does not hold: forged, damaged or rolled back
    BUG = 70  # our own mistake (EX_SOFTWARE of sysexits.h)
    INTERRUPTED = 130  # Ctrl-C, as shells count it: 128 + SIGINT
    PIPE_CLOSED = 141  # whoever read our output went away: 128 + SIGPIPE


def exit_of(fault: TidegateError) -> Exit:
    """The exit code of an error, by its family."""
    if isinstance(fault, EvidenceBroken):
        return Exit.EVIDENCE_BROKEN
    if isinstance(fault, AskedWrongly):
        return Exit.ASKED_WRONGLY
    if isinstance(fault, NotAllowed):
        return Exit.NOT_ALLOWED
    return Exit.WORLD_FAILED
