"""Reading what a use case needs: catalogue entries by digest, a grant by either kind of id."""

from typing import Any

import orjson

from tidegate.base.errors import AskedWrongly, EvidenceBroken, NotFound
from tidegate.base.ids import GRANT, REQUEST, id_kind
from tidegate.catalogue import Role, Target, role_of_entry
from tidegate.flow.allowing import Verb, allow
from tidegate.flow.house import Actor, House
from tidegate.grant import Grant
from tidegate.request import Request

MOST_ENTRIES = 4_096  # kept by digest, so never out of date; more roles than a catalogue names


def entry_of(house: House, entry_digest: str) -> dict[str, Any]:
    """The catalogue entry kept under `entry_digest` when it was asked for.

    Raises:
        EvidenceBroken: it is not kept. Filing keeps every entry it names: the database is damaged.
    """
    data = house.store.document(entry_digest)
    if data is None:
        raise EvidenceBroken(
            "entry_lost", f"catalogue entry `{entry_digest[:19]}`", "the kept entry", "none"
        )
    entry: dict[str, Any] = orjson.loads(data)
    return entry


def role_asked(house: House, entry_digest: str) -> tuple[Target, Role]:
    """The target and role of a kept catalogue entry. Raises EvidenceBroken: as `entry_of`."""
    found = house.entries.get(entry_digest)
    if found is None:
        if len(house.entries) >= MOST_ENTRIES:
            house.entries.clear()
        found = house.entries[entry_digest] = role_of_entry(entry_of(house, entry_digest))
    return found


def find_grant(house: House, actor: Actor, some_id: str, verb: Verb) -> Grant:
    """The grant meant by a grant id, or by a request id when exactly one grant fits.

    Raises:
        NotFound: nothing visible is called that.
        AskedWrongly: the request has no grant yet, or several: they are listed.
        NotAllowed: visible, but not for this.
    """
    match id_kind(some_id):
        case "gr":
            grant = house.store.grant(some_id)
            allow(house, actor, verb, house.store.request(grant.request), grant)
            return grant
        case "rq":
            request = house.store.request(some_id)
            allow(house, actor, verb, request)
            return only_grant(house, request, live=verb is not Verb.SEE)
    raise AskedWrongly(
        "bad_id",
        f"expected an id like `{GRANT}_…` or `{REQUEST}_…`, got `{some_id[:40]}`",
        "list them with `tidegate grants`",
    )


def only_grant(house: House, request: Request, live: bool) -> Grant:
    """The one grant of `request`, or that it extends; with `live`, the one that is not over."""
    if request.terms.extends:
        return house.store.grant(request.terms.extends.grant)
    grants = house.store.grants(request=request.id)
    fitting = [g for g in grants if not (live and g.over)] or grants
    if len(fitting) == 1:
        return fitting[0]
    if not grants:
        raise AskedWrongly(
            "no_grant",
            f"request `{request.id}` is `{request.state}` and has no grant",
            f"see `tidegate trace {request.id}`",
        )
    names = ", ".join(f"`{g.id}` ({g.role}, {g.state})" for g in fitting)
    raise AskedWrongly("many_grants", f"request `{request.id}` has several: {names}", "name one")


def find_request(house: House, actor: Actor, some_id: str) -> Request:
    """The request meant by a request id or one of its grants' ids. Raises NotFound."""
    if id_kind(some_id) == GRANT:
        some_id = house.store.grant(some_id).request
    elif id_kind(some_id) != REQUEST:
        raise NotFound(
            "unknown_id", f"expected a request or grant id, got `{some_id[:40]}`", "list them"
        )
    request = house.store.request(some_id)
    allow(house, actor, Verb.SEE, request)
    return request
