"""What happens in every demo: somebody asks and gets, and the evidence is packed and checked."""

import signal
from typing import Any

from tidegate.base.errors import WorldFailed
from tidegate.main.stage import SQLITE, StageOf
from tidegate.main.telling import Telling

Plain = dict[str, Any]


def opening(cloud: str, database: str) -> str:
    """What is told while the stage is made."""
    servers = "a server" if database == SQLITE else "PostgreSQL with two servers on it"
    return f"starting {cloud} and {servers} on free loopback ports …"


def one_killed(stage: StageOf, told: Telling) -> None:
    """SIGKILL for the first of two servers; the other goes on alone."""
    first, other = stage.servers
    first.signal(signal.SIGKILL)
    told.check(
        "one_dead",
        not first.answers() and other.answers(),
        "the first server's process group got SIGKILL, the other is all there is",
    )


def request(stage: StageOf, told: Telling, person: str, role: str, reason: str, span: str) -> Plain:
    """`person` asks; the request. `reason` starts with the ticket's name.

    Raises WorldFailed when it was refused.
    """
    ticket = reason.split()[0]
    words = ("--for", span, "--reason", reason, "--ticket", ticket, "--json")
    asked = stage.tidegate(person, "request", role, *words)
    if asked.code:
        raise WorldFailed("demo_request", f"`{person}` could not ask: {asked.error}", "")
    found = asked.json()
    told.tell(f"{person} asks for {role} for {span}: {found['says']}")
    return found


def approve(stage: StageOf, told: Telling, asked: Plain) -> Plain:
    """bo approves, and it opens; the grant."""
    voted = stage.tidegate("bo", "approve", asked["id"], "--yes", "--json")
    told.tell(f"bo approves exactly what was shown: {voted.json().get('says', voted.err)}")
    grant = stage.wait_for(asked["principal"]["login"], asked["id"], "open", "failed")
    told.check(
        f"opened_{grant.get('id', '?')}",
        grant.get("state") == "open",
        f"{grant.get('says', grant)}",
    )
    return grant


def pack_checks(stage: StageOf, told: Telling, grant: str, name: str, word: bytes) -> None:
    """The evidence pack verifies with nothing but the key, and not with a letter of `word` changed.

    `word` is in the pack once or more, and at least two bytes long.
    """
    path = stage.directory / f"{name}.pack.zip"
    packed = stage.tidegate("bo", "evidence", "pack", grant, "-o", str(path))
    checked = stage.tidegate(
        "cy", "evidence", "verify", str(path), "--key", str(stage.key_file), "--json"
    )
    ok = packed.code == 0 and checked.code == 0 and checked.json().get("ok") is True
    told.check(f"pack_{name}", ok, "the evidence pack verifies offline, with nothing but the key")
    data = bytearray(path.read_bytes())
    data[data.find(word) + len(word) - 1] ^= 1
    forged = path.with_name(f"{name}.forged.zip")
    forged.write_bytes(bytes(data))
    caught = stage.tidegate("cy", "evidence", "verify", str(forged), "--key", str(stage.key_file))
    told.check(f"forged_{name}", caught.code != 0, "one letter changed in it, and it does not")
