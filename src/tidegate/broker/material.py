"""The keys of one session, read from the API's answer, and the instants that bound them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from tidegate.base.errors import NotAllowed, Unknown
from tidegate.base.when import Instant, parse_instant, wire

OVER_STATES = frozenset({"closing", "removed", "gone", "failed", "signed_off"})
AWS = "aws"  # the kind of credentials used here, and the connector whose roles give them
WARN_BEFORE = timedelta(minutes=10)  # as a server warns, unless its settings say otherwise
LONGEST_FIELD = 8_192  # characters: STS promises no maximum, seen are under 2,000


class AccessEnded(NotAllowed):
    """The grant is over: no keys are given and those given before are refused by the cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """The secret keys of one AWS session. Kept in memory only; its repr shows none of them.

    Attributes:
        ends_at: the grant's end as it was when these were minted.
        grace: how much of the time before it is left for running work: nothing is minted in it.
        expires_at: the cloud's own expiry of the keys; may lie before or after `ends_at`.
        bound_until: when the cloud begins to refuse them, however far `ends_at` moves later.
    """

    grant: str
    access_key_id: str
    secret_access_key: str
    session_token: str
    ends_at: Instant
    expires_at: Instant
    bound_until: Instant
    grace: timedelta = timedelta(0)

    @property
    def usable_until(self) -> Instant:
        """The first of the three instants after which a call signed with these fails."""
        return min(self.ends_at, self.expires_at, self.bound_until)

    def __repr__(self) -> str:
        """Without the keys: a repr ends in logs and tracebacks."""
        return f"Material({self.grant}, usable_until={wire(self.usable_until)})"


def read_material(answer: Mapping[str, object]) -> Material:
    """The material in the answer to `POST /api/grants/{grant}/credentials`.

    Raises:
        Unknown: a session may have been minted, but the answer cannot be used. No value is shown.
        AskedWrongly: an instant is not RFC 3339 in UTC.
    """
    if answer.get("kind") != AWS:
        raise Unknown(
            "unusable_credentials",
            f"expected credentials of kind `{AWS}`, got `{str(answer.get('kind'))[:20]}`",
            "this role gives no AWS keys; see what it gives with `tidegate targets`",
        )
    return Material(
        grant=_text(answer, "grant"),
        access_key_id=_text(answer, "access_key_id"),
        secret_access_key=_text(answer, "secret_access_key"),
        session_token=_text(answer, "session_token"),
        ends_at=parse_instant(_text(answer, "ends_at")),
        grace=_grace(answer),
        expires_at=parse_instant(_text(answer, "expires_at")),
        bound_until=parse_instant(_text(answer, "bound_until")),
    )


def _grace(answer: Mapping[str, object]) -> timedelta:
    """From the end of the window to the end; none where a server does not say."""
    if "window_ends_at" not in answer:
        return timedelta(0)
    ends_at = parse_instant(_text(answer, "ends_at"))
    return max(timedelta(0), ends_at - parse_instant(_text(answer, "window_ends_at")))


def check_connector(grant: str, role: str, connector: str) -> None:
    """Refuse a grant whose role gives no AWS keys, while nothing is minted.

    `connector` is that of the role as the server names it. Empty (a server that does not say)
    passes: `read_material` still refuses what comes.

    Raises:
        NotAllowed: another connector.
    """
    if connector not in ("", AWS):
        raise NotAllowed(
            "no_aws_keys",
            f"expected a role that gives AWS keys, got `{role}` of connector `{connector[:40]}`",
            f"nothing was issued; what `{grant}` is good for: `tidegate grants {grant}`",
        )


def read_end(grant: str, view: Mapping[str, object]) -> Instant:
    """The end in the answer to `GET /api/grants/{grant}`.

    Raises:
        AccessEnded: the grant is closing, closed or failed.
        Unknown: the answer has no end.
    """
    ends_at = parse_instant(_text(view, "ends_at"))
    if view.get("state") in OVER_STATES:
        raise ended(grant, ends_at, str(view.get("role") or ""))
    return ends_at


def read_warning(view: Mapping[str, object]) -> timedelta:
    """How long before the window's end its holder is to be warned, as the server of `view` says.

    Where it does not say, as servers do by default: never more than half of the window.
    """
    window, at = view.get("window_ends_at"), view.get("warn_at")
    if isinstance(window, str) and isinstance(at, str):
        return max(timedelta(0), parse_instant(window) - parse_instant(at))
    lengths = [view.get(name) for name in ("duration_seconds", "extended_seconds")]
    length = timedelta(seconds=sum(one for one in lengths if isinstance(one, int)))
    return min(WARN_BEFORE, length / 2) if length else WARN_BEFORE


def ended(grant: str, at: Instant, role: str = "") -> AccessEnded:
    """The one answer to everybody who comes after the end."""
    again = f"tidegate request {role} --for 1h --reason '…'" if role else "tidegate request …"
    return AccessEnded(
        "access_ended", f"access under {grant} ended at {wire(at)}", f"ask again: {again}"
    )


def _text(answer: Mapping[str, object], name: str) -> str:
    value = answer.get(name)
    if isinstance(value, str) and 0 < len(value) <= LONGEST_FIELD and value.isprintable():
        return value
    raise Unknown(
        "unusable_answer",
        f"expected a text in `{name}` of the server's answer, got {type(value).__name__}",
        "check that client and server have the same version: tidegate doctor",
    )
