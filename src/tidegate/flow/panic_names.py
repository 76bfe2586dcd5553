"""Which grants a panic has named, by its own chain of events."""

from collections.abc import Sequence

from tidegate.evidence.seal import read_event
from tidegate.flow.house import House
from tidegate.panic import MOST_LISTED, Panic, listed


def named_by(house: House, panic_id: str) -> list[str]:
    """The grants a panic has named, in order."""
    names: dict[str, None] = {}
    for _, leaf in house.store.events(panic_id):
        event = read_event(leaf)
        grants = event.data.get("grants")
        if event.name == "panic.listed" and isinstance(grants, list):
            names.update((str(name), None) for name in grants)
    return list(names)


def name_in(house: House, panic: Panic, grants: Sequence[str]) -> Panic:
    """Name these in it, before everything else that waits to be written.

    Raises:
        EvidenceClosed: it cannot be sealed. Stale: another process names some at this moment.
    """
    for start in range(0, len(grants), MOST_LISTED):
        step = listed(panic, tuple(grants[start : start + MOST_LISTED]), house.now())
        house.store.submit(step, urgent=True).result()
        panic = house.store.panic(panic.id)
    return panic
