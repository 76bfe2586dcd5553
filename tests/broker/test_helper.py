"""The `credential_process` helper: what it prints, when it asks, and what it leaves on disk."""

import json
import os
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.session import Session
from hypothesis import given
from hypothesis import strategies as st

from tests.broker.conftest import HELPER, MINUTE, T0, Desk
from tests.broker.fake_server import SECRETS, serving
from tidegate.base.when import from_ms, wire
from tidegate_credentials import run
from tidegate_credentials.cache import Stop, cache_path, instant, is_instant, open_cache
from tidegate_credentials.keeping import forget
from tidegate_credentials.renewing import refresh_at

ASK_AGAIN = "ask again: tidegate request aws-prod/admin --for 1h --reason '…'"


def stopped(desk: Desk, now: float, *arguments: str) -> str:
    with pytest.raises(Stop) as told:
        desk.at(now, *arguments)
    line = str(told.value)
    assert "\n" not in line and not any(secret in line for secret in SECRETS)
    return line


def test_prints_the_agreed_json_with_the_grants_end(desk: Desk) -> None:
    """AWS clients read Version 1 and the five fields; `Expiration` is the end of the grant."""
    assert json.loads(desk.at(T0)) == {
        "Version": 1,
        "AccessKeyId": "ASIAEXAMPLE1",
        "SecretAccessKey": "secret-of-session-1",
        "SessionToken": "token-of-session-1",
        "Expiration": instant(T0 + 10 * MINUTE),
    }


def test_many_calls_mint_once(desk: Desk) -> None:
    """1,000 calls over the whole window ask the server for one session."""
    for call in range(1_000):
        desk.at(T0 + call * 0.59)
    assert (desk.server.mints, desk.server.asked) == (1, 1)


def test_botocore_that_asks_on_every_call_mints_once(desk_now: Desk, tmp_path: Path) -> None:
    """A real botocore session starts the real command anew for each call, and one session serves.

    60 spawns stand for 1,000: each is a process of its own that knows of the others by the cache
    only, so the 61st is as the 2nd.
    """
    config = tmp_path / "config"
    log = tmp_path / "spawned"
    script = tmp_path / "counted"
    script.write_text(f'#!/bin/sh\necho >> "{log}"\nexec "{HELPER}" "$@"\n')
    script.chmod(0o700)
    config.write_text(f"[profile tg]\ncredential_process = {script} aws-prod/admin\n")
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**desk_now.environment, "AWS_CONFIG_FILE": str(config)}.items():
            patch.setenv(name, value)
        credentials = Session(profile="tg").get_credentials()
        seen = {credentials.get_frozen_credentials().access_key for _ in range(59)}
    assert seen == {"ASIAEXAMPLE1"}
    assert len(log.read_text().splitlines()) == 60
    assert (desk_now.server.mints, desk_now.server.resolves) == (1, 1)


def test_helpers_started_together_mint_once(desk_now: Desk) -> None:
    """Eight processes that all find an empty cache wait for the one that asks."""
    desk_now.server.pause.clear()
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(desk_now.spawn) for _ in range(8)]
        time.sleep(0.4)
        desk_now.server.pause.set()
        printed = [spawn.result().stdout for spawn in running]
    assert len(set(printed)) == 1 and "ASIAEXAMPLE1" in printed[0]
    assert desk_now.server.mints == 1


def test_killed_server_does_not_take_keys_away(desk_now: Desk) -> None:
    """With every Tidegate process dead the command still prints the cached keys, to the end."""
    for name in ("gr_one", "aws-prod/admin"):
        before = desk_now.spawn(name)
        assert before.returncode == 0, before.stderr
    desk_now.server.kill()
    for name in ("gr_one", "aws-prod/admin"):
        assert desk_now.spawn(name).stdout == before.stdout
    assert desk_now.at(time.time() + 9.9 * MINUTE, "aws-prod/admin") == before.stdout


def test_past_the_end_exits_1_with_one_line(home: Path) -> None:
    """The real command past the end: nothing on stdout, one line on stderr, no traceback."""
    now = time.time()
    with serving(instant(now + 0.7), instant(now + 15 * MINUTE)) as server:
        desk = Desk(home, server)
        assert desk.spawn("aws-prod/admin").returncode == 0
        time.sleep(0.8)
        server.state = "closing"
        after = desk.spawn("aws-prod/admin")
        assert (after.returncode, after.stdout) == (1, "")
        assert after.stderr == f"access under gr_one ended at {server.ends_at}; {ASK_AGAIN}\n"


def test_past_the_end_the_server_is_asked_once(desk: Desk) -> None:
    """A client that keeps calling after the end does not become load on the server."""
    desk.at(T0)
    desk.server.state = "gone"
    for second in range(20):
        assert "ended at" in stopped(desk, T0 + 10 * MINUTE + second)
    assert (desk.server.mints, desk.server.looks) == (1, 1)


def test_past_the_end_with_the_server_dead_says_so(desk: Desk) -> None:
    """Whether it was extended is unknown then, and the line does not claim to know."""
    desk.at(T0)
    desk.server.kill()
    line = stopped(desk, T0 + 10 * MINUTE)
    assert line.startswith(f"access under gr_one ended at {instant(T0 + 10 * MINUTE)}, and cannot")
    assert line.endswith("ask again: tidegate request …")


def test_extension_reaches_the_profile(desk: Desk) -> None:
    """At the old end the server is asked, and keys bound to the new end are printed."""
    desk.at(T0)
    desk.server.ends_at = instant(T0 + 30 * MINUTE)
    desk.server.expires_at = instant(T0 + 30 * MINUTE)
    assert json.loads(desk.at(T0 + 9 * MINUTE))["AccessKeyId"] == "ASIAEXAMPLE1"
    extended = json.loads(desk.at(T0 + 10 * MINUTE))
    assert extended["AccessKeyId"] == "ASIAEXAMPLE2"
    assert extended["Expiration"] == instant(T0 + 30 * MINUTE)
    assert desk.server.mints == 2


def test_keys_bound_to_an_older_end_are_replaced_there(desk: Desk) -> None:
    """Keys the cloud refuses before the grant's end are not printed past that instant."""
    desk.server.bound_until = instant(T0 + 4 * MINUTE)
    assert json.loads(desk.at(T0))["Expiration"] == desk.server.bound_until
    desk.server.bound_until = ""
    assert "ASIAEXAMPLE2" in desk.at(T0 + 4 * MINUTE)


def test_last_second_mints_on_every_call(desk: Desk) -> None:
    """Where the cloud refuses new keys already, a client that keeps calling mints one more."""
    desk.server.ends_at = instant(T0 + 10 * MINUTE + 0.7)
    desk.server.bound_until = instant(T0 + 10 * MINUTE)
    desk.at(T0)
    for part in range(7):
        assert "ended at" in stopped(desk, T0 + 10 * MINUTE + part / 10)
    assert desk.server.mints <= 2
    desk.server.ends_at = desk.server.bound_until = instant(T0 + 14 * MINUTE)
    assert json.loads(desk.at(T0 + 10 * MINUTE + 1))["Expiration"] == desk.server.ends_at


def test_long_grant_gets_new_keys_before_the_old_die(desk: Desk) -> None:
    """Keys of one hour in a grant of three are renewed 5 minutes ahead, and told to end at 1 h."""
    desk.server.ends_at = instant(T0 + 180 * MINUTE)
    desk.server.expires_at = instant(T0 + 60 * MINUTE)
    assert json.loads(desk.at(T0))["Expiration"] == instant(T0 + 60 * MINUTE)
    desk.at(T0 + 54.9 * MINUTE)
    assert desk.server.mints == 1
    desk.server.expires_at = instant(T0 + 115 * MINUTE)
    assert json.loads(desk.at(T0 + 55.1 * MINUTE))["AccessKeyId"] == "ASIAEXAMPLE2"
    assert desk.server.mints == 2


def test_failed_refresh_goes_on_with_living_keys(desk: Desk) -> None:
    """A server that is down at refresh is asked now and then, and the keys serve to their end."""
    desk.server.ends_at = instant(T0 + 180 * MINUTE)
    desk.server.expires_at = instant(T0 + 60 * MINUTE)
    desk.at(T0)
    desk.server.refuse = (503, {"code": "unavailable"})
    assert "ASIAEXAMPLE1" in desk.at(T0 + 56 * MINUTE)
    assert json.loads(desk.cached()[0].read_text())["refresh_at"] == instant(T0 + 56 * MINUTE + 10)
    assert "ASIAEXAMPLE1" in desk.at(T0 + 59.9 * MINUTE)
    assert "expired at" in stopped(desk, T0 + 60 * MINUTE)


def test_sts_expiration_lets_the_cloud_refuse(desk: Desk) -> None:
    """`--expiration sts` prints the keys past the end, until the cloud's own expiry."""
    desk.at(T0)
    desk.server.state = "gone"
    printed = json.loads(desk.at(T0 + 11 * MINUTE, "gr_one", "--expiration", "sts"))
    assert printed["Expiration"] == instant(T0 + 15 * MINUTE)
    desk.server.kill()
    assert "ASIAEXAMPLE1" in desk.at(T0 + 14.9 * MINUTE, "--expiration=sts", "gr_one")
    assert "ended at" in stopped(desk, T0 + 12 * MINUTE)
    assert "ended at" in stopped(desk, T0 + 15 * MINUTE, "gr_one", "--expiration", "sts")


def test_sts_expiration_works_when_killed_before_the_end(desk: Desk) -> None:
    """The server dies inside the window and is never seen again."""
    desk.at(T0, "aws-prod/admin")
    desk.server.kill()
    for minute in (1, 9.9, 10, 11, 14.9):
        assert "ASIAEXAMPLE1" in desk.at(
            T0 + minute * MINUTE, "aws-prod/admin", "--expiration", "sts"
        )


def test_dead_keys_do_not_stay_on_disk(desk: Desk) -> None:
    """Once the cloud no longer honours them, the next run takes them out of the cache."""
    desk.at(T0)
    desk.server.state = "gone"
    stopped(desk, T0 + 11 * MINUTE)
    assert "secret-of-session" in desk.cached()[0].read_text()
    stopped(desk, T0 + 15 * MINUTE)
    assert "secret-of-session" not in desk.cached()[0].read_text()


def test_early_end_is_noticed_through_the_role(desk: Desk) -> None:
    """A role's grant that was ended early stops being printed within five minutes."""
    desk.at(T0, "aws-prod/admin")
    desk.server.state = "removed"
    desk.at(T0 + 4 * MINUTE, "aws-prod/admin")
    assert "was ended before" in stopped(desk, T0 + 5 * MINUTE, "aws-prod/admin")


def test_role_goes_on_to_its_next_grant(desk: Desk) -> None:
    """The profile names the role, so a new grant of it works without a new profile."""
    desk.at(T0, "aws-prod/admin")
    desk.server.grant = "gr_two"
    desk.server.ends_at = desk.server.expires_at = instant(T0 + 60 * MINUTE)
    assert "ASIAEXAMPLE2" in desk.at(T0 + 10 * MINUTE, "aws-prod/admin")


def test_unapproved_role_prints_the_request_command(desk: Desk) -> None:
    """Nothing open: the line holds the command to type."""
    desk.server.state = "ready"
    line = stopped(desk, T0, "aws-prod/admin")
    assert line == (
        "no open grant of `aws-prod/admin`; ask for it: "
        "tidegate request aws-prod/admin --for 1h --reason '…'"
    )


def test_refusal_is_told_in_the_servers_words(desk: Desk) -> None:
    """A problem document becomes one line: what is wrong, and the help; control characters gone."""
    problem = {"code": "not_open", "detail": "grant is\n\x1b[31mready", "help": "wait for it"}
    desk.server.refuse = (409, problem)
    assert stopped(desk, T0) == "grant is  [31mready; wait for it"


def test_wrong_token_says_login(desk: Desk) -> None:
    """A token the server does not know leads to `tidegate login`, and is not shown."""
    desk.environment["TIDEGATE_TOKEN"] = "tgt_another"
    assert stopped(desk, T0) == f"not signed in to {desk.server.url}; run: tidegate login"


def test_cache_of_another_server_is_not_used(desk: Desk) -> None:
    """The same grant id at another server is another grant, also if a file is moved there."""
    desk.at(T0)
    other = "http://127.0.0.1:9"
    stolen = cache_path(str(desk.home / "cache"), other, "gr_one")
    desk.cached()[0].rename(stolen)
    desk.environment["TIDEGATE_SERVER"] = other
    assert "cannot reach http://127.0.0.1:9" in stopped(desk, T0)


def test_stored_token_is_not_sent_to_another_server(desk: Desk) -> None:
    """TIDEGATE_SERVER alone never carries the token of `client.json` elsewhere."""
    stored = desk.home / "client.json"
    stored.write_text(json.dumps({"server": "https://own.example", "token": "tgt_stored"}))
    stored.chmod(0o600)
    del desk.environment["TIDEGATE_TOKEN"]
    assert "not signed in" in stopped(desk, T0)
    assert desk.server.tokens == set()


def test_client_file_signs_in(desk: Desk) -> None:
    """Without variables, server and token come from `client.json`."""
    content = {"server": f"{desk.server.url}/", "token": desk.environment.pop("TIDEGATE_TOKEN")}
    del desk.environment["TIDEGATE_SERVER"]
    stored = desk.home / "client.json"
    stored.touch(mode=0o600)
    stored.write_text(json.dumps(content))
    assert "ASIAEXAMPLE1" in desk.at(T0)
    stored.chmod(0o640)
    assert "chmod 600" in stopped(desk, T0)


@pytest.mark.parametrize(
    "damage",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"server": 1}', b"x" * 70_000, b"[" * 60_000],
    ids=["empty", "cut", "list", "binary", "shape", "huge", "deep"],
)
def test_damaged_cache_is_replaced(desk: Desk, damage: bytes) -> None:
    """A cache file that is not whole is as good as none."""
    desk.at(T0)
    path = desk.cached()[0]
    path.write_bytes(damage)
    assert "ASIAEXAMPLE2" in desk.at(T0)
    assert json.loads(path.read_text())["AccessKeyId"] == "ASIAEXAMPLE2"


@pytest.mark.parametrize("field", ["ends_at", "expires_at", "refresh_at"])
@pytest.mark.parametrize("value", ["", "soon", "2026-01-01", "9999-99-99 99:99:99.999Z", "²026"])
def test_instant_that_does_not_sort_is_not_believed(desk: Desk, field: str, value: str) -> None:
    """Ends are compared as texts, so another form must never come in."""
    desk.at(T0)
    path = desk.cached()[0]
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    assert "ASIAEXAMPLE2" in desk.at(T0)


def test_files_are_private_under_any_umask(desk_now: Desk) -> None:
    """Files 0600, folders 0700, nothing left over, whatever the umask of the caller."""
    home = desk_now.home / "deeper" / "home"
    desk_now.environment["TIDEGATE_HOME"] = str(home)
    before = os.umask(0)
    try:
        assert desk_now.spawn("aws-prod/admin").returncode == 0
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (home, home / "cache")} == {0o700}
    files = list((home / "cache").iterdir())
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert len([path for path in files if "lock-" not in path.name]) == 2


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o755])
@pytest.mark.parametrize("which", ["", "cache"])
def test_folder_open_to_others_is_refused(desk: Desk, mode: int, which: str) -> None:
    """Keys are not put where another account could read or swap them."""
    desk.at(T0)
    (desk.home / which).chmod(mode)
    assert "run: chmod 700" in stopped(desk, T0)


def test_linked_cache_folder_is_refused(desk: Desk, tmp_path: Path) -> None:
    """A symbolic link in place of the cache folder could lead into somebody else's."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir(mode=0o700)
    (desk.home / "cache").symlink_to(elsewhere)
    assert "expected a folder" in stopped(desk, T0)
    assert desk.server.asked == 0 and not list(elsewhere.iterdir())


def test_linked_or_open_cache_file_is_not_believed(desk: Desk, tmp_path: Path) -> None:
    """A cache file that is a link, or that others can read, is replaced by one of ours."""
    desk.at(T0)
    path = desk.cached()[0]
    path.rename(tmp_path / "planted")
    path.symlink_to(tmp_path / "planted")
    assert "ASIAEXAMPLE2" in desk.at(T0)
    assert not path.is_symlink()
    path.chmod(0o644)
    assert "ASIAEXAMPLE3" in desk.at(T0)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_unwritable_cache_is_told_and_not_minted_into(desk: Desk) -> None:
    """Without a lock no session is minted: each AWS call would make one more."""
    folder = open_cache(str(desk.home))
    for shard in "0123456789abcdef":
        os.mkdir(os.path.join(folder, f"lock-{shard}"))
    assert "cannot write the cache" in stopped(desk, T0)
    assert desk.server.mints == 0


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 abc\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nContent-Length: 900\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        b"HTTP/1.1 302 Found\r\nLocation: http://evil.example/\r\n\r\n{}",
        b"HTTP/1.1 201 Created\r\n\r\n[]",
        b"HTTP/1.1 201 Created\r\n\r\n{}",
        b'HTTP/1.1 201 Created\r\n\r\n{"kind": "aws", "access_key_id": 7}',
        b"HTTP/1.1 500 No\r\n\r\n<html>",
        b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 300_000,
    ],
)
def test_answer_that_is_not_ours_is_one_line(desk: Desk, raw: bytes) -> None:
    """Cut, foreign, redirecting, chunked or endless answers: no keys, no traceback, no file."""
    desk.server.raw = raw
    assert stopped(desk, T0)
    assert desk.cached() == []


@pytest.mark.parametrize(
    "server",
    [
        "http://tidegate.example",
        "http://10.0.0.7:8470",
        "http://127.0.0.1.evil.example",
        "http://user:pw@127.0.0.1",
        "ftp://127.0.0.1",
        "http://127.0.0.1:x",
        "http://127.0.0.1/a b",
        "http://127.0.0.1?x=1",
        "127.0.0.1:8470",
    ],
)
def test_clear_text_leaves_this_machine_never(desk: Desk, server: str) -> None:
    """Plain HTTP goes to a loopback address only; odd addresses are refused before any byte."""
    desk.environment["TIDEGATE_SERVER"] = server
    assert "https://" in stopped(desk, T0)


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("gr_one", "gr_two"),
        ("--expiration", "never", "gr_one"),
        ("gr_one", "--expiration"),
        ("--verbose", "gr_one"),
        ("../../etc/passwd",),
        ("aws-prod/admin; rm -rf",),
        ("GR_ONE",),
        ("",),
        ("a" * 200,),
        ("\x1b[31m",),
    ],
)
def test_wrong_call_exits_2_with_one_line(desk_now: Desk, arguments: tuple[str, ...]) -> None:
    """What cannot be a grant or a role never reaches a path, a URL or a pasted command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tidegate-credentials", *arguments])
        assert run() == 2
    assert desk_now.server.asked == 0


def test_new_session_sweeps_out_the_dead(desk: Desk) -> None:
    """Minting removes other grants' expired keys and what a killed helper left half written."""
    desk.at(T0)
    leftover = desk.home / "cache" / "abc.1.tmp"
    leftover.write_text("half")
    os.utime(leftover, (T0, T0))
    desk.server.grant = "gr_two"
    desk.server.expires_at = desk.server.ends_at = instant(T0 + 60 * MINUTE)
    desk.at(T0 + 20 * MINUTE, "gr_two")
    assert [json.loads(path.read_text())["grant"] for path in desk.cached()] == ["gr_two"]


def test_forgotten_grant_is_minted_anew(desk: Desk) -> None:
    """`forget` takes the keys off the disk; forgetting twice is as once."""
    desk.at(T0)
    for _ in range(2):
        forget(str(desk.home / "cache"), desk.server.url, "gr_one")
    assert desk.cached() == []
    assert "ASIAEXAMPLE2" in desk.at(T0)


def test_closed_pipe_is_no_traceback(desk_now: Desk) -> None:
    """A caller that went away gets silence or one line, never a stack."""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [HELPER, "gr_one"],
        env=desk_now.environment,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        timeout=30,
        check=False,
    )
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == "cannot print the credentials: Broken pipe\n"


def test_helper_stays_light() -> None:
    """A cached answer loads no network, no argument parser and nothing of the product."""
    code = "import sys, tidegate_credentials; print('\\n'.join(sys.modules))"
    loaded = set(
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout.split()
    )
    heavy = {"socket", "ssl", "http.client", "argparse", "dataclasses", "typing", "urllib.parse"}
    assert not loaded & {*heavy, "tidegate", "datetime", "tidegate_credentials.renewing"}


@given(st.integers(min_value=0, max_value=4_000_000_000_000))
def test_instants_are_written_as_the_product_writes_them(ms: int) -> None:
    """The helper's own writer and the product's agree, so that cached ends compare as texts."""
    assert instant(ms / 1000) == wire(from_ms(ms))
    assert is_instant(instant(ms / 1000))


@given(st.text(max_size=26))
def test_only_instants_are_instants(text: str) -> None:
    """Whatever passes has digits where they must be."""
    if is_instant(text):
        assert text[:4].isdigit() and text.endswith("Z")


def test_refresh_is_never_after_the_end() -> None:
    """Short grants are asked about at their end, long ones 5 minutes before their keys die."""
    end, later = instant(T0), instant(T0 + 600)
    assert refresh_at(end, later) == refresh_at(end, end) == end
    assert refresh_at(later, end) == instant(T0 - 300)
