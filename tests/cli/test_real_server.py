"""The command line against the real API: both sides of the contract in one run."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.cli.conftest import Ran, Shell
from tests.cli.fake import FakeLocal
from tests.support import World
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.flow.proving import pack
from tidegate.shell.api import Insight, make_app
from tidegate.shell.api.serving import listen
from tidegate.shell.identity import set_password

PASSWORD = "long enough for all"
ASK = ("request", "prod/admin", "--for", "30m", "--reason", "roll back")


@dataclass
class Town:
    """People at their own machines, and the server they share."""

    world: World
    url: str
    directory: Path

    def at(self, login: str, *words: str, typed: str | None = None) -> Ran:
        """What `login` types, signed in at the first use."""
        home = self.directory / login
        environment = {"TIDEGATE_HOME": str(home), "HOME": str(home)}
        shell = Shell(FakeLocal(), home, environment)
        if not (home / "client.json").exists():
            sign_in = ("login", self.url, "--login", login, "--password-file", "-")
            assert shell(*sign_in, typed=PASSWORD + "\n").code == 0
        return shell(*words, typed=typed)


def insight(world: World) -> Insight:
    """What `main` wires, as far as it is compared here."""
    house, store = world.house, world.house.store

    def nothing(*_: object) -> dict[str, Any]:
        return {}

    def consistency(old: int) -> dict[str, Any]:
        hashes = [part.hex() for part in store.consistency(old)]
        return {"hashes": hashes, "checkpoint": store.head().checkpoint_text}

    return Insight(
        trace=nothing,
        verify=nothing,
        paths=nothing,
        doctor=nothing,
        pack=lambda actor, some_id: pack(
            house, (TrustedKey(key=world.signer.verifier()),), actor, some_id
        ),
        checkpoint=lambda: store.head().checkpoint_text,
        keys=lambda: world.signer.verifier().text() + "\n",
        consistency=consistency,
        lateness=nothing,
    )


@contextmanager
def served(world: World) -> Iterator[str]:
    """The world behind a real port, and its sure end; yields its URL."""
    app = make_app(world.house, world.refusals, insight(world))
    with listen("127.0.0.1", 0) as sock:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="none"))
        thread = threading.Thread(target=server.run, args=([sock],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def town(world: World, tmp_path: Path) -> Iterator[Town]:
    """The world behind a real port, where ana and bo sign in."""
    for login in ("ana", "bo"):
        set_password(world.house, login, PASSWORD)
    with served(world) as url:
        yield Town(world, url, tmp_path / "people")


def test_contract_from_request_to_evidence(town: Town, tmp_path: Path) -> None:
    """Asked, shown, approved by somebody else, opened, ended, packed and verified offline."""
    assert "prod/admin" in town.at("ana", "targets").out
    assert town.at("ana", *ASK, "--preview").code == 0
    refused = town.at("ana", "request", "prod/admin", "--for", "9h", "--reason", "r", "--preview")
    assert refused.code == 3, refused.out
    asked = town.at("ana", *ASK, "--json").json
    assert "prod/admin" in town.at("bo", "requests", "--waiting").out
    assert town.at("ana", "approve", asked["id"], "--yes").code == 3
    edited = town.at("ana", "request", "--edit", asked["id"], "--for", "20m", "--json").json
    assert edited["digest"] != asked["digest"]
    stale = town.at("bo", "approve", asked["id"], "--yes", "--digest", asked["digest"])
    assert stale.code == 2
    voted = town.at("bo", "approve", asked["id"], "--yes", "--digest", edited["digest"])
    assert (voted.code, "approved" in voted.out) == (0, True)
    town.world.work()
    grant = town.at("ana", "grants", asked["id"], "--json").json
    assert (grant["state"], grant["remaining_seconds"]) == ("open", 1200)
    assert "20m" in town.at("ana", "grants").out
    revoked = town.at("bo", "revoke", grant["id"], "--comment", "wrong account", "--json").json
    assert revoked["state"] in ("closing", "removed", "gone")
    town.world.work()
    path, key = tmp_path / "p.zip", tmp_path / "k"
    assert town.at("ana", "evidence", "pack", grant["id"], "-o", str(path)).code == 0
    assert town.at("ana", "evidence", "key", "-o", str(key)).code == 0
    verified = town.at("ana", "evidence", "verify", str(path), "--key", str(key))
    assert verified.code == 0, verified.out
    listed = town.at("ana", "evidence", "list", str(path)).out
    assert "request.edited" in listed and "grant.closing" in listed


def test_contract_of_a_checkpoint_that_grows(town: Town) -> None:
    """The real log proves that it extends what was seen before."""
    assert town.at("ana", "evidence", "checkpoint").code == 0
    assert town.at("ana", *ASK).code == 0
    ran = town.at("ana", "evidence", "verify")
    assert (ran.code, "extends" in ran.out) == (0, True), ran.err


def test_contract_of_refusals(town: Town) -> None:
    """Unknown names, foreign things and bad input come back in the server's words."""
    unknown = town.at("ana", "request", "prod/none", "--for", "5m", "--reason", "r")
    assert (unknown.code, "`prod/none`" in unknown.err) == (2, True)
    hidden = town.at("ana", "request", "prod/admin", "--for", "5m", "--reason", "a\x1b[31mb")
    assert hidden.code == 2 and "\x1b" not in hidden.err
    huge = town.at("ana", "request", "prod/admin", "--for", "5m", "--reason", "x" * 100_000)
    assert huge.code == 2
    assert town.at("ana", "grants", "gr_" + "0" * 26).code == 2
    assert town.at("ana", "requests", "--all").code == 3
    assert town.at("ana", "doctor").code == 3
    asked = town.at("ana", *ASK, "--json").json
    assert town.at("ana", "withdraw", asked["id"]).code == 0
    assert town.at("ana", "withdraw", asked["id"]).code == 2
    assert town.at("bo", "approve", asked["id"], "--yes").code in (2, 3)
    assert town.at("ana", "logout").code == 0
    assert town.at("ana", "requests").code == 3
