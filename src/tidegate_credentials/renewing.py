"""When the cache cannot answer: ask the server, mint at most once, keep what came.

Many helpers run at the same moment (botocore starts one per call and process), so minting is done
under a file lock and the cache is read again once the lock is held: the first one mints, the others
find its keys. A server that does not answer never takes away keys that still work; it is then left
alone for RETRY_SECONDS.
"""

from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from tidegate_credentials.asking import NoAnswer, Refusal, ask
from tidegate_credentials.cache import (
    NEVER,
    Client,
    Entry,
    Stop,
    cache_path,
    instant,
    is_id,
    is_instant,
    is_role,
    read_entry,
    read_role_entry,
    request_command,
)
from tidegate_credentials.keeping import locked, sweep, write

REFRESH_SECONDS = 300  # before the cloud's expiry: longer than any one call takes to be signed
LAST_SECOND = 1  # the cloud's clock has whole seconds
RETRY_SECONDS = 10  # a server that did not answer is not asked on every AWS call
ROLE_SECONDS = 300  # a new grant of the role (the old one ended early) is noticed within this
LONGEST_SECRET = 8_192  # characters: STS promises no maximum, seen are under 2,000
OVER_STATES = frozenset({"closing", "removed", "gone", "failed", "signed_off"})
_SECRETS = {
    "AccessKeyId": "access_key_id",
    "SecretAccessKey": "secret_access_key",
    "SessionToken": "session_token",
}


def renew(client: Client, folder: str, name: str, *, keep_ended: bool, now: float) -> Entry:
    """The entry of grant or role `name` after asking the server, or the cached one.

    With `keep_ended`, keys whose access is over are given back too, until the cloud's own expiry:
    the caller wants the cloud to be asked.

    Raises:
        Stop: there is nothing to show; its text says what to do.
    """
    return _Renewal(client, folder, keep_ended, now).of(name)


def refresh_at(ends_at: str, expires_at: str) -> str:
    """When to ask again: at the grant's end, or a little before keys that die sooner.

    The keys of a short grant outlive it (the cloud's floor is 900 s) and need no refresh.
    """
    if ends_at <= expires_at:
        return ends_at
    return instant(datetime.fromisoformat(expires_at).timestamp() - REFRESH_SECONDS)


class _Renewal:
    """One run: who asks, where keys are kept, and the one instant it happens at."""

    def __init__(self, client: Client, folder: str, keep_ended: bool, now: float) -> None:
        self._client = client
        self._folder = folder
        self._keep_ended = keep_ended
        self._now = now
        self._at = instant(now)

    def of(self, name: str) -> Entry:
        role = name if "/" in name else ""
        grant = self._known(role) if role else name
        try:
            found = self._open_grant(role) if role else name
            if not (found or self._cached(grant)):
                raise Stop(f"no open grant of `{role}`; ask for it: {request_command(role)}")
            grant = found or grant
            with locked(self._folder, self._path(grant)):
                return self._renewed(grant, role, doubted=not found)
        except NoAnswer as fault:
            if role:
                self._keep_role(role, grant, self._now + RETRY_SECONDS)
            return self._at_hand(grant, str(fault))

    def _renewed(self, grant: str, role: str, *, doubted: bool) -> Entry:
        """The entry of `grant`, the lock held. `doubted`: the server does not list it as open."""
        entry = self._cached(grant)
        if entry and self._at < entry["refresh_at"] and not doubted:
            return entry
        try:
            if entry is not None and (doubted or entry["over"] or self._at >= entry["ends_at"]):
                entry = self._looked_at(entry)
                if entry["over"] or self._at >= entry["ends_at"]:
                    return self._kept(entry, self._next_look(entry))
            minted = ask(self._client, "POST", f"/api/grants/{grant}/credentials")
        except NoAnswer:
            if entry is not None:
                self._kept(entry, instant(self._now + RETRY_SECONDS))
            raise
        except Refusal:
            if entry is not None and self._keep_ended and self._at < entry["expires_at"]:
                return entry
            raise
        fresh = self._minted(grant, role or (entry or {}).get("role", ""), minted)
        sweep(self._folder, self._now)
        over = self._at >= fresh["ends_at"]
        # In the last second of a window the cloud may refuse new keys already: not one each call.
        soon = instant(self._now + LAST_SECOND)
        return self._kept(fresh, max(fresh["refresh_at"], soon if over else ""))

    def _next_look(self, entry: Entry) -> str:
        """After the end: soon while the server has not closed it, else only to wipe dead keys."""
        if not entry["over"]:
            return instant(self._now + RETRY_SECONDS)
        return entry["expires_at"] if self._at < entry["expires_at"] else NEVER

    def _looked_at(self, entry: Entry) -> Entry:
        """`entry` with the end as the server has it: moved by an extension, or over."""
        view = ask(self._client, "GET", f"/api/grants/{entry['grant']}")
        ends_at, role = view.get("ends_at"), view.get("role")
        return {
            **entry,
            "role": str(role) if is_role(role) else entry["role"],
            "ends_at": str(ends_at) if is_instant(ends_at) else entry["ends_at"],
            "over": "yes" if view.get("state") in OVER_STATES else "",
        }

    def _minted(self, grant: str, role: str, answer: dict[str, Any]) -> Entry:
        """The entry of a session just minted. Raises Stop or NoAnswer when it is not as agreed."""
        for field in _SECRETS.values():
            if answer.get("kind") != "aws" or not _is_secret(answer.get(field)):
                raise Stop(f"{grant} gives no AWS keys; see: tidegate trace {grant}")
        instants = [answer.get(name) for name in ("ends_at", "bound_until", "expires_at")]
        if not all(is_instant(one) for one in instants):
            raise NoAnswer(f"{self._client.server} gave keys without an end; see: tidegate doctor")
        # What the cloud will refuse is over, wherever the grant's end lies: then we ask again.
        ends_at, expires_at = str(min(instants[:2], key=str)), str(instants[2])
        return {
            "server": self._client.server,
            "grant": grant,
            "role": role,
            **{ours: str(answer[theirs]) for ours, theirs in _SECRETS.items()},
            "ends_at": ends_at,
            "expires_at": expires_at,
            "refresh_at": refresh_at(ends_at, expires_at),
            "over": "",
        }

    def _open_grant(self, role: str) -> str:
        """The open grant of `role` that ends last; "" when there is none."""
        query = urlencode({"role": role, "state": "open"})
        listed = ask(self._client, "GET", f"/api/grants?{query}").get("grants")
        if not isinstance(listed, list):
            raise NoAnswer(f"{self._client.server} gave no list of grants; see: tidegate doctor")
        grants = [item for item in listed if isinstance(item, dict) and is_id(item.get("id"))]
        if not grants:
            return ""
        best = str(max(grants, key=lambda item: str(item.get("ends_at") or ""))["id"])
        self._keep_role(role, best, self._now + ROLE_SECONDS)
        return best

    def _at_hand(self, grant: str, why: str) -> Entry:
        """The cached entry when it still serves although the server said nothing, else Stop."""
        entry = self._cached(grant)
        if entry is None:
            raise Stop(why)
        ends_at, expires_at = entry["ends_at"], entry["expires_at"]
        if self._at < expires_at and (self._keep_ended or self._at < ends_at):
            return entry
        if self._at >= ends_at:
            again = request_command(entry["role"])
            raise Stop(f"access under {grant} ended at {ends_at}, and {why}; ask again: {again}")
        raise Stop(f"the keys of {grant} expired at {expires_at}, and {why}")

    def _known(self, role: str) -> str:
        entry = read_role_entry(self._folder, self._client.server, role)
        return entry["grant"] if entry else ""

    def _cached(self, grant: str) -> Entry | None:
        return read_entry(self._folder, self._client.server, grant) if grant else None

    def _path(self, name: str) -> str:
        return cache_path(self._folder, self._client.server, name)

    def _keep_role(self, role: str, grant: str, until: float) -> None:
        if grant:
            entry = {"role": role, "grant": grant, "refresh_at": instant(until)}
            write(self._path(role), {"server": self._client.server, **entry})

    def _kept(self, entry: Entry, ask_at: str) -> Entry:
        """Write `entry`, without its keys once the cloud no longer honours them."""
        kept = {**entry, "refresh_at": ask_at}
        if self._at >= entry["expires_at"]:
            kept.update(dict.fromkeys(_SECRETS, ""))
        write(self._path(entry["grant"]), kept)
        return kept


def _is_secret(value: object) -> bool:
    return (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_SECRET
        and value.isascii()
        and value.isprintable()
    )
