"""Something a person is to be told, kept until somebody has told them: the outbox.

A notice is made in the same Step as the fact it tells of, so that none is lost and none is
invented. Who is told and of what is fixed here; how it reaches them is for whoever delivers it.
Never a secret in it, nor a text that somebody typed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.base.fact import Fact
from tidegate.base.when import Instant, parse_instant

ENDING = "grant.ending"  # an access of theirs ends soon
GONE_EARLY = "grant.gone_early"  # an access of theirs was taken away before its end

_TOLD: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "grant.warned": (ENDING, ("role", "window_ends_at", "ends_at")),
    "access.gone_early": (GONE_EARLY, ("role", "how", "ends_at")),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """One thing to tell: `subject` is what it is about, `audience` the principal it is for.

    `payload` maps plain names to plain texts. When it was delivered is the deliverer's to say, and
    no part of this.
    """

    id: str
    kind: str
    subject: str
    audience: str
    made_at: Instant
    payload: Mapping[str, str]
    version: int


def notice_of(fact: Fact) -> Notice:
    """The notice that `grant.warned` or `access.gone_early` makes."""
    data = fact.data
    kind, told = _TOLD[fact.name]
    return Notice(
        id=str(data["notice"]),
        kind=kind,
        subject=str(data["grant"]),
        audience=str(data["principal"]),
        made_at=parse_instant(str(data["at"])),
        payload={name: str(data[name]) for name in told},
        version=1,
    )
