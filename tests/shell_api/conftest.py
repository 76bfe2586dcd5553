"""A small world behind its API: everybody holds a token, and time moves when told."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from httpx import Response
from litestar.testing import TestClient

from tests.support import World
from tidegate.evidence.seal import read_event
from tidegate.flow.house import Actor
from tidegate.shell.api import Insight, make_app
from tidegate.shell.identity import make_token


@dataclass
class Seen:
    """What the insight callables were asked, so that a refusal can be seen to come before."""

    calls: list[tuple[str, ...]] = field(default_factory=list)

    def insight(self) -> Insight:
        """Callables that answer plainly and remember."""

        def note(*words: str) -> None:
            self.calls.append(words)

        def trace(actor: Actor, some_id: str) -> dict[str, Any]:
            note("trace", actor.id, some_id)
            return {"request": some_id, "stages": []}

        def verify(actor: Actor, some_id: str) -> dict[str, Any]:
            note("verify", actor.id, some_id)
            return {"holds": True}

        def paths(actor: Actor, person: str, target: str) -> dict[str, Any]:
            note("paths", actor.id, person, target)
            return {"paths": []}

        def doctor(actor: Actor) -> dict[str, Any]:
            note("doctor", actor.id)
            return {"checks": []}

        def pack(actor: Actor, some_id: str) -> tuple[str, bytes]:
            note("pack", actor.id, some_id)
            return f'{some_id}".zip\r\nX: y', b"PK"

        def lateness(actor: Actor, since: timedelta, by: str, target: str) -> dict[str, Any]:
            note("lateness", actor.id, by, target)
            return {"groups": []}

        def consistency(old: int) -> dict[str, Any]:
            return {"old": old, "hashes": []}

        return Insight(
            trace=trace,
            verify=verify,
            paths=paths,
            doctor=doctor,
            pack=pack,
            checkpoint=lambda: "origin\n1\nroot\n",
            keys=lambda: "key\n",
            consistency=consistency,
            lateness=lateness,
        )


class Api:
    """The API as people use it: each call is somebody's."""

    def __init__(self, world: World, client: TestClient[Any], seen: Seen) -> None:
        self.world = world
        self.client = client
        self.seen = seen
        self._tokens: dict[str, str] = {}

    def token(self, login: str) -> str:
        """A token of `login`, made once."""
        if login not in self._tokens:
            who = self.world.who(login)
            text, _ = make_token(self.world.house, who.id, "test", self.world.house.now())
            self._tokens[login] = text
        return self._tokens[login]

    def call(self, login: str | None, method: str, path: str, body: Any = None) -> Response:
        """One call as `login`; None is nobody."""
        headers = {"Authorization": f"Bearer {self.token(login)}"} if login else {}
        return self.client.request(method, path, headers=headers, json=body)

    def get(self, login: str | None, path: str) -> Response:
        """A GET as `login`."""
        return self.call(login, "GET", path)

    def post(self, login: str | None, path: str, body: Any = None) -> Response:
        """A POST as `login`."""
        return self.call(login, "POST", path, body)

    def ask(self, login: str = "ana", role: str = "prod/admin", **more: Any) -> dict[str, Any]:
        """A filed request, as answered."""
        answer = self.post(login, "/api/requests", an_ask(role, **more))
        assert answer.status_code == 201, answer.text
        found: dict[str, Any] = answer.json()
        return found

    def vote(self, login: str, request: dict[str, Any], choice: str = "approve") -> Response:
        """A vote on the digest in `request`."""
        body = {"choice": choice, "digest": request["digest"]}
        return self.post(login, f"/api/requests/{request['id']}/votes", body)

    def refusals(self, login: str) -> list[tuple[str, str, str]]:
        """(command, about, code) of every sealed refusal of `login`."""
        events = [read_event(leaf) for _, leaf in self.events(login)]
        return [
            (str(e.data["command"]), str(e.data["about"]), str(e.data["code"]))
            for e in events
            if e.name == "command.refused"
        ]

    def events(self, login: str) -> list[tuple[int, bytes]]:
        """The principal's own chain."""
        return self.world.house.store.events(self.world.who(login).id)


def an_ask(role: str = "prod/admin", **more: Any) -> dict[str, Any]:
    """The smallest complete body."""
    return {"roles": [role], "duration_seconds": 1800, "reason": "INC-4711 roll back", **more}


@contextmanager
def serving(world: World, *, behind_proxy: bool = False, peer: str = "testclient") -> Iterator[Api]:
    """The API over a world, called from `peer`."""
    seen = Seen()
    app = make_app(world.house, world.refusals, seen.insight(), behind_proxy=behind_proxy)
    inside = app.asgi_handler

    async def from_peer(scope: Any, receive: Any, send: Any) -> None:
        scope["client"] = (peer, 50_000)
        await inside(scope, receive, send)

    app.asgi_handler = from_peer

    with TestClient(app, raise_server_exceptions=False) as client:
        yield Api(world, client, seen)


@pytest.fixture
def api(world: World) -> Iterator[Api]:
    """The API over a small world."""
    with serving(world) as made:
        yield made


@pytest.fixture(scope="module")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """An API that many tests share: for calls that must change nothing."""
    world = World(tmp_path_factory.mktemp("still"))
    with serving(world) as made:
        yield made
    world.down()
