"""The deny that ends live sessions of permission sets: one policy document, as pure text.

A portal session outlives its assignment, so its end is a deny by who (`identitystore:UserId`) and
when the session was issued (`aws:TokenIssueTime`): everything a person took before an instant is
refused, what they take after it works. The document is not ours alone: statements whose `Sid` does
not start with `TidegateCut` belong to the account's owner and are kept as they are.

Nothing here is sent; `identity_center_cut.py` sends it. Rules of the language: AWS, IAM User Guide,
"IAM JSON policy elements" and "AWS global condition context keys".
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

from tidegate.base.errors import AskedWrongly
from tidegate.base.when import Instant, from_ms, parse_instant, wire
from tidegate.connectors.role_kinds import LONGEST_SET_SESSION

LONGEST_INLINE = 10_240  # non-white-space characters: the inline policy of a permission set
LONGEST_SCP = 5_120  # characters: a service control policy
SID = "TidegateCut"

# Always sound and never true: no session was issued before 1970. An SCP must have a statement.
_IDLE = "TidegateCutIdle"
_EVERYBODY = "TidegateCutAll"
_HOLDING = "TidegateCutHold"
_USER, _ACCOUNT = "identitystore:UserId", "aws:PrincipalAccount"
_ISSUED, _PRINCIPAL = "aws:TokenIssueTime", "aws:PrincipalArn"
_WHITE = re.compile(r"\s")
_ROLE = re.compile(r"arn:\*:iam::\*:role/aws-reserved/sso\.amazonaws\.com/\*AWSReservedSSO_(.*)\*")
_VERSION = "2012-10-17"
_IDLE_BEFORE = from_ms(0)

Statement = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Whose:
    """Whose sessions: of this Identity Center user, in this account.

    `role` is the name of the permission set where the document binds more than one (an SCP), and
    empty in the permission set's own.
    """

    account: str
    user: str
    role: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denies:
    """What the document refuses on our behalf. Instants are whole seconds.

    Attributes:
        before: sessions issued before the instant, for good.
        holding: the same for people whose assignment could not be removed yet, far ahead on
            purpose. Nothing that stands here is ever taken for the cut of an ended grant.
        everybody: the last resort when there is no room: whoever's session was issued before it.
    """

    before: Mapping[Whose, Instant] = field(default_factory=dict)
    holding: Mapping[Whose, Instant] = field(default_factory=dict)
    everybody: Instant | None = None

    def cut_until(self, whose: Whose) -> Instant | None:
        """Up to which instant of issue their sessions are refused for good; None: not at all."""
        found = [at for at in (self.before.get(whose), self.everybody) if at is not None]
        return max(found, default=None)

    def refused_until(self, whose: Whose) -> Instant | None:
        """The same with what is held back until an assignment is gone."""
        found = [at for at in (self.cut_until(whose), self.holding.get(whose)) if at is not None]
        return max(found, default=None)

    def cut(self, whose: Whose, before: Instant) -> "Denies":
        """With `whose` refused before an instant, never less than now; holds nothing back more."""
        at = max(before, self.before.get(whose, before))
        holding = {one: until for one, until in self.holding.items() if one != whose}
        return replace(self, before={**self.before, whose: at}, holding=holding)

    def hold(self, whose: Whose, before: Instant) -> "Denies":
        """With `whose` held back before an instant; what is refused for good stays."""
        return replace(self, holding={**self.holding, whose: before})


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A policy document taken apart: what is not ours, and what we refuse.

    `top` are the elements beside `Statement`, `own` the statements of others, in their order.
    """

    top: Mapping[str, Any] = field(default_factory=lambda: {"Version": _VERSION})
    own: tuple[Statement, ...] = ()
    denies: Denies = field(default_factory=Denies)


def parse(text: str) -> Document:
    """Read a document; an empty text is an empty one.

    A statement with our Sid that we would not have written like this is kept as somebody else's.

    Raises:
        AskedWrongly: `bad_policy`: nothing that could be written back without losing some of it.
    """
    if not text.strip():
        return Document()
    try:
        # Twice the same key: one of the two would be lost in writing back.
        found = json.loads(text, object_pairs_hook=_no_twins)
    except (ValueError, RecursionError) as error:
        raise _bad("a JSON policy document", "something else") from error
    if not isinstance(found, dict):
        raise _bad("a JSON object", type(found).__name__)
    statements = found.pop("Statement", [])
    statements = statements if isinstance(statements, list) else [statements]
    own: list[Statement] = []
    denies = Denies()
    for statement in statements:
        if not isinstance(statement, dict):
            raise _bad("statements that are objects", type(statement).__name__)
        read = _read_ours(statement, denies)
        if read is None:
            own.append(statement)
        else:
            denies = read
    return Document(top=found, own=tuple(own), denies=denies)


def render(document: Document) -> str:
    """The document as compact text. Equal instants share a statement.

    Empty when nothing is left, neither ours nor anybody's: the policy itself may go then.
    """
    taken = {str(statement.get("Sid", "")) for statement in document.own}
    ours = list(_statements(document.denies, taken))
    if not ours and not document.own:
        return ""
    whole = {**document.top, "Statement": [*document.own, *ours]}
    return json.dumps(whole, separators=(",", ":"), ensure_ascii=False)


def idle(document: Document) -> str:
    """`render`, and where nothing is left a statement that refuses nobody."""
    nobody = _statement(_IDLE, {}, _IDLE_BEFORE)
    return render(document) or json.dumps({"Version": _VERSION, "Statement": [nobody]})


def size(text: str) -> int:
    """How much of the limit a text takes: characters that are no white space."""
    return len(_WHITE.sub("", text))


def fit(document: Document, limit: int, regranted: Iterable[Whose] = ()) -> Document:
    """The same document within `limit`. Who is refused stays refused, before no earlier instant.

    Costs availability only, in this order: people who hold nothing now are refused up to one common
    instant; then also those in `regranted`, whose newer sessions must be taken anew; then everybody
    up to the latest instant of the older half (and of those held back, when there is no other way).

    Raises:
        AskedWrongly: `no_room`: the statements of others leave no room for a single deny.
    """
    if _fits(document, limit):
        return document
    document = replace(document, denies=_least(document.denies))
    spared = set(regranted)
    denies = document.denies
    # Every further step costs somebody: the oldest first, and no more than needed.
    for keep in (spared, set[Whose]()):
        ranked = sorted(denies.before.items(), key=lambda item: (item[1], item[0]))
        movable = [whose for whose, _ in ranked if whose not in keep]
        merged = _first_fitting(document, limit, denies, movable)
        if merged is not None:
            return merged
        denies = _together(denies, movable)
    return _for_everybody(replace(document, denies=denies), document.denies, limit)


def prune(
    denies: Denies, *, cloud_at: Instant, lasting: timedelta, role: str, needed: Collection[Whose]
) -> Denies:
    """Without what can no longer matter: no session lives that was issued so long ago.

    Args:
        denies: what stands.
        cloud_at: the cloud's own clock.
        lasting: how long sessions of the permission set live, with a margin.
        role: the name in `Whose` of the permission set whose entries may go; others stay.
        needed: whose entries stay although they look old.
    """

    def matters(whose: Whose, at: Instant) -> bool:
        return whose.role != role or whose in needed or cloud_at <= at + lasting

    everybody = denies.everybody
    if everybody is not None and cloud_at > everybody + max(lasting, LONGEST_SET_SESSION):
        everybody = None
    return Denies(
        before={whose: at for whose, at in denies.before.items() if matters(whose, at)},
        holding={whose: at for whose, at in denies.holding.items() if at > cloud_at},
        everybody=everybody,
    )


def _least(denies: Denies) -> Denies:
    """The same refusals in fewer entries: nothing twice, and one instant for all held back."""
    latest = max(denies.holding.values(), default=None)
    before = {
        whose: at
        for whose, at in denies.before.items()
        if denies.everybody is None or at > denies.everybody
    }
    holding = {} if latest is None else dict.fromkeys(denies.holding, latest)
    return Denies(before=before, holding=holding, everybody=denies.everybody)


def _first_fitting(
    document: Document, limit: int, denies: Denies, movable: list[Whose]
) -> Document | None:
    """Merge as few of the oldest entries as do. Merging more never takes more room."""
    low, high = 1, len(movable)
    best = None
    while low <= high:
        middle = (low + high) // 2
        tried = replace(document, denies=_together(denies, movable[:middle]))
        if _fits(tried, limit):
            best, high = tried, middle - 1
        else:
            low = middle + 1
    return best


def _together(denies: Denies, movable: list[Whose]) -> Denies:
    if not movable:
        return denies
    latest = max(denies.before[whose] for whose in movable)
    return replace(denies, before={**denies.before, **dict.fromkeys(movable, latest)})


def _for_everybody(merged: Document, exact: Denies, limit: int) -> Document:
    """The last resort. Half of the room is freed at once, so that it is not needed each time."""
    ranked = sorted(exact.before.items(), key=lambda item: (item[1], item[0]))
    for left in (*(len(ranked) >> shift for shift in range(1, 5)), 0):
        older, newer = ranked[: len(ranked) - left], dict(ranked[len(ranked) - left :])
        everybody = max([at for _, at in older] + _some(exact.everybody), default=None)
        denies = Denies(before=newer, holding=exact.holding, everybody=everybody)
        tried = replace(merged, denies=_together(denies, list(newer)))
        if _fits(tried, limit // 2 if left else limit):
            return tried
    latest = max([*exact.before.values(), *exact.holding.values(), *_some(exact.everybody)])
    tried = replace(merged, denies=Denies(everybody=latest))
    if _fits(tried, limit):
        return tried
    raise AskedWrongly(
        "no_room",
        f"expected room for Tidegate's deny within {limit} characters, got "
        f"{limit - size(render(replace(merged, denies=Denies())))} beside the other statements",
        "shorten the permission set's inline policy, or move it into a managed policy",
    )


def _fits(document: Document, limit: int) -> bool:
    return size(render(document)) <= limit


def _some(at: Instant | None) -> list[Instant]:
    return [] if at is None else [at]


def _statements(denies: Denies, taken: set[str]) -> Iterable[Statement]:
    if denies.everybody is not None:
        yield _statement(_free(_EVERYBODY, taken), {_PRINCIPAL: _arn("")}, denies.everybody)
    for prefix, entries in ((SID, denies.before), (_HOLDING, denies.holding)):
        shared: dict[tuple[str, str, Instant], list[str]] = {}
        for whose, at in sorted(entries.items()):
            # Refused for everybody up to there already: it would only take room.
            if denies.everybody is None or at > denies.everybody:
                shared.setdefault((whose.account, whose.role, at), []).append(whose.user)
        for (account, role, at), users in shared.items():
            whom: dict[str, Any] = {_ACCOUNT: account, _USER: users}
            if role:
                whom[_PRINCIPAL] = _arn(role)
            yield _statement(_free(prefix, taken), whom, at)


def _free(prefix: str, taken: set[str]) -> str:
    """The first Sid of `prefix` that nobody has: a document's Sids must differ."""
    if prefix == _EVERYBODY and prefix not in taken:
        taken.add(prefix)
        return prefix
    number = 1
    while f"{prefix}{number}" in taken:
        number += 1
    taken.add(f"{prefix}{number}")
    return f"{prefix}{number}"


def _arn(role: str) -> str:
    """The roles of a permission set in any account and region; of all of them for an empty name."""
    name = f"{role}_" if role else ""
    return f"arn:*:iam::*:role/aws-reserved/sso.amazonaws.com/*AWSReservedSSO_{name}*"


def _statement(sid: str, whom: Mapping[str, Any], before: Instant) -> Statement:
    condition: dict[str, Any] = {}
    equal = {key: value for key, value in whom.items() if key != _PRINCIPAL}
    if equal:
        condition["StringEquals"] = equal
    if _PRINCIPAL in whom:
        condition["ArnLike"] = {_PRINCIPAL: whom[_PRINCIPAL]}
    condition["DateLessThan"] = {_ISSUED: _date(before)}
    return {"Sid": sid, "Effect": "Deny", "Action": "*", "Resource": "*", "Condition": condition}


def _date(at: Instant) -> str:
    return wire(at)[:-5] + "Z"  # whole seconds, as AWS dates sessions


def _read_ours(statement: Statement, denies: Denies) -> Denies | None:
    """`denies` with what this statement adds; None when it is not one of ours, to the letter."""
    sid = str(statement.get("Sid", ""))
    if not sid.startswith(SID):
        return None
    try:
        condition = dict(statement["Condition"])
        before = parse_instant(str(condition["DateLessThan"][_ISSUED]))
        equal = dict(condition.get("StringEquals", {}))
        arn = str(condition.get("ArnLike", {}).get(_PRINCIPAL, ""))
        users = _texts(equal.get(_USER, []))
        account = str(equal.get(_ACCOUNT, ""))
    except (AskedWrongly, AttributeError, KeyError, TypeError, ValueError):
        return None
    whom: dict[str, Any] = {_ACCOUNT: account, _USER: users} if users else {}
    if arn:
        whom[_PRINCIPAL] = arn
    # What `_statement` would make of it, or AWS's spelling of a single user without a list.
    if _normal(_statement(sid, whom, before)) != _normal(statement):
        return None
    if sid == _IDLE:
        return denies
    if sid.startswith(_EVERYBODY):
        everybody = max([before, *_some(denies.everybody)])
        return None if users else replace(denies, everybody=everybody)
    role = _ROLE.fullmatch(arn)
    if not users or (arn and (role is None or not role[1])):
        return None
    name = role[1].removesuffix("_") if role else ""
    kind = "holding" if sid.startswith(_HOLDING) else "before"
    entries = dict(getattr(denies, kind))
    for user in users:
        whose = Whose(account=account, user=user, role=name)
        entries[whose] = max(before, entries.get(whose, before))
    if kind == "holding":
        return replace(denies, holding=entries)
    return replace(denies, before=entries)


def _texts(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(one) for one in list(value)]  # type: ignore[call-overload]


def _normal(statement: Statement) -> Any:
    """With single values in place of lists of one, which mean the same."""
    return _single(statement)


def _single(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _single(one) for key, one in value.items()}
    if isinstance(value, list):
        return _single(value[0]) if len(value) == 1 else [_single(one) for one in value]
    return value


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _bad(expected: str, got: str) -> AskedWrongly:
    return AskedWrongly(
        "bad_policy",
        f"expected {expected} on the permission set, got {got}",
        "mend the policy by hand: what cannot be read is never overwritten",
    )
