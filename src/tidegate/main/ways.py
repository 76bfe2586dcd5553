"""The ways to the clouds of a command that ends access without a server: with the keys that are
here, and past a target whose keys are not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.base.duty import ALL, Duty
from tidegate.connectors.port import Connector
from tidegate.main.clouds import Clouds
from tidegate.main.config import Config
from tidegate.main.left import readable, with_left

CLOSES = frozenset({Duty.CLOSE})


@dataclass(frozen=True, slots=True, kw_only=True)
class Ways:
    """A way to every target whose keys can be read, and why not to each of the others (`shut`).

    `duties` are those it has keys for.
    """

    connectors: Mapping[str, Connector]
    shut: Mapping[str, str]
    duties: frozenset[Duty]


def ways_of(found: Config, *, keeps: bool = True) -> Ways:
    """With the keys of both duties, as a server has them; where an opener's are missing, with a
    closer's alone, which is all that ending takes. Without `keeps` nothing is written.
    """
    whole, closing = (readable(with_left(found, some), some) for some in (ALL, CLOSES))
    duties = ALL if whole == closing else CLOSES
    kept, shut = readable(found, duties)
    return Ways(connectors=Clouds(duties, keeps=keeps).connect(kept), shut=shut, duties=duties)
