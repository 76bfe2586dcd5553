"""Everything an installation says of one grant: each API answer, drawing, report and table.

A new output belongs here: `test_words_said.py` then holds it to the words it may use.
"""

import io
import json
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from click.testing import CliRunner
from litestar.testing import TestClient

from tests.cli.fake import TOKEN, FakeLocal, FakeServer
from tests.support import World
from tidegate.diagnose.doctor import InForce, Places, Published, examine, look
from tidegate.evidence.checkpoint import TrustedKey
from tidegate.flow.proving import pack
from tidegate.grant import Grant
from tidegate.main.insight import trace_of, verified, ways
from tidegate.main.wiring import Running
from tidegate.shell.api import Insight, make_app
from tidegate.shell.cli.commands import make_program
from tidegate.shell.cli.local import Local
from tidegate.shell.identity import make_token

ASKER = "op"  # may see everything


@dataclass(frozen=True, slots=True)
class Output:
    """One thing somebody reads. `looks`: it is of the cloud as it is now, not of evidence alone."""

    name: str
    text: str
    looks: bool


class Outputs:
    """Asks a world for all of them, over the real API and through the real command line."""

    def __init__(self, world: World, server: FakeServer) -> None:
        self._world = world
        self._server = server
        house = world.house
        running = cast(Running, SimpleNamespace(house=house))
        keys = (TrustedKey(key=world.signer.verifier()),)

        def doctor(_: object) -> Any:
            found = look(
                house.store,
                house.connectors,
                InForce(
                    rules=house.laws.rules,
                    catalogue=house.laws.catalogue,
                    groups=house.laws.groups.names,
                ),
                keys=keys,
                witness=Published(configured=False, published_size=0, published_at=None),
                places=Places(
                    database=world.directory / "tidegate.db",
                    journal=world.directory / "closing.journal",
                ),
                clock=house.now,
            )
            return examine(found).as_json()

        insight = Insight(
            trace=lambda actor, name: trace_of(running, actor, name).as_json(),
            verify=lambda actor, name: verified(running, actor, name).as_json(),
            paths=lambda actor, person, target: ways(running, actor, person, target).as_json(),
            doctor=doctor,
            pack=lambda actor, name: pack(house, keys, actor, name),
            checkpoint=lambda: house.store.head().checkpoint_text,
            keys=lambda: world.signer.verifier().text() + "\n",
            consistency=lambda old: {},
            lateness=lambda actor, since, by, target: {"groups": []},
        )
        self._client = TestClient(make_app(house, world.refusals, insight)).__enter__()
        self._token, _ = make_token(house, world.who(ASKER).id, "test", house.now())

    def close(self) -> None:
        """Stop asking."""
        self._client.__exit__(None, None, None)

    def all(self, grant: Grant) -> Iterator[Output]:
        """Every output about `grant`, and those in which it could appear."""
        request, target = grant.request, grant.role.partition("/")[0]
        asked = {
            f"/api/grants/{grant.id}": ("grants", grant.id),
            "/api/grants?view=all": ("grants", "--all"),
            f"/api/requests/{request}": ("requests", request),
            "/api/requests?view=all": ("requests", "--all"),
            f"/api/trace/{grant.id}": ("trace", grant.id),
            f"/api/verify/{grant.id}": ("verify", grant.id),
            f"/api/paths?person=ana&target={target}": ("paths", "ana", target),
            "/api/doctor": ("doctor",),
        }
        for path, words in asked.items():
            method = "POST" if "/verify/" in path else "GET"
            plain = self._asked(method, path).json()
            looks = words[0] in ("verify", "paths")
            yield Output(f"{method} {path}", " | ".join(values(plain)), looks)
            self._server.on(method, path.partition("?")[0], plain)
            yield Output("tidegate " + " ".join(words), self._typed(*words), looks)
        packed = self._asked("GET", f"/api/evidence/pack/{grant.id}").content
        with zipfile.ZipFile(io.BytesIO(packed)) as archive:
            (page,) = [name for name in archive.namelist() if name.endswith(".html")]
            yield Output("report", archive.read(page).decode(), looks=False)

    def _asked(self, method: str, path: str) -> Any:
        headers = {"Authorization": f"Bearer {self._token}"}
        answer = self._client.request(method, path, headers=headers)
        assert answer.status_code == 200, (path, answer.text)
        return answer

    def _typed(self, *words: str) -> str:
        home = self._world.directory / "home"
        environment = {
            "TIDEGATE_HOME": str(home),
            "TIDEGATE_SERVER": self._server.url,
            "TIDEGATE_TOKEN": TOKEN,
        }
        ran = CliRunner().invoke(
            make_program(cast(Local, FakeLocal())), list(words), env=environment
        )
        assert ran.exit_code in (0, 1, 4), (words, ran.output)
        return str(ran.stdout)


def values(plain: object) -> Iterator[str]:
    """Every text in an answer. Names of fields are no claims."""
    if isinstance(plain, dict):
        for value in plain.values():
            yield from values(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from values(value)
    elif isinstance(plain, str):
        yield plain
    else:
        json.dumps(plain)
