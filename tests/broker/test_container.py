"""The loopback endpoint, asked by the real AWS client library."""

import http.client
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from botocore.credentials import ContainerProvider, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from botocore.session import Session
from botocore.utils import ContainerMetadataFetcher

from tests.broker.test_holding import World
from tidegate.base.errors import AskedWrongly, Unreachable
from tidegate.broker.child import Mode, child_environment, read_settings, run_with
from tidegate.broker.container import Endpoint


def token() -> str:
    return secrets.token_urlsafe(32)


@pytest.fixture
def world() -> World:
    """A grant that ends in nine minutes of the real clock: botocore must ask on every call."""
    world = World()
    world.now = datetime.now(UTC)
    world.ends_at = world.now + timedelta(minutes=9)
    return world


@pytest.fixture
def endpoint(world: World) -> Iterator[Endpoint]:
    with Endpoint(world.holding, token) as opened:
        yield opened


def credentials(endpoint: Endpoint) -> RefreshableCredentials:
    """botocore's own, by its own provider; only its pauses between tries are left out."""
    provider = ContainerProvider(
        environ={
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": endpoint.uri,
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": endpoint.token,
        },
        fetcher=ContainerMetadataFetcher(sleep=lambda seconds: None),
    )
    loaded = provider.load()
    assert isinstance(loaded, RefreshableCredentials)
    return loaded


def get(
    endpoint: Endpoint, *, path: str | None = None, headers: Mapping[str, str] | None = None
) -> tuple[int, dict[str, str]]:
    url = urlsplit(endpoint.uri)
    line = http.client.HTTPConnection("127.0.0.1", url.port or 0, timeout=5)
    line.request("GET", url.path if path is None else path, headers=headers or {})
    reply = line.getresponse()
    content = json.loads(reply.read())
    line.close()
    return reply.status, content


def test_thousand_refreshes_mint_once(endpoint: Endpoint, world: World) -> None:
    """botocore asks the endpoint on each of 1,000 calls; the server sees one session."""
    served = credentials(endpoint)
    keys = {served.get_frozen_credentials().access_key for _ in range(1_000)}
    assert keys == {"ASIA1"}
    assert (world.mints, world.looks) == (1, 0)


def test_thousand_refreshes_with_an_extension_mint_twice(endpoint: Endpoint, world: World) -> None:
    """A process that keeps running is given the keys of the new end without a failing call."""
    served = credentials(endpoint)
    keys = []
    for call in range(300):
        if call == 100:
            world.ends_at += timedelta(minutes=5)
            world.now += timedelta(minutes=5)
        keys.append(served.get_frozen_credentials().access_key)
    assert (keys[0], keys[99], keys[100], keys[-1]) == ("ASIA1", "ASIA1", "ASIA2", "ASIA2")
    assert world.mints == 2


def test_after_the_end_botocore_shows_our_message(endpoint: Endpoint, world: World) -> None:
    """The refusal names the grant and its end, and the keys are no longer in memory."""
    served = credentials(endpoint)
    world.now = world.ends_at
    with pytest.raises(CredentialRetrievalError, match=r"AccessEnded.*gr_one ended at") as told:
        served.get_frozen_credentials()
    assert "hidden" not in str(told.value)
    assert not world.holds_keys()


def test_unreachable_server_is_told_as_such(endpoint: Endpoint, world: World) -> None:
    """No keys and no server is 503: callers may try again."""
    world.now = world.ends_at
    world.fault = Unreachable("unreachable", "cannot reach the server")
    status, said = get(endpoint, headers={"Authorization": endpoint.token})
    assert (status, said["Code"], said["Message"]) == (
        503,
        "Unavailable",
        "cannot reach the server",
    )


def test_wrong_token_or_path_gets_nothing(endpoint: Endpoint) -> None:
    """Another account of this machine can reach the port but has neither text."""
    assert get(endpoint)[0] == 403
    for wrong in ("", "x", endpoint.token[:-1], endpoint.token + "x", f"Bearer {endpoint.token}"):
        status, said = get(endpoint, headers={"Authorization": wrong})
        assert (status, said) == (403, {"Code": "WrongToken", "Message": "wrong token"})
    for path in ("/", urlsplit(endpoint.uri).path + "x", "/é"):
        assert endpoint.answer(path, endpoint.token)[0] == 404
    assert get(endpoint, path="/", headers={"Authorization": endpoint.token})[0] == 404
    assert get(endpoint, headers={"Authorization": endpoint.token})[0] == 200


def test_endpoint_listens_on_loopback_only(endpoint: Endpoint) -> None:
    """The address is 127.0.0.1, on a port the system chose."""
    assert endpoint._server is not None
    assert endpoint._server.server_address[0] == "127.0.0.1"


def test_silent_callers_do_not_keep_others_out(endpoint: Endpoint) -> None:
    """Sockets that connect and say nothing take places, and leave one for who asks."""
    port = urlsplit(endpoint.uri).port or 0
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(32)]
    try:
        assert get(endpoint, headers={"Authorization": endpoint.token})[0] == 200
    finally:
        for line in silent:
            line.close()


def test_closed_endpoint_keeps_nothing(world: World) -> None:
    """After the command there is no port, no thread and no key."""
    before = threading.active_count()
    with Endpoint(world.holding, token) as endpoint:
        port = urlsplit(endpoint.uri).port or 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert not world.holds_keys()
    assert threading.active_count() == before


def test_refusal_comes_before_anything_listens(world: World) -> None:
    """Entering asks first, so no command is started for a grant that gives nothing."""
    world.fault = Unreachable("unreachable", "cannot reach the server")
    with pytest.raises(Unreachable), Endpoint(world.holding, token):
        pytest.fail("the endpoint opened without keys")


@pytest.mark.parametrize("source", [lambda: "short", lambda: "same" * 20])
def test_weak_token_source_is_our_bug(world: World, source: object) -> None:
    """Texts that are short or repeat are never served with."""
    with pytest.raises(RuntimeError):
        Endpoint(world.holding, source)  # type: ignore[arg-type]


@pytest.fixture
def machine(tmp_path: Path) -> dict[str, str]:
    """A person's environment with every other way to keys set."""
    folder = tmp_path / ".aws"
    folder.mkdir()
    (folder / "config").write_text(
        "[default]\nregion = eu-west-1\noutput = json\ncredential_process = /bin/false\n"
        "[profile work]\nregion = eu-north-1\ns3 =\n  addressing_style = path\n"
    )
    (folder / "credentials").write_text(
        "[default]\naws_access_key_id = AKIAOWN\naws_secret_access_key = own\n"
        "[work]\naws_access_key_id = AKIAWORK\naws_secret_access_key = work\n"
    )
    return {
        "HOME": str(tmp_path),
        "PATH": os.environ["PATH"],
        "AWS_PROFILE": "work",
        "AWS_ACCESS_KEY_ID": "AKIAENV",
        "AWS_SECRET_ACCESS_KEY": "env",
        "AWS_SESSION_TOKEN": "env",
        "AWS_CREDENTIAL_EXPIRATION": "2020-01-01T00:00:00Z",
        "AWS_ROLE_ARN": "arn:aws:iam::1:role/x",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/nonexistent",
    }


def found(env: Mapping[str, str]) -> tuple[str, str, str]:
    """What a botocore session in that environment finds: key, method, region."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        session = Session()
        keys = session.get_credentials()
        return keys.access_key, keys.method, session.get_config_variable("region")


@pytest.mark.parametrize("mode", list(Mode))
def test_childs_keys_are_the_grants_and_no_others(
    endpoint: Endpoint, machine: dict[str, str], mode: Mode
) -> None:
    """Files, profiles and variables with other keys all lose; the profile's region stays."""
    own = {name: value for name, value in machine.items() if name != "AWS_CREDENTIAL_EXPIRATION"}
    assert found(own)[0] == "AKIAENV"
    made = child_environment(endpoint, machine, read_settings(machine), mode)
    method = "env" if mode is Mode.ENV else "container-role"
    assert found(made) == ("ASIA1", method, "eu-north-1")
    assert "AWS_CREDENTIAL_EXPIRATION" not in made
    assert ("hidden-1" in made.values()) == (mode is Mode.ENV)


def test_variables_win_over_the_files_settings(endpoint: Endpoint, machine: dict[str, str]) -> None:
    """What the person exported is not replaced by what their file says."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        env = {**machine, name: "us-west-2"}
        made = child_environment(endpoint, env, read_settings(env), Mode.ENDPOINT)
        assert {made.get("AWS_REGION"), made.get("AWS_DEFAULT_REGION")} <= {"us-west-2", None}


def test_settings_without_a_file_or_profile_are_none(machine: dict[str, str]) -> None:
    """No file, no such profile: no settings; a broken file is told."""
    assert read_settings({**machine, "AWS_PROFILE": "none"}) == {}
    assert read_settings({"AWS_CONFIG_FILE": "/nonexistent"}) == {}
    (Path(machine["HOME"]) / "broken").write_text("region = eu-west-1\n")
    with pytest.raises(AskedWrongly, match="MissingSectionHeaderError"):
        read_settings({"AWS_CONFIG_FILE": f"{machine['HOME']}/broken"})


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 37", 37), ("kill -9 $$", 137), ("kill $$", 143)]
)
def test_childs_exit_code_is_ours(
    endpoint: Endpoint, machine: dict[str, str], script: str, code: int
) -> None:
    """What the command ends with is what the caller's script sees."""
    assert run_with(endpoint, ["sh", "-c", script], machine) == code


@pytest.mark.parametrize("argv", [[], ["/nonexistent/tool"], ["/etc/passwd"]])
def test_command_that_cannot_start_is_told(
    endpoint: Endpoint, machine: dict[str, str], argv: list[str]
) -> None:
    """No command, no such command, no right to run it: one sentence, and handlers put back."""
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(AskedWrongly):
        run_with(endpoint, argv, machine)
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_signal_reaches_the_child(
    endpoint: Endpoint, machine: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    """A signal to us is the child's to answer; we end when it ends, with its code."""
    ready = tmp_path / "ready"
    script = (
        "import os, signal, sys, time\n"
        f"signal.signal({int(number)}, lambda *_: sys.exit(9))\n"
        f"open({str(ready)!r}, 'w').close()\n"
        "time.sleep(10)\n"
    )

    def send() -> None:
        until = time.monotonic() + 5
        while not ready.exists() and time.monotonic() < until:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    # What runs in the background of a script ignores some, and so would the child.
    before = signal.signal(number, signal.SIG_DFL)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "stdin", None)
            sender = threading.Thread(target=send)
            sender.start()
            assert run_with(endpoint, [sys.executable, "-c", script], machine) == 9
            sender.join()
    finally:
        signal.signal(number, before)


def test_real_child_gets_keys_from_the_endpoint(
    endpoint: Endpoint, machine: dict[str, str], tmp_path: Path
) -> None:
    """A process of its own, with the AWS library unchanged, runs as the grant."""
    out = tmp_path / "out"
    script = (
        "from botocore.session import Session\n"
        f"open({str(out)!r}, 'w').write(Session().get_credentials().access_key)\n"
    )
    assert run_with(endpoint, [sys.executable, "-c", script], machine) == 0
    assert out.read_text() == "ASIA1"


def test_ignored_signals_stay_ignored(endpoint: Endpoint, machine: dict[str, str]) -> None:
    """Under `nohup` the child ignores the hang-up as well."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        code = run_with(endpoint, ["sh", "-c", "kill -HUP $$; exit 5"], machine)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert code == 5


def test_endpoint_import_is_no_work() -> None:
    """Importing the room starts no thread and opens no socket."""
    code = "import threading, tidegate.broker.child as c; print(threading.active_count())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "1"
