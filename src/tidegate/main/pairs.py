"""Which pairs of cloud keys a process reads: those of what it does, and no others."""

from collections.abc import Iterator, Mapping

from tidegate.base.duty import Duty

Pairs = Mapping[str, tuple[str, str]]  # references to both keys of each, by their prefix


def read_for(duties: frozenset[Duty], keys: Pairs) -> frozenset[str]:
    """Which pairs of keys a process with `duties` reads, by their prefix.

    A duty without keys of its own is done with the plain ones, read only then. A process with one
    duty signs everything with the one pair it has.
    """
    own = {Duty.OPEN: "opener_", Duty.CLOSE: "closer_"}
    return frozenset(own[duty] if all(keys[own[duty]]) else "" for duty in duties)


def references(duties: frozenset[Duty], keys: Pairs) -> Iterator[str]:
    """Where the keys of those pairs are read from; none for a pair that is not named."""
    wanted = read_for(duties, keys)
    for prefix, pair in keys.items():
        if prefix in wanted:
            yield from (one for one in pair if one)
