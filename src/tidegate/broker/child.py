"""Run a person's command with the keys of a grant, and nothing else that could win over them.

An AWS client looks in many places before it asks a container endpoint: other variables, the shared
credentials file, profiles. Left as they are, `tidegate exec` on a machine with a `[default]` key
would silently run as that key. So the child sees no AWS files at all; the harmless settings of the
profile in force (region, output, …) are handed to it as variables.
"""

import configparser
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import StrEnum
from types import FrameType

from tidegate.base.errors import AskedWrongly
from tidegate.broker.container import Endpoint

# Every variable by which an AWS client could find other keys, or believe ours to be something else.
OTHER_WAYS = (
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_SECURITY_TOKEN",
    "AWS_ACCESS_KEY",
    "AWS_SECRET_KEY",
    "AWS_CREDENTIAL_EXPIRATION",
    "AWS_ACCOUNT_ID",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_CREDENTIAL_FILE",
    "BOTO_CONFIG",
)
# The settings of a profile that name no identity, and the variables that carry them.
SETTINGS = {
    "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
    "output": ("AWS_DEFAULT_OUTPUT",),
    "endpoint_url": ("AWS_ENDPOINT_URL",),
    "ca_bundle": ("AWS_CA_BUNDLE",),
    "cli_pager": ("AWS_PAGER",),
    "retry_mode": ("AWS_RETRY_MODE",),
    "max_attempts": ("AWS_MAX_ATTEMPTS",),
    "use_fips_endpoint": ("AWS_USE_FIPS_ENDPOINT",),
    "use_dualstack_endpoint": ("AWS_USE_DUALSTACK_ENDPOINT",),
    "sts_regional_endpoints": ("AWS_STS_REGIONAL_ENDPOINTS",),
}
LARGEST_CONFIG = 1_048_576  # bytes of ~/.aws/config

# A terminal sends these to the child itself (one process group), so passing them on would make two.
_FROM_TERMINAL = (signal.SIGINT, signal.SIGQUIT)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


class Mode(StrEnum):
    """How the child gets keys: from the endpoint, or static in its environment (`--env`).

    Static keys reach neither a refresh nor an extension, and stand in the child's environment.
    """

    ENDPOINT = "endpoint"
    ENV = "env"


def run_with(
    endpoint: Endpoint, argv: Sequence[str], env: Mapping[str, str], *, mode: Mode = Mode.ENDPOINT
) -> int:
    """Run `argv` with the keys of the open `endpoint`; the child's exit code, 128 + n for signal n.

    `env` is what the person's shell gave us. Signals to us reach the child. It is not stopped at
    the grant's end: it is refused. Main thread only (signals).

    Raises:
        AskedWrongly: no command, no such command, or `~/.aws/config` cannot be read.
        NotAllowed, WorldFailed: with Mode.ENV, there are no keys to give.
    """
    if not argv:
        raise AskedWrongly(
            "no_command", "expected a command, got none", "as in: tidegate exec ID -- aws s3 ls"
        )
    surroundings = child_environment(endpoint, env, read_settings(env), mode)
    with _signals_passed_on() as passing:
        try:
            process = subprocess.Popen(list(argv), env=surroundings)
        except OSError as fault:
            raise AskedWrongly(
                "cannot_run",
                f"expected a command that can be started, got `{argv[0][:80]}` ({fault.strerror})",
                "check its spelling and PATH",
            ) from fault
        passing.to(process)
        code = process.wait()
    return 128 - code if code < 0 else code


def child_environment(
    endpoint: Endpoint, env: Mapping[str, str], settings: Mapping[str, str], mode: Mode
) -> dict[str, str]:
    """`env` without other ways to keys, with ours. `settings` never replace what `env` says.

    AWS_CREDENTIAL_EXPIRATION is not set with static keys: clients would stop by themselves at the
    end, and it is the cloud that should be seen to refuse.
    """
    made = {name: value for name, value in env.items() if name not in OTHER_WAYS}
    for setting, names in SETTINGS.items():
        if setting in settings and not any(name in made for name in names):
            made.update(dict.fromkeys(names, settings[setting]))
    made.update(
        AWS_CONFIG_FILE=os.devnull,
        AWS_SHARED_CREDENTIALS_FILE=os.devnull,
        BOTO_CONFIG=os.devnull,
        # On a cloud machine, a refused client must not fall back to the machine's own role.
        AWS_EC2_METADATA_DISABLED="true",
        TIDEGATE_GRANT=endpoint.holding.grant,
    )
    if mode is Mode.ENV:
        material = endpoint.holding.take()
        made.update(
            AWS_ACCESS_KEY_ID=material.access_key_id,
            AWS_SECRET_ACCESS_KEY=material.secret_access_key,
            AWS_SESSION_TOKEN=material.session_token,
        )
    else:
        made.update(
            AWS_CONTAINER_CREDENTIALS_FULL_URI=endpoint.uri,
            AWS_CONTAINER_AUTHORIZATION_TOKEN=endpoint.token,
        )
    return made


def read_settings(env: Mapping[str, str]) -> dict[str, str]:
    """The harmless settings of the profile in force in `~/.aws/config` (or AWS_CONFIG_FILE).

    No file and no such profile are no settings: the profile may exist for its keys only.

    Raises:
        AskedWrongly: the file cannot be read or is no configuration; AWS clients fail on it too.
    """
    path = env.get("AWS_CONFIG_FILE") or "~/.aws/config"
    if path.startswith("~/"):
        path = os.path.join(env.get("HOME") or os.path.expanduser("~"), path[2:])
    if not os.path.isfile(path):
        return {}
    profile = env.get("AWS_PROFILE") or env.get("AWS_DEFAULT_PROFILE") or "default"
    parser = configparser.RawConfigParser(strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_string(file.read(LARGEST_CONFIG))
    except (OSError, UnicodeDecodeError, configparser.Error) as fault:
        raise AskedWrongly(
            "bad_aws_config",
            f"expected an AWS configuration in `{path}`, got {type(fault).__name__}",
            "mend it, or point AWS_CONFIG_FILE to another file",
        ) from fault
    names = {"default", "profile default"} if profile == "default" else {f"profile {profile}"}
    found: dict[str, str] = {}
    for section in parser.sections():
        if " ".join(section.replace('"', "").replace("'", "").split()) in names:
            found.update({k: v for k, v in parser.items(section) if k in SETTINGS and v})
    return found


class _Passing:
    """Signals on their way to a child; those that come before it is started wait for it."""

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._waiting: list[int] = []

    def on(self, number: int, _: FrameType | None) -> None:
        """A signal handler: pass it on."""
        if self._child is None:
            self._waiting.append(number)
        else:
            self._child.send_signal(number)

    def to(self, child: subprocess.Popen[bytes]) -> None:
        """Everything that came and will come goes to `child`."""
        self._child = child
        while self._waiting:
            child.send_signal(self._waiting.pop(0))


def _leave(_: int, __: FrameType | None) -> None:
    """A signal handler: the terminal has told the child already."""


@contextmanager
def _signals_passed_on() -> Iterator[_Passing]:
    """Handle signals for the child until left. Those that are ignored (`nohup`) stay ignored.

    Handlers are functions, never SIG_IGN: what is ignored here would be ignored in the child too.
    """
    passing = _Passing()
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    from_terminal = _leave if at_terminal else passing.on
    handlers = dict.fromkeys(_PASSED_ON, passing.on) | dict.fromkeys(_FROM_TERMINAL, from_terminal)
    before = {
        number: signal.signal(number, handler)
        for number, handler in handlers.items()
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield passing
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
