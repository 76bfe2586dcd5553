"""The log's key is rotated, lost and stolen: the procedures of docs/operations.md, as written, and
a rotation stopped between any two of its steps.
"""

import json
import os
import re
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import chdir, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner

from tests.support import ORIGIN, World
from tidegate.base.errors import AskedWrongly, EvidenceBroken
from tidegate.evidence.archive import read_pack, write_pack
from tidegate.evidence.checkpoint import TrustedKey, parse_checkpoint, parse_keys, sign_checkpoint
from tidegate.evidence.journal import ClosingJournal
from tidegate.evidence.note import FileSigner, parse_signer
from tidegate.evidence.pack import verify_pack
from tidegate.evidence.witnesses import newest_in
from tidegate.flow.proving import pack
from tidegate.main import keys, local
from tidegate.main.config import load_config
from tidegate.main.first import make_installation
from tidegate.main.machine import ThisMachine
from tidegate.main.sandbox_stage import BIN, Told, free_port
from tidegate.main.wiring import clock, open_store, read_signer
from tidegate.shell.cli.commands import make_program
from tidegate.shell.identity import set_password

ROTATE = "tidegate evidence key rotate"
DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
PASSWORD = "a password of some length"
TARGET = """
[[target]]
id = "prod"
connector = "simulated"
account = "123456789012"

[[target.role]]
name = "admin"
arn = "arn:aws:iam::123456789012:role/admin-prod"
"""


def procedure(title: str) -> list[str]:
    """The commands of a section of the operations document, in order."""
    section = DOCS.read_text().partition(f"### {title}\n")[2]
    return re.findall(
        r"^    (\S.*)$", re.split(r"^##", section, flags=re.MULTILINE)[0], re.MULTILINE
    )


@dataclass
class Typed:
    """A shell in the installation's directory; `serve` lines start a server that is stopped later.

    `results` holds the JSON of each `tidegate` command by its line.
    """

    at: Path
    results: dict[str, dict[str, object]] = field(default_factory=dict)
    server: subprocess.Popen[bytes] | None = None
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        """Where the server listens, each time it is started."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Nothing of the caller's but where programs are."""
        home = str(self.at.parent)
        return {"PATH": f"{BIN}:{os.environ['PATH']}", "HOME": home, "TIDEGATE_HOME": f"{home}/me"}

    def type(self, line: str, code: int = 0) -> dict[str, object]:
        """One line, with `/srv/tidegate-2` beside this installation."""
        line = line.replace("/srv/", f"{self.at.parent}/")
        if line.startswith("cd "):
            self.at = Path(line[3:])
            return {}
        if line.startswith("tidegate serve"):
            self.serve()
            return {}
        if not line.startswith("tidegate "):
            self._bash(line)
            return {}
        done = self._rotate() if line == ROTATE else self._here(line)
        assert done.code == code, (line, done.out, done.err)
        found: dict[str, object] = json.loads(done.out or done.err)
        self.results[line] = found
        return found

    def _bash(self, line: str) -> None:
        done = subprocess.run(["bash", "-c", line], cwd=self.at, check=False)
        assert done.returncode == 0, line

    def _rotate(self) -> Told:
        """A process of its own, as what it must keep out are processes."""
        done = subprocess.run(
            [str(BIN / "tidegate"), *ROTATE.split()[1:], "--json"],
            cwd=self.at,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        return Told(done.returncode, done.stdout, done.stderr)

    def _here(self, line: str) -> Told:
        """The same program in this process: starting one for each line takes the most time."""
        words = [*line.split()[1:], "--json"]
        with chdir(self.at):
            done = CliRunner().invoke(make_program(ThisMachine()), words, env=self.environment)
        return Told(done.exit_code, done.stdout, done.stderr)

    def serve(self) -> None:
        """The server of this directory, until it answers: one that only listens takes no signal."""
        self.stop()
        text = (self.at / "tidegate.toml").read_text()
        (self.at / "tidegate.toml").write_text(
            re.sub(r'(listen = ")[^"]*', rf"\g<1>127.0.0.1:{self.port}", text)
        )
        log = (self.at / "server.log").open("ab")
        self.server = subprocess.Popen(
            [str(BIN / "tidegate"), "serve"], cwd=self.at, env=self.environment,
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
        for _ in range(200):
            try:
                urllib.request.urlopen(f"{self.url}/api/", timeout=1).close()
            except urllib.error.HTTPError:
                return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError((self.at / "server.log").read_text()[-800:])

    def stop(self) -> None:
        """The server ends and is reaped."""
        if self.server is not None:
            self.server.send_signal(signal.SIGTERM)
            self.server.wait(10)
            self.server = None


@contextmanager
def typing(at: Path) -> Iterator[Typed]:
    """A shell whose server ends with it."""
    made = Typed(at)
    try:
        yield made
    finally:
        made.stop()


@dataclass
class Home:
    """An installation with an ended grant, an open one, a pack and a witnessed checkpoint."""

    path: Path
    pack: Path
    middle: str
    open_grant: str

    @property
    def config(self) -> Path:
        """Its settings."""
        return self.path / "tidegate.toml"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    """Made in this process, on the production code, with a clock of its own."""
    path = tmp_path / "tidegate"
    made = make_installation(path, ORIGIN)
    made.config.write_text(made.config.read_text() + TARGET)
    world = World(path, signer=read_signer(load_config(made.config)))
    set_password(world.house, "op", PASSWORD)
    grant = world.granted()
    middle = world.house.store.head().checkpoint_text
    world.clock.forward(minutes=31)
    world.work()
    _, data = pack(
        world.house, (TrustedKey(key=world.signer.verifier()),), world.who("ana"), grant.id
    )
    (path / "pack.zip").write_bytes(data)
    still = world.granted("eve")
    (path / "witness" / "latest").write_text(world.house.store.head().checkpoint_text)
    world.down()
    (path / "first.vkey").write_text((path / "keys" / "log.vkey").read_text())
    return Home(path=path, pack=path / "pack.zip", middle=middle, open_grant=still.id)


def known(path: Path) -> list[str]:
    """Ids of the public keys in the key file, the newest last."""
    return [held.key.key_id.hex() for held in parse_keys((path / "keys/log.vkey").read_text())]


def test_rotation_as_documented(home: Home) -> None:
    """The key changes as written; what was made before verifies with the old key file and the new,
    a client that met the server before follows, and the witness gets the new key's checkpoints.
    """
    with typing(home.path) as shell:
        (home.path / "password").write_text(PASSWORD)
        shell.serve()
        refused = shell.type("tidegate evidence key rotate", 2)
        assert refused["code"] == "already_running"
        shell.type(f"tidegate login {shell.url} --login op --password-file password")
        assert shell.type("tidegate evidence checkpoint")["seen_before"] is None
        shell.stop()
        for line in procedure("Rotate the key"):
            shell.type(line)
        told = shell.results["tidegate evidence key rotate"]
        assert known(home.path)[-1] == str(told["after"]).split("+")[1]
        assert (home.path / "log.vkey").read_text() == (home.path / "keys/log.vkey").read_text()
        assert (home.path / "keys/log.key").stat().st_mode & 0o777 == 0o600
        assert (home.path / str(told["kept"])).stat().st_mode & 0o777 == 0o600
        for key in ("first.vkey", "log.vkey"):
            trusted = parse_keys((home.path / key).read_text())
            assert verify_pack(home.pack.read_bytes(), trusted).ok
        before = shell.type("tidegate evidence checkpoint")
        assert isinstance(before["seen_before"], int)
        (remembered,) = (home.path.parent / "me" / "seen").glob("*.keys")
        assert remembered.read_text() == (home.path / "log.vkey").read_text()
        shell.stop()
    after = read_signer(load_config(home.config))
    newest = newest_in(home.path / "witness")
    assert newest is not None and f"— {ORIGIN} " in newest
    assert parse_checkpoint(newest).size > int(str(told["event"]))
    assert after.verifier().text() == told["after"]


def test_lost_key_as_documented(home: Home) -> None:
    """Without its key the log still verifies and does not go on; a new log names where it ended and
    closes what the journal holds.
    """
    (home.path / "keys" / "log.key").unlink()
    final = (home.path / "witness" / "latest").read_text()
    with pytest.raises(AskedWrongly, match="keys/log"):
        local.key_rotate(home.config)
    with typing(home.path) as shell:
        for line in procedure("The key was lost"):
            shell.type(line)
            if line.startswith("cp -p closing.journal"):
                new = home.path.parent / "tidegate-2" / "tidegate.toml"
                new.write_text(new.read_text() + TARGET)
        old = next(told for line, told in shell.results.items() if "--key old.vkey" in line)
        assert (old["ok"], old["origin"]) == (True, ORIGIN)
        journal = ClosingJournal(home.path.parent / "tidegate-2" / "closing.journal")
        for _ in range(100):
            closed = {line.grant for line in journal.read() if line.kind == "removed"}
            if home.open_grant in closed:
                break
            time.sleep(0.1)
        assert home.open_grant in closed
    store = open_store(load_config(home.path.parent / "tidegate-2" / "tidegate.toml"))
    sealed = orjson.loads(store.events("rules")[0][1])["data"]["digest"]
    document = (store.document(sealed) or b"").decode()
    store.close()
    assert all(line in document for line in final.splitlines()[:3])


def forged(home: Home, size: int) -> str:
    """What a thief of the key signs: another history of that size."""
    thief = parse_signer((home.path / "keys" / "log.key").read_text())
    real = parse_checkpoint(home.middle)
    return sign_checkpoint(
        type(real)(origin=real.origin, size=size or real.size, root=b"f" * 32), thief
    )


def test_stolen_key_as_documented(home: Home) -> None:
    """After the rotation nothing the thief signs holds: behind the change by the key alone, before
    it by comparing with the log.
    """
    early, late = forged(home, 0), forged(home, 10_000)
    thiefs = read_pack(home.pack.read_bytes())
    shown = write_pack(
        type(thiefs)(**{n: getattr(thiefs, n) for n in thiefs.__slots__} | {"checkpoint": early})
    )
    with typing(home.path) as shell:
        for line in procedure("The key was stolen"):
            if line.startswith("unzip"):
                shell.stop()
                (home.path / "genuine.zip").write_bytes(home.pack.read_bytes())
                home.pack.write_bytes(shown)
                shell.type(line)
                found = shell.type("tidegate evidence verify --since their.checkpoint", 5)
                assert found["findings"][0]["code"] == "rewritten"  # type: ignore[index]
                with pytest.raises(EvidenceBroken, match="which signs sizes 0-"):
                    local.verify_log(home.config, (late,))
                home.pack.write_bytes((home.path / "genuine.zip").read_bytes())
            shell.type(line)
        assert not list((home.path / "keys").glob("*until*"))
        assert newest_in(home.path / "witness-before") != newest_in(home.path / "witness")


def state(home: Home) -> tuple[str, str, list[str]]:
    """After the next start: the key that signs, by file and by log, and what lies beside it."""
    config = load_config(home.config)
    store = open_store(config)
    signer = read_signer(config)
    found = keys.log_keys(store, signer.verifier())[-1].key.key_id.hex()
    signed = store.head().checkpoint_text
    store.close()
    parse = [
        held.key.key_id.hex() for held in parse_keys((home.path / "keys/log.vkey").read_text())
    ]
    assert parse[-1] == found == signer.key_id.hex()
    assert local.verify_log(home.config, ()).ok
    assert local.verify_log(home.config, (home.middle,), (home.path / "first.vkey").read_text()).ok
    names = sorted(path.name for path in (home.path / "keys").iterdir())
    return signer.key_id.hex(), signed, names


class Stopped(BaseException):
    """The process is gone here."""


STEPS = [
    "nothing done",
    "new key written",
    "sealed",
    "before files",
    "old key kept",
    "public written",
]


@pytest.mark.parametrize("step", range(len(STEPS)), ids=STEPS)
def test_rotation_stopped_between_steps(
    home: Home, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped anywhere, the next start has the old key or the new one, whole, and can rotate."""
    config = load_config(home.config)
    old = read_signer(config)
    new = old
    if step >= 1:
        new = keys.prepare(keys.key_files(config), ORIGIN, os.urandom)
    if step >= 2:
        keys.seal(config, new, clock)
    if step >= 3:
        replaced = Path.replace
        left = [step - 3]

        def until(self: Path, target: Path) -> Path:
            if not left[0]:
                raise Stopped
            left[0] -= 1
            return replaced(self, target)

        monkeypatch.setattr(Path, "replace", until)
        with suppress(Stopped):
            open_store(config).close()
        monkeypatch.undo()
    key, _, names = state(home)
    assert key == (new if step >= 2 else old).key_id.hex()
    assert ("log.key.next" in names) is (step == 1)
    assert sum("until" in name for name in names) == (step >= 2)
    told = local.key_show(home.config)
    assert told["left_over"] is (step == 1)
    made = local.key_rotate(home.config)
    assert state(home)[0] == made["after"].split("+")[1]
    assert "log.key.next" not in state(home)[2]


def test_key_from_elsewhere_is_rotated(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key in the environment or behind a link is refused in words, and nothing is changed."""
    key = home.path / "keys" / "log.key"
    monkeypatch.setenv("TIDEGATE_TEST_LOG_KEY", key.read_text())
    before = home.config.read_text()
    home.config.write_text(before.replace("file:keys/log.key", "env:TIDEGATE_TEST_LOG_KEY"))
    with pytest.raises(AskedWrongly, match="from the environment"):
        local.key_rotate(home.config)
    home.config.write_text(before)
    key.rename(home.path / "elsewhere")
    key.symlink_to(home.path / "elsewhere")
    with pytest.raises(AskedWrongly, match="a link"):
        local.key_rotate(home.config)
    assert isinstance(read_signer(load_config(home.config)), FileSigner)
