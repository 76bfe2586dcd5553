"""Every event there is. A closed set: what is not here cannot be sealed.

An event's *leaf* is the canonical bytes of

    {"v", "idx", "at", "name", "subject", "seq", "prev", "actor", "data"}

`idx` is its place in the log, `seq` its place in its subject's chain, `prev` the leaf hash (hex) of
the event before it in that chain ("" for the first). `data` holds exactly the fields listed here,
each of the kind listed: an allow-list, so that a secret has no field to hide in. A new field or a
changed meaning is a new `v` of that name; old versions stay readable for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from tidegate.base.canonical import Json
from tidegate.base.fact import Fact

VERSION = 1  # of every name that LATEST does not list
LONGEST_FACT_TEXT = 4_000  # characters: room for a cloud's error message, not for a document
LONGEST_LEAF = 65_535  # bytes: C2SP tlog-tiles entry bundles carry lengths in 16 bits
DEEPEST = 8  # lists and maps inside each other: more is an attack on whoever walks them

# Kinds of field (`fields.py` checks them): `text`, `int` (from 0 up), `flag`, `instant` (RFC 3339,
# ms, Z), `digest` (sha256:…), `personal` (a commitment), `list`, `map`; a final `?` allows null.
_TERMS_1 = {
    "request": "text",
    "principal": "text",
    "items": "list",
    "duration_seconds": "int",
    "start": "instant?",
    "reason": "personal",
    "ticket": "text?",
    "emergency": "flag",
    "rules_digest": "digest",
    "digest": "digest",
    "decide_by": "instant",
    "at": "instant",
}
REQUEST_TERMS = {
    **_TERMS_1,
    "extends": "text?",  # the grant whose end it would move, from its sealed end to the new one
    "extends_from": "instant?",
    "extends_until": "instant?",
}
GRANT_AT = {"grant": "text", "request": "text", "at": "instant"}
FINDING_AT = {"finding": "text", "target": "text", "at": "instant"}
FINDING_SAYS = {"says": "text", "remedy": "text", "by": "text", "grant": "text"}

EVENTS: Mapping[str, Mapping[str, str]] = {
    # Request → Approve. The chain is the request's.
    "request.filed": REQUEST_TERMS,
    "request.edited": REQUEST_TERMS,
    "request.voted": {
        "request": "text",
        "vote": "text",
        "voter": "text",
        "choice": "text",
        "digest": "digest",
        "groups": "list",
        "comment": "personal?",
        "at": "instant",
    },
    "request.approved": {"request": "text", "votes": "list", "at": "instant"},
    "request.denied": {"request": "text", "vote": "text", "at": "instant"},
    "request.refused": {"request": "text", "code": "text", "why": "text", "at": "instant"},
    "request.withdrawn": {"request": "text", "at": "instant"},
    "request.lapsed": {"request": "text", "at": "instant"},
    # Grant → Run → Expire. Also the request's chain.
    "grant.readied": {
        **GRANT_AT,
        "principal": "text",
        "role": "text",
        "role_digest": "digest",
        "opens_at": "instant",
        "claim_by": "instant",
        "duration_seconds": "int",
        "start": "instant?",
    },
    "grant.intended": {
        **GRANT_AT,
        "ends_at": "instant",
        "assignment": "text",
        "connector": "text",
        "account": "text",
        "native_role": "text",
        "native_principal": "text",
        "stood_before": "flag",
        "exposure_seconds": "int",
        "unattended_seconds": "int?",
        "rules_digest": "digest",
        "carrier": "text",
        "requirement": "text",
        "risk": "int",
        "grace_seconds": "int",  # of it at the end of `ends_at`: no session is issued in it
        "held_since": "instant",
    },
    "grant.opened": {**GRANT_AT, "cloud_at": "instant", "receipt": "map"},
    "grant.failed": {**GRANT_AT, "cause": "text", "why": "text"},
    "grant.noted": {
        **GRANT_AT,
        "step": "text",
        "outcome": "text",
        "code": "text",
        "tries": "int",
    },
    "grant.closing": {**GRANT_AT, "reason": "text", "ends_at": "instant", "comment": "personal?"},
    "grant.removed": {
        **GRANT_AT,
        "cloud_at": "instant",
        "residual_until": "instant",
        "read_back": "map",
        "acted_at": "instant",
        "still_held_by": "text",
        "cut": "flag",
        "cut_before": "instant?",
    },
    "grant.contradicted": {**GRANT_AT, "why": "text", "how": "map"},
    "grant.gone": {**GRANT_AT, "proof": "text", "how": "map", "acted_at": "instant"},
    "session.issued": {
        **GRANT_AT,
        "session": "text",
        "kind": "text",
        "key_id": "text",
        "expires_at": "instant",
        "bound_until": "instant",
    },
    "session.ended": {**GRANT_AT, "session": "text", "why": "text"},
    # Principals: the chain is the principal's.
    "principal.recorded": {
        "principal": "text",
        "issuer": "text",
        "subject": "text",
        "kind": "text",
        "name": "personal?",
        "mail": "personal?",
        "enabled": "flag",
        "at": "instant",
    },
    "membership.joined": {"principal": "text", "group": "text", "source": "text", "at": "instant"},
    "membership.left": {"principal": "text", "group": "text", "source": "text", "at": "instant"},
    "token.made": {"principal": "text", "token": "text", "until": "instant", "at": "instant"},
    "token.ended": {"principal": "text", "token": "text", "at": "instant"},
    "command.refused": {
        "principal": "text",
        "command": "text",
        "about": "text",
        "code": "text",
        "at": "instant",
    },
    "command.refused_many": {"principal": "text", "count": "int", "minute": "instant"},
    # The house itself: chains `rules`, `catalogue`, `system`.
    "rules.activated": {"digest": "digest", "before": "digest?", "at": "instant"},
    "catalogue.activated": {"digest": "digest", "before": "digest?", "at": "instant"},
    "log.started": {"origin": "text", "key": "text", "at": "instant"},
    "log.key_changed": {
        "before": "text",
        "after": "text",
        "before_signature": "text",
        "after_signature": "text",
        "at": "instant",
    },
    "signin.failed_many": {"source": "personal", "count": "int", "minute": "instant"},
    "cut.restored": {"target": "text", "role": "text", "grants": "list", "at": "instant"},
    "journal.sealed": {
        "grant": "text",
        "request": "text",
        "step": "text",
        "acted_at": "instant",
        "at": "instant",
    },
    # The principal's chain, too. Names are added at the end: the golden events stay as they are.
    "account.password_set": {"principal": "text", "by": "text", "at": "instant"},
    # A grant's again. `grant.cut`: live sessions were cut after removal, and seen cut.
    "grant.cut": {
        **GRANT_AT,
        "cloud_at": "instant",
        "residual_until": "instant",
        "cut_before": "instant?",
        "read_back": "map",
        "acted_at": "instant",
    },
    # An emergency opened though checks of the health gate were shut.
    "gate.passed": {
        **GRANT_AT,
        "checks": "list",
        "exposure_seconds": "int",
        "unattended_seconds": "int?",
    },
    # What its holder saw, trying it on a machine and with keys of their own: a statement.
    "access.tried": {
        **GRANT_AT,
        "by": "text",
        "phase": "text",
        "outcome": "text",
        "exit_code": "int?",
        "call": "personal",
        "tried_at": "instant",
    },
    # Findings: the chain is the target's.
    "finding.opened": {
        **FINDING_AT,
        "kind": "text",
        "what": "text",
        "sort": "text",
        "says": "text",
        "remedy": "text",
        "owner": "text",
        "role": "text",
        "principal": "text",
        "grant": "text",
        "by": "text",
        "severity": "text",
    },
    "finding.seen": {**FINDING_AT, **FINDING_SAYS},
    "finding.assigned": {**FINDING_AT, "to": "text"},
    "finding.closed": {**FINDING_AT, "how": "text", "reason": "personal?", "until": "instant?"},
    "finding.reopened": {**FINDING_AT, **FINDING_SAYS, "why": "text"},
    # What stood on a role when it was first looked at, or when an operator said so again.
    "baseline.taken": {
        "target": "text",
        "role": "text",
        "native_role": "text",
        "count": "int",
        "document": "digest",
        "before": "digest?",
        "reason": "personal?",
        "at": "instant",
    },
    # A grant's: access that came back after its end, closed again; the search for side doors.
    "leftover.closed": {
        **GRANT_AT,
        "finding": "text",
        "native_role": "text",
        "native_principal": "text",
        "by": "text",
        "acted_at": "instant",
        "cloud_at": "instant",
        "read_back": "map",
    },
    "grant.searched": {
        **GRANT_AT,
        "outcome": "text",
        "since": "instant",
        "until": "instant",
        "searched": "list",
        "found": "list",
        "why_not": "list",
        "tries": "int",
    },
    # A panic's chain is its own. `panic.listed` names what it ends, `panic.swept` says that the end
    # of all of it is sealed; `panic.lifted` ends its freeze.
    "panic.called": {
        "panic": "text",
        "scope": "text",
        "name": "text",
        "via": "text",
        "reason": "personal?",
        "frozen_until": "instant?",
        "at": "instant",
    },
    "panic.listed": {"panic": "text", "grants": "list", "at": "instant"},
    "panic.swept": {"panic": "text", "grants": "int", "requests": "int", "at": "instant"},
    "panic.lifted": {"panic": "text", "at": "instant"},
    # A grant's again: its end took more than one call, and the first was sent at `sent_at`.
    "end.sent": {**GRANT_AT, "sent_at": "instant", "calls": "int"},
    # An approved extension, in its own chain: its grant's end moved, as told in `chain`.
    "request.applied": {"request": "text", "grant": "text", "chain": "text", "at": "instant"},
    # A grant's again. `grant.extended` moves its end and carries the votes of the extension.
    "grant.extended": {
        **GRANT_AT,
        "extension": "text",
        "digest": "digest",
        "votes": "list",
        "ended_at": "instant",
        "ends_at": "instant",
        "grace_seconds": "int",
        "exposure_seconds": "int",
        "unattended_seconds": "int?",
        "rules_digest": "digest",
        "carrier": "text",
        "requirement": "text",
    },
    "grant.armed": {**GRANT_AT, "ends_at": "instant", "receipt": "map"},
    "grant.warned": {
        **GRANT_AT,
        "principal": "text",
        "role": "text",
        "notice": "text",
        "window_ends_at": "instant",
        "ends_at": "instant",
    },
    # A grant's: a person answers for an end that is not known, and takes that back.
    "grant.signed_off": {**GRANT_AT, "reason": "personal"},
    "grant.resumed": {**GRANT_AT, "reason": "personal"},
    # A grant's again, though its row does not move: its holder is told that the access was gone.
    "access.gone_early": {
        **GRANT_AT,
        "principal": "text",
        "role": "text",
        "notice": "text",
        "how": "text",
        "ends_at": "instant",
    },
}

# Fields as they were, where an event has changed since.
_INTENDED_1 = {
    **GRANT_AT,
    "ends_at": "instant",
    "assignment": "text",
    "connector": "text",
    "account": "text",
    "native_role": "text",
    "native_principal": "text",
    "stood_before": "flag",
    "exposure_seconds": "int",
    "rules_digest": "digest",
    "carrier": "text",
    "requirement": "text",
}
_INTENDED_2 = {**_INTENDED_1, "unattended_seconds": "int?"}
_INTENDED_3 = {**_INTENDED_2, "risk": "int"}
_REMOVED_1 = {
    **GRANT_AT,
    "cloud_at": "instant",
    "residual_until": "instant",
    "read_back": "map",
    "acted_at": "instant",
    "still_held_by": "text",
}


# A name whose fields or meaning changed: its newest version here, its older ones in EARLIER.
LATEST: Mapping[str, int] = {
    "grant.intended": 4,
    "grant.removed": 2,
    # The same fields with another meaning for the row: see `grant.SEALED_AS`.
    "grant.contradicted": 2,
    "grant.searched": 2,
    "grant.resumed": 2,
    "request.filed": 2,
    "request.edited": 2,
}
EARLIER: Mapping[tuple[str, int], Mapping[str, str]] = {
    ("grant.intended", 1): _INTENDED_1,
    ("grant.intended", 2): _INTENDED_2,
    ("grant.intended", 3): _INTENDED_3,
    ("request.filed", 1): _TERMS_1,
    ("request.edited", 1): _TERMS_1,
    ("grant.removed", 1): _REMOVED_1,
    ("grant.contradicted", 1): EVENTS["grant.contradicted"],
    ("grant.searched", 1): EVENTS["grant.searched"],
    ("grant.resumed", 1): EVENTS["grant.resumed"],
}


def latest(name: str) -> int:
    """The version in which `name` is sealed today."""
    return LATEST.get(name, VERSION)


def fields_of(name: str, v: int) -> Mapping[str, str] | None:
    """The fields of version `v` of `name`, today's or an older one; None when there is no such."""
    return EVENTS.get(name) if v == latest(name) else EARLIER.get((name, v))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One sealed event, as read back from its leaf."""

    v: int
    idx: int
    at: str
    name: str
    subject: str
    seq: int
    prev: str
    actor: str
    data: Mapping[str, Json]

    @property
    def fact(self) -> Fact:
        """The fact it seals: what the rows are rebuilt from."""
        return Fact(
            name=self.name, subject=self.subject, actor=self.actor, data=self.data, v=self.v
        )
