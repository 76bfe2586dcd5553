"""What may be sent: every field named and bounded. A field that is not here is refused."""

import json
from datetime import timedelta
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from tidegate.approve import Choice
from tidegate.base.errors import AskedWrongly
from tidegate.base.when import LONGEST_DURATION, parse_instant, whole_seconds
from tidegate.connectors.port import Answer
from tidegate.finding import LONGEST_ACCEPTED
from tidegate.flow.asking import Asked
from tidegate.flow.trying import Trial
from tidegate.panic import LONGEST_FREEZE

# Bounds of the wire, a little above those of the house: the house's own refusals say more.
LONGEST_TEXT = 8_000
LONGEST_ID = 200
MOST_ROLES = 100
HIGHEST_EXIT = 2**32 - 1  # Windows has exit codes of 32 bits
LONGEST_WHY = 400  # characters: the words may repeat a name that was sent
NUL = "\0"  # in no text of PostgreSQL; asked for one, it would call the database unreadable

Text = Annotated[str, Meta(max_length=LONGEST_TEXT)]
Id = Annotated[str, Meta(max_length=LONGEST_ID)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    pass


class SignIn(_Strict, frozen=True):
    """A password for a token. `label` names the token in lists, for example the machine's name."""

    login: Id
    password: Annotated[str, Meta(max_length=1_000)]
    label: Id = ""


class Ask(_Strict, frozen=True):
    """What is asked for: 1 to 20 roles, for how long, why.

    `start` is an instant in UTC (`2026-11-22T07:03:36Z`); without it, access begins on approval.
    `extends` names an open grant of one's own instead of roles: its window gets `duration_seconds`
    longer. `again`: on purpose, though one of the roles is held already.
    """

    duration_seconds: Annotated[int, Meta(ge=1, le=whole_seconds(LONGEST_DURATION))]
    reason: Text
    roles: Annotated[list[Id], Meta(max_length=MOST_ROLES)] = msgspec.field(default_factory=list)
    ticket: Text | None = None
    start: Id | None = None
    emergency: bool = False
    extends: Id = ""
    again: bool = False

    def asked(self) -> Asked:
        """For the house. Raises AskedWrongly for a start that is no instant."""
        return Asked(
            roles=tuple(self.roles),
            duration=timedelta(seconds=self.duration_seconds),
            reason=self.reason,
            ticket=self.ticket,
            start=parse_instant(self.start) if self.start is not None else None,
            emergency=self.emergency,
            extends=self.extends,
            again=self.again,
        )


class Ballot(_Strict, frozen=True):
    """A vote on exactly the `digest` that was shown."""

    choice: Literal["approve", "deny"]
    digest: Id
    comment: Text = ""

    @property
    def chosen(self) -> Choice:
        """The choice as the house knows it."""
        return Choice(self.choice)


class End(_Strict, frozen=True):
    """Why a grant ends early, for the evidence."""

    comment: Text = ""


class Assign(_Strict, frozen=True):
    """Who works on a finding from now on: a login, a principal id or `group:NAME`."""

    to: Id


class SignOff(_Strict, frozen=True):
    """Why a finding is closed. With `accept_seconds` it stays closed that long though it stands."""

    reason: Text
    accept_seconds: Annotated[int, Meta(ge=1, le=whole_seconds(LONGEST_ACCEPTED))] | None = None


class Why(_Strict, frozen=True):
    """Why, for the evidence."""

    reason: Text


class CallPanic(_Strict, frozen=True):
    """What ends all at once: everything of a principal, target or role, or everything there is.

    `name` is a principal's login, mail address or id, or a target's or role's id; empty for `all`.
    """

    scope: Literal["principal", "target", "role", "all"]
    name: Id = ""
    reason: Text = ""
    freeze_seconds: Annotated[int, Meta(ge=1, le=whole_seconds(LONGEST_FREEZE))] | None = None

    @property
    def freeze(self) -> timedelta | None:
        """For how long nothing opens there, if anything was said."""
        return None if self.freeze_seconds is None else timedelta(seconds=self.freeze_seconds)


class Tell(_Strict, frozen=True):
    """What somebody saw, trying an access with keys of their own.

    `exit_code` is null when the command did not end; `call` is the command, empty when it is kept
    back; `tried_at` is by their own clock.
    """

    outcome: Literal["allowed", "denied", "untold"]
    tried_at: Id
    exit_code: Annotated[int, Meta(ge=0, le=HIGHEST_EXIT)] | None = None
    call: Text = ""

    def trial(self) -> Trial:
        """For the house. Raises AskedWrongly for a `tried_at` that is no instant."""
        return Trial(
            outcome=Answer(self.outcome),
            exit_code=self.exit_code,
            call=self.call,
            tried_at=parse_instant(self.tried_at),
        )


def parse_json(body: bytes, kind: Any = Any) -> Any:
    """The one reading of `body` as a `kind`: no text is taken for a number, no 1 for true.

    Raises:
        AskedWrongly: not JSON in UTF-8, not a `kind`, a name twice in one object (RFC 8259,
            section 4, leaves its meaning open), a lone surrogate, U+0000 in a text (PostgreSQL
            keeps none), or nested too deep.
    """
    try:
        value = msgspec.json.decode(body, type=kind)
        json.loads(body, object_pairs_hook=_check_object)  # msgspec keeps the last of two
    except RecursionError:
        raise _unreadable("expected a body of few levels, got one nested too deep") from None
    except msgspec.ValidationError as fault:
        raise _unreadable(_misfit(str(fault))) from None
    except (msgspec.DecodeError, ValueError) as fault:
        raise _unreadable(f"expected JSON, got: {fault}") from None
    return value


def _misfit(fault: str) -> str:
    """msgspec's `Expected `int`, got `str` - at `$.duration_seconds`` in our form."""
    what, _, where = fault.partition(" - at `$")
    name = where.rstrip("`").lstrip(".") or "body"
    return f"{name}: {what[:1].lower()}{what[1:]}"


def _check_object(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise _unreadable("expected each name once in an object, got one twice")
    for name, value in pairs:
        texts = value if isinstance(value, list) else [name, value]
        if any(isinstance(one, str) and NUL in one for one in texts):
            shown = name.replace(NUL, "")
            raise _unreadable(f"{shown}: expected text, got a NUL character (U+0000) in it")


def _unreadable(why: str) -> AskedWrongly:
    return AskedWrongly(
        "bad_input", why[:LONGEST_WHY], "see /api/openapi.json for what is expected"
    )
