"""Panic over the API: each scope, the four counts, and a lane of its own while the rest is busy."""

import http.client
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import uvicorn
from litestar.concurrency import set_asyncio_executor

from tests.conftest import on_both
from tests.shell_api.conftest import Api, Seen, serving
from tests.support import World, catalogue, laws
from tidegate.base.errors import Refused, WorldFailed
from tidegate.base.when import Instant, wire
from tidegate.catalogue import AssignmentKey, Catalogue, Role
from tidegate.connectors.port import Answer, Hold, Receipt
from tidegate.connectors.simulated import SESSION_LIFE
from tidegate.connectors.simulated_cloud import ASSIGNMENT
from tidegate.flow.governing import put_in_force
from tidegate.flow.house import Actor
from tidegate.grant import Grant, GrantState
from tidegate.shell.api import make_app
from tidegate.shell.api.serving import THREADS, _config, listen

pytest_generate_tests = on_both

SLOW = 0.5  # seconds: what a free API takes some hundredths of
ENDING = frozenset({GrantState.CLOSING, GrantState.REMOVED, GrantState.GONE})


@pytest.fixture
def api(world: World) -> Iterator[Api]:
    """The API over a world with a second role on `prod`."""
    usual = catalogue()
    reader = replace(usual.roles["prod/admin"], id="prod/reader")
    desk = replace(reader, id="prod/desk", kind=ASSIGNMENT, probe="")
    put_in_force(world.house, laws(found=_with(usual, reader, desk)))
    with serving(world) as made:
        yield made


def _with(found: Catalogue, *roles: Role) -> Catalogue:
    return Catalogue(found.targets, {**found.roles, **{role.id: role for role in roles}})


def panic(api: Api, scope: str, name: str = "", login: str = "op") -> dict[str, Any]:
    """A panic as it is answered, and then told of once it is swept."""
    body = {"scope": scope, "name": name, "reason": "laptop stolen"}
    answer = api.post(login, "/api/panics", body)
    assert answer.status_code == 202, answer.text
    first: dict[str, Any] = answer.json()
    assert (first["scope"], first["sealed"], first["safe"]) == (scope, True, False)
    swept()
    return told(api, first["id"], login)


def swept() -> None:
    """Wait until no sweep is under way."""
    for thread in threading.enumerate():
        if thread.name == "tidegate-panic":
            thread.join(10)


def told(api: Api, name: str, login: str = "op") -> dict[str, Any]:
    """How a panic stands."""
    answer = api.get(login, f"/api/panics/{name}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def settle(world: World, step: int = 5) -> None:
    """The worker looks twelve times, so many seconds apart."""
    for _ in range(12):
        world.clock.forward(seconds=step)
        world.work()


def held(world: World) -> dict[str, Grant]:
    """Open grants by what they are of: two people on prod/admin, one on prod/reader, one on dev."""
    dev = world.ask("eve", role="dev/admin")
    world.work()
    (free,) = world.house.store.grants(request=dev.id)
    return {
        "ana admin": world.granted(),
        "eve admin": world.granted("eve"),
        "ana reader": world.granted(role="prod/reader"),
        "eve dev": free,
    }


@pytest.mark.parametrize(
    ("scope", "name", "struck"),
    [
        ("principal", "ana", {"ana admin", "ana reader"}),
        ("target", "prod", {"ana admin", "eve admin", "ana reader"}),
        ("role", "prod/reader", {"ana reader"}),
        ("all", "", {"ana admin", "eve admin", "ana reader", "eve dev"}),
    ],
)
def test_scope_leaves_something_open_or_takes_what_is_not_in_it(
    api: Api, scope: str, name: str, struck: set[str]
) -> None:
    """Each scope ends what is in it and nothing beside, and the counts add up to that."""
    grants = held(api.world)
    first = panic(api, scope, name)
    assert (first["swept"], first["safe"], first["grants"]) == (True, False, len(struck))
    assert first["closing"] == len(struck)
    assert {grants[one].id for one in struck} == {one["id"] for one in first["still"]}
    settle(api.world)
    last = told(api, first["id"])
    assert (last["gone"], last["closing"], last["safe"]) == (len(struck), 0, True)
    assert {what for what, one in grants.items() if api.world.grant(one).state in ENDING} == struck


def test_count_hides_what_is_not_gone(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four grants, four fates: gone, removed until T, still closing, unverified; one in each."""
    world = api.world
    world.connector.cuts = False  # a session of an assignment lives to its own end
    gone, refused = world.granted(), world.granted("eve")
    lives, kept = world.granted("eve", role="prod/desk"), world.granted(role="prod/desk")
    signed_in = world.cloud.sign_in(_key(world, lives), world.clock())
    world.cloud.give_by_group(_key(world, kept), "admins")
    revoke = world.connector.revoke

    def refuse(hold: Hold, now: Instant) -> Receipt:
        if hold.grant == refused.id:
            raise Refused("access_denied", "not allowed", "allow it")
        return revoke(hold, now)

    monkeypatch.setattr(world.connector, "revoke", refuse)
    first = panic(api, "target", "prod")
    settle(world)
    seen = told(api, first["id"])
    counts = {name: seen[name] for name in ("gone", "removed", "closing", "unverified")}
    assert counts == dict.fromkeys(counts, 1) and seen["safe"] is False
    after = world.grant(lives)
    assert after.removed_at is not None
    until = after.removed_at + SESSION_LIFE
    assert seen["residual_until"] == wire(until)
    assert (
        f"1 removed (a session taken before may act until {until:%Y-%m-%d %H:%M:%S} UTC)"
        in (seen["says"])
    )
    assert world.use(signed_in) is Answer.ALLOWED  # so it is said of something true
    assert {one["id"] for one in seen["still"]} == {refused.id, kept.id}
    assert world.grant(gone).state is GrantState.GONE
    monkeypatch.undo()
    settle(world, 50)
    world.clock.at = until + timedelta(seconds=1)
    settle(world)
    last = told(api, first["id"])
    assert (last["gone"], last["removed"], last["closing"], last["unverified"]) == (3, 0, 0, 1)
    assert last["residual_until"] is None and last["safe"] is False


def _key(world: World, grant: Grant) -> AssignmentKey:
    """The natural key of what a grant holds."""
    (found,) = world.house.store.assignments_named([world.grant(grant).assignment]).values()
    return found.key


@contextmanager
def busy(world: World) -> Iterator[int]:
    """A server whose every thread is in a call that does not come back, and whoever of them finds a
    view of the database free has that, too. Yields its port.
    """
    here, arrived, go = Seen(), threading.Semaphore(0), threading.Event()

    def never(_: Actor) -> dict[str, Any]:
        with ExitStack() as held:
            with suppress(WorldFailed):
                held.enter_context(world.house.store.reading())
            arrived.release()
            go.wait(60)
        return {}

    app = make_app(world.house, world.refusals, replace(here.insight(), doctor=never))
    server, sock = uvicorn.Server(_config(app)), listen("127.0.0.1", 0)
    port, token = sock.getsockname()[1], Api(world, None, here).token("audit")  # type: ignore[arg-type]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
    calls = [http.client.HTTPConnection("127.0.0.1", port, timeout=30) for _ in range(THREADS)]
    with sock, ThreadPoolExecutor(THREADS) as pool:
        set_asyncio_executor(pool)
        thread.start()
        try:
            for call in calls:
                call.request("GET", "/api/doctor", headers=_bearer(token))
            assert all(arrived.acquire(timeout=30) for _ in calls)
            yield port
        finally:
            go.set()
            for call in calls:
                call.close()
            server.should_exit = True
            thread.join(30)
            set_asyncio_executor(None)


def ask(
    port: int, token: str, method: str, path: str, body: Any = None, timeout: float = 10
) -> tuple[int, dict[str, Any]]:
    """One call to a server."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)) as line:
        headers = {**_bearer(token), "Content-Type": "application/json"}
        line.request(method, path, None if body is None else json.dumps(body), headers)
        answer = line.getresponse()
        return answer.status, json.loads(answer.read())


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def test_busy_api_holds_up_a_panic(world: World) -> None:
    """Every thread of the API taken, and every view there is: a panic is sealed, swept and told."""
    grant = world.granted()
    token = Api(world, None, Seen()).token("op")  # type: ignore[arg-type]
    with busy(world) as port:
        with pytest.raises(TimeoutError):  # it is busy indeed
            ask(port, token, "GET", "/api/me", timeout=SLOW)
        status, seen = ask(port, token, "POST", "/api/panics", {"scope": "all", "reason": "r"})
        assert (status, seen["sealed"]) == (202, True), seen
        swept()
        status, seen = ask(port, token, "GET", f"/api/panics/{seen['id']}")
        assert (status, seen["swept"], seen["closing"], seen["grants"]) == (200, True, 1, 1)
        status, listed = ask(port, token, "GET", "/api/panics")
        assert [one["id"] for one in listed["panics"]] == [seen["id"]]
        assert world.grant(grant).state is GrantState.CLOSING
