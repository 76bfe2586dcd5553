"""`request --wait`: stays until access is open or certainly is not, telling each change once.

Nothing here can harm the request: leaving, losing the server or running out of patience leaves it
filed, and says so.
"""

import time
from collections.abc import Iterator
from datetime import timedelta

from tidegate.base.errors import WorldFailed
from tidegate.shell.cli.answer import Answer
from tidegate.shell.cli.client import Server
from tidegate.shell.cli.command import Desk
from tidegate.shell.cli.exits import Exit
from tidegate.shell.cli.showing import grant_lines, queue_says, request_lines

POLL_SECONDS = 2.0  # a person waits for minutes; a server with a thousand waiting feels nothing
MOST_FAILURES = 30  # in a row, a minute in all: a restart of the server is sat out
ENDED = frozenset({"denied", "refused", "withdrawn", "lapsed"})  # of a request: no access
COMING = frozenset({"ready", "intended"})  # of a grant: not there yet
NOT_PERMITTED = frozenset({"not_permitted", "role_changed"})  # why a grant failed, by the rules


def wait_for_access(desk: Desk, server: Server, filed: Answer, patience: timedelta | None) -> Exit:
    """Wait for the request `filed`; shows how it stands in the end, whatever that is.

    Without `patience` it waits as long as the server keeps the request open, which is bounded
    there (decide-by and claim-by).
    """
    watch = _Watch(desk, server, filed)
    until = None if patience is None else time.monotonic() + patience.total_seconds()
    left = Exit.OK
    try:
        for _ in watch.looks():
            if until is not None and time.monotonic() >= until:
                left = Exit.NOT_YET
                break
            desk.local.pause(POLL_SECONDS)
    except KeyboardInterrupt:
        left = Exit.INTERRUPTED
    if left:
        desk.tell(*_still_filed(filed.text("id")))
    lines = request_lines(watch.request, desk.paint)
    for grant in watch.grants:
        lines += ["", *grant_lines(grant, desk.paint)]
    grants = [grant.plain for grant in watch.grants]
    desk.answer({**watch.request.plain, "access": grants}, lines)
    return left or watch.exit()


class _Watch:
    """The request and its grants as last seen."""

    def __init__(self, desk: Desk, server: Server, filed: Answer) -> None:
        self.request = filed
        self.grants: list[Answer] = []
        self._id = filed.exact("id")
        self._desk = desk
        self._server = server
        self._said: set[str] = set()
        self._failures = 0

    def looks(self) -> Iterator[None]:
        """Look again and again; ends once there is nothing more to wait for."""
        while True:
            try:
                self._look()
                self._failures = 0
            except WorldFailed as fault:
                self._failures += 1
                if self._failures >= MOST_FAILURES:
                    raise
                if self._failures == 1:
                    self._desk.tell(f"{fault.message}; still trying")
            if self._settled():
                return
            yield

    def exit(self) -> Exit:
        """How it ended: any access that is open is a success; only opening may be partial."""
        if self.request.text("state") in ENDED:
            return Exit.NOT_ALLOWED
        states = {grant.text("state") for grant in self.grants}
        if "open" in states:
            return Exit.OK
        causes = {grant.text("cause") for grant in self.grants if grant.text("state") == "failed"}
        if states == {"failed"} and not causes & NOT_PERMITTED:
            return Exit.WORLD_FAILED
        return Exit.NOT_ALLOWED

    def _look(self) -> None:
        self.request = self._server.get("api", "requests", self._id)
        self._say(self.request)
        if self.request.text("state") == "approved":
            answer = self._server.get("api", "grants", query={"view": "mine", "request": self._id})
            self.grants = answer.parts("grants")
            for grant in self.grants:
                self._say(grant)

    def _settled(self) -> bool:
        state = self.request.text("state")
        if state in ENDED:
            return True
        waiting = [grant for grant in self.grants if grant.text("state") in COMING]
        return state == "approved" and bool(self.grants) and not waiting

    def _say(self, thing: Answer) -> None:
        said = thing.text("says") or f"{thing.text('id')} is {thing.text('state')}"
        if queue := queue_says(thing):
            said = f"{said}; {queue}"
        # A sentence that only counts down is news once: the state decides, not the words.
        key = f"{thing.text('id')} {thing.text('state')} {len(thing.some('votes'))}"
        if key not in self._said:
            self._said.add(key)
            self._desk.tell(said)


def _still_filed(id: str) -> tuple[str, ...]:
    return (
        f"{id} stays filed: access opens when it is approved, whether you wait or not",
        f"next: `tidegate requests {id}` to look, `tidegate withdraw {id}` to take it back",
    )
