"""What only `main` can wire: explaining, verifying and proving, as plain functions.

Each that takes an id may rely on the actor being allowed to see it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from tidegate.flow.house import Actor

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Insight:
    """The callables behind the evidence and health routes.

    Attributes:
        trace: the five stages of a request or grant, and where its evidence stops.
        verify: whether the evidence of a request or grant holds.
        paths: every way a person (as named) has to a target; it decides who may ask.
        doctor: the health of the installation; the actor is an operator or auditor.
        pack: the evidence pack of a grant: (file name, archive).
        checkpoint: the newest signed checkpoint, as a note.
        keys: the log's public keys, one verifier key a line.
        lateness: how late ends were: since how long, by what, of which target (empty: of all).
        consistency: the proof that the log now extends the log of the given size.
    """

    trace: Callable[[Actor, str], Json]
    verify: Callable[[Actor, str], Json]
    paths: Callable[[Actor, str, str], Json]
    doctor: Callable[[Actor], Json]
    pack: Callable[[Actor, str], tuple[str, bytes]]
    checkpoint: Callable[[], str]
    keys: Callable[[], str]
    consistency: Callable[[int], Json]
    lateness: Callable[[Actor, timedelta, str, str], Json]
