"""The door: who is calling, and that every refusal is on record before it is answered.

Closed by default: a route is public only when it says so (`opt={PUBLIC: True}`). Cookies are never
read, and no forwarded header says who somebody is: neither a browser nor a proxy can be somebody.
"""

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import structlog
from litestar.concurrency import sync_to_thread
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.exceptions import NotFoundException
from litestar.middleware import ASGIMiddleware
from litestar.types import ASGIApp, Message, Receive, Scope, Send

from tidegate.base.address import is_loopback
from tidegate.base.errors import (
    AskedWrongly,
    NotAllowed,
    NotFound,
    NotSignedIn,
    TidegateError,
    WorldFailed,
)
from tidegate.base.ids import id_kind
from tidegate.flow.house import Actor, House
from tidegate.flow.refusing import Refusals
from tidegate.shell.api.bodies import NUL
from tidegate.shell.api.lane import Lane, in_lane
from tidegate.shell.identity import who

log = structlog.get_logger("tidegate.api")

PUBLIC = "tidegate_public"
OPENAPI_PATH = "/api/openapi.json"
OTHER = "other"  # what a refused call was about, when it is no word of ours
LONGEST_BEARER = 200  # characters; ours have 47
IPV6_NETWORK = 64  # bits: what one subscriber is given to choose addresses from
COMMANDS = frozenset({"POST", "PUT", "PATCH", "DELETE"})
LONGEST_FORWARDED = 1_000  # characters of X-Forwarded-For: some twenty hops
WITH_BODY = frozenset({"POST", "PUT", "PATCH"})


class Door(ASGIMiddleware):
    """Lets a call in as somebody, or not at all.

    `behind_proxy`: see `source_of`. What it says is kept in the call's state as `source`.
    """

    scopes = (ScopeType.HTTP,)

    def __init__(
        self, house: House, refusals: Refusals, lane: Lane, *, behind_proxy: bool = False
    ) -> None:
        self._lane = lane
        self._house = house
        self._refusals = refusals
        self._behind_proxy = behind_proxy

    async def handle(self, scope: Scope, receive: Receive, send: Send, next_app: ASGIApp) -> None:
        """Look at one call. Raises what the error table tells."""
        if scope["path"].startswith(f"{OPENAPI_PATH}/"):
            raise NotFoundException  # the framework would answer with a page of its own
        actor = None
        in_thread = self._lane.run if in_lane(scope["path"]) else sync_to_thread
        state: dict[str, Any] = scope["state"]
        state["source"] = source_of(scope, behind_proxy=self._behind_proxy)
        if not _is_public(scope):
            text = bearer_of(scope)
            actor = await in_thread(self._enter, text, state["source"])
            scope["user"], scope["auth"] = actor, text
        wrong = _wrong_media_type(scope) or _wrong_address(scope)
        if wrong is not None:
            if actor is not None:
                await in_thread(self._seal, actor, scope, wrong)
            raise wrong

        async def sealed_first(message: Message) -> None:
            fault = state.get("fault")
            if message["type"] == "http.response.start" and actor is not None and fault is not None:
                await in_thread(self._seal, actor, scope, fault)
            await send(message)

        await next_app(scope, receive, sealed_first)

    def _enter(self, bearer: str | None, source: str) -> Actor:
        try:
            return who(self._house, bearer)
        except NotSignedIn:
            self._refusals.failed_signin(self._house, source)
            raise

    def _seal(self, actor: Actor, scope: Scope, fault: TidegateError) -> None:
        if not _is_refusal(fault, scope):
            return
        command = str(getattr(scope["route_handler"], "operation_id", ""))
        try:
            self._refusals.refused(self._house, actor.id, command, self._about(scope), fault)
        except WorldFailed as closed:
            log.error("a refusal could not be sealed", code=closed.code, refused=fault.code)

    def _about(self, scope: Scope) -> str:
        """What the refused call was about, when we know the word; else `other`.

        People paste tokens, passwords and addresses where an id is asked for, and evidence is for
        ever: only ids, our own paths and names of the catalogue in force are sealed.
        """
        ids = [str(value) for value in scope.get("path_params", {}).values()]
        about = (ids or [scope["path"]])[0]
        catalogue = self._house.laws.catalogue
        known = id_kind(about) or about in catalogue.targets or about in catalogue.roles
        ours = about in scope["route_handler"].paths
        return about if known or ours else OTHER


def bearer_of(scope: Scope) -> str | None:
    """The token of the Authorization header (RFC 6750, section 2.1); None without exactly one."""
    given = Headers.from_scope(scope).getall("authorization", [])
    if len(given) != 1 or len(given[0]) > LONGEST_BEARER:
        return None
    scheme, _, token = given[0].partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def source_of(scope: Scope, *, behind_proxy: bool = False) -> str:
    """Where the call comes from, an IPv6 network as one place.

    With `behind_proxy` that is the last hop of X-Forwarded-For, the one the proxy itself wrote, and
    only when the peer is on this machine: the hops before it are whatever the caller made up.
    """
    client = scope["client"]
    host = client[0] if client else "unknown"
    told = _last_hop(scope) if behind_proxy and is_loopback(host) else None
    try:
        address = told or ip_address(host)
    except ValueError:
        return host[:60]
    if isinstance(address, IPv6Address):
        shift = address.max_prefixlen - IPV6_NETWORK
        return f"{IPv6Address(int(address) >> shift << shift)}/{IPV6_NETWORK}"
    return str(address)


def _last_hop(scope: Scope) -> IPv4Address | IPv6Address | None:
    given = Headers.from_scope(scope).getall("x-forwarded-for", [])
    if not given or len(given[-1]) > LONGEST_FORWARDED:
        return None
    try:
        return ip_address(given[-1].rpartition(",")[2].strip())
    except ValueError:
        return None


def _is_refusal(fault: TidegateError, scope: Scope) -> bool:
    """Whether it is told to somebody as a no: any way of not being allowed to, and of a command
    also whatever is wrong with it; reading wrongly is nobody's business."""
    if isinstance(fault, NotAllowed | NotFound):
        return True
    return isinstance(fault, AskedWrongly) and scope.get("method") in COMMANDS


def _is_public(scope: Scope) -> bool:
    return bool(scope["route_handler"].opt.get(PUBLIC)) or scope["path"] == OPENAPI_PATH


def _wrong_media_type(scope: Scope) -> AskedWrongly | None:
    headers = Headers.from_scope(scope)
    empty = headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    if scope.get("method") not in WITH_BODY or empty:
        return None
    given = headers.get("content-type", "")
    if given.partition(";")[0].strip().lower() == "application/json":
        return None
    return AskedWrongly(
        "not_json",
        f"expected a body of type `application/json`, got `{given[:60]}`",
        "send JSON and say so",
    )


def _wrong_address(scope: Scope) -> AskedWrongly | None:
    """The same in a path, a filter or an id as in a body: no database is asked for it."""
    if NUL not in scope["path"] and b"%00" not in scope["query_string"]:
        return None
    return AskedWrongly(
        "bad_address",
        "expected an address of text, got a NUL character (%00) in it",
        "take it out",
    )
