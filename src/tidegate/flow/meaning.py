"""Whom somebody means: a person named by a login, an e-mail, an id, a key or a session's ARN.

Who may ask about whom is decided here too: auditors, operators and a target's owners about
anybody, everybody about themselves. To all others a person they may not ask about, one that does
not exist, and a name that fits several are one and the same answer.
"""

import re
from collections.abc import Iterator
from contextlib import suppress

from tidegate.base.errors import AskedWrongly, NotFound
from tidegate.base.ids import GRANT, PRINCIPAL, REQUEST, SESSION, id_kind, id_made_at
from tidegate.base.text import mail_key
from tidegate.catalogue import Principal, Target
from tidegate.flow.allowing import is_auditor
from tidegate.flow.house import Actor, House
from tidegate.flow.people import person_key

LONGEST_NAMED = 200  # characters: an ARN of AWS has at most a few more parts than this allows
MOST_SHOWN = 5  # of the people a name fits
MOST_SEARCHED = 1_000  # grants of the target whose sessions are searched for one

# `aws` is the partition; China and GovCloud have others. The session name is the last part.
_SESSION_ARN = re.compile(
    r"arn:aws[a-z-]*:sts::(\d{12}):assumed-role/([\w+=,.@-]{1,64})/([\w+=,.@-]{2,64})", re.ASCII
)
# Identity Center names the role of a permission set so, and each session after its user name.
_PORTAL_ROLE = "AWSReservedSSO_"


def person_meant(house: House, actor: Actor, named: str, target: Target) -> Principal:
    """The principal meant by `named`, if the actor may ask about them on `target`.

    Raises:
        NotFound: `unknown_id`: nobody, or nobody the actor may ask about.
        AskedWrongly: `ambiguous_person`: several, told only to who may ask about anybody.
    """
    fitting = {one.id: one for one in _fitting(house, named.strip()[:LONGEST_NAMED], target)}
    if not _may_ask_about_anybody(house, actor, target):
        own = [one for one in fitting.values() if person_key(house, one) == actor.person]
        if own and len(own) == len(fitting):
            return next((one for one in own if one.id == actor.id), own[0])
        raise NotFound("unknown_id", "nobody you may ask about is called that", "see `whoami`")
    if not fitting:
        raise NotFound(
            "unknown_person",
            "expected a login, e-mail, principal, request or grant id, access key id or session"
            " ARN of somebody known here, got one of nobody",
            "list people with `tidegate account list`",
        )
    if len(fitting) > 1:
        names = ", ".join(f"`{name}`" for name in sorted(fitting)[:MOST_SHOWN])
        raise AskedWrongly(
            "ambiguous_person",
            f"expected one person, got a name of {len(fitting)}: {names}",
            "name one by the id",
        )
    return next(iter(fitting.values()))


def _may_ask_about_anybody(house: House, actor: Actor, target: Target) -> bool:
    owner = target.owner.removeprefix("group:")
    return is_auditor(house, actor) or bool(owner and owner in actor.groups)


def _fitting(house: House, named: str, target: Target) -> Iterator[Principal]:
    """Everybody `named` may stand for."""
    store = house.store
    with suppress(NotFound):
        match id_kind(named):
            case str(kind) if kind == PRINCIPAL:
                yield store.principal(named)
            case str(kind) if kind == GRANT:
                yield store.principal(store.grant(named).principal)
            case str(kind) if kind == REQUEST:
                yield store.principal(store.request(named).terms.principal)
    if id_kind(named):
        return
    if session := _SESSION_ARN.fullmatch(named):
        account, role, name = session.groups()
        if account == target.account:
            yield from _of_session(house, role, name, target)
        return
    if by_key := store.session_by_key(named):
        yield store.principal(store.grant(by_key.grant).principal)
        return
    yield from _by_name(house, named, target)


def _by_name(house: House, named: str, target: Target) -> Iterator[Principal]:
    """By login, which is one account's; else by whatever mail address or subject is the same.

    Searched are all accounts, and whoever has a grant on the target without having one.
    """
    account = house.store.account(named)
    if account is not None:
        yield house.store.principal(account.principal)
        return
    key = mail_key(named) if "@" in named else ""
    grants = house.store.grants(target=target.id, limit=MOST_SEARCHED)
    known = {account.principal for account in house.store.accounts()}
    for name in sorted(known | {grant.principal for grant in grants}):
        one = house.store.principal(name)
        mail = house.store.text(one.mail) if key and one.mail else None
        if one.subject == named or (mail and mail_key(mail) == key):
            yield one


def _of_session(house: House, role: str, name: str, target: Target) -> Iterator[Principal]:
    """Whose a session of a role is: by its user at the portal, else by our own session id."""
    if role.startswith(_PORTAL_ROLE):
        yield from _by_name(house, name, target)
        return
    made_at = id_made_at(name) if id_kind(name) == SESSION else None
    if made_at is None:
        return
    for grant in house.store.grants(target=target.id, limit=MOST_SEARCHED):
        opened, ends = grant.opened_at, grant.ends_at
        if opened is None or ends is None or not opened <= made_at <= ends:
            continue
        if any(session.id == name for session in house.store.sessions(grant.id)):
            yield house.store.principal(grant.principal)
            return
