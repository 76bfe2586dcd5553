"""`verify --here`: run somebody's own command with their own keys, and read what the cloud said.

Nothing of Tidegate's reaches the command. Its output goes to whoever runs it; only an outcome and
the command line leave this machine, with what looks like a secret taken out.
"""

import re
import shlex
import sys
import threading
from codecs import getincrementaldecoder
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, TYPE_CHECKING

from tidegate.base.errors import AskedWrongly
from tidegate.base.text import is_hidden

if TYPE_CHECKING:
    from subprocess import Popen

ALLOWED, DENIED, UNTOLD = "allowed", "denied", "untold"
KEPT = 65_536  # bytes of the end of stderr that are read: a refusal stands at the end
CHUNK = 8_192  # bytes passed on at once
LONGEST_CALL = 2_000  # characters, as the server takes them
LAST_WORDS = 2.0  # seconds a command has to end by itself after it was asked to
HIDDEN = "***"

# How clouds say no, as their own tools print it. Words that only say "not signed in" are not here:
# a session of the portal that ran out is no refusal of the access.
REFUSALS: Mapping[str, tuple[str, ...]] = {
    # IAM API Reference, Common Error Types; Amazon EC2 API Reference, Error codes; Amazon S3 API
    # Reference, Error responses; the long sentence: IAM User Guide, "Troubleshoot access denied
    # error messages". Without an assignment the portal answers GetRoleCredentials with 403 and a
    # ForbiddenException that its API reference does not list.
    "aws": (
        r"\bAccessDenied(Exception)?\b",
        r"\bUnauthorizedOperation\b",
        r"\bExpiredToken(Exception)?\b",
        r"\bis not authorized to perform\b",
        r"\bForbiddenException\b.*\bGetRoleCredentials\b",
    ),
    # Azure RBAC documentation, "Troubleshoot Azure RBAC"; Azure Resource Manager common errors.
    "azure": (
        r"\b(Linked)?AuthorizationFailed\b",
        r"\bdoes not have authorization to perform action\b",
    ),
    # google.rpc.Code; Google Cloud IAM, "Troubleshoot permission error messages".
    "gcp": (r"\bPERMISSION_DENIED\b", r"\bPermission '[\w.]+' denied\b"),
    # Kubernetes documentation, "Using RBAC Authorization": the API server's reason `Forbidden`.
    "kubernetes": (r"\bError from server \(Forbidden\)",),
}

# Names of what must not be kept: flags, variables, headers, fields.
_HUSHED = (
    "token|secret|passw|passphrase|pwd|credential|api[-_]?key|access[-_]?key|private[-_]?key"
    "|auth|bearer|session[-_]?key|signature"
)
_FLAG = re.compile(f"--?[\\w.-]*(?:{_HUSHED})[\\w.-]*|-[up]", re.IGNORECASE | re.ASCII)
_ATTACHED = re.compile(r"(-[up])[^-].*", re.ASCII | re.DOTALL)
# `name=value`, `Name: value`, `"name": "value"`: all that follows in the word is taken out.
_NAMED = re.compile(
    f"([\\w.-]*(?:{_HUSHED})[\\w.-]*[\"']?\\s*[=:]).+", re.IGNORECASE | re.ASCII | re.DOTALL
)
_USERINFO = re.compile(r"(?<=://)[^/\s@]+(?=@)")
# Keys and tokens by their shape: JSON web tokens, ours, GitHub's, Slack's, AWS's long ones.
_SHAPES = re.compile(
    r"eyJ[\w-]+\.[\w.-]+|\btdg_\w+|\bgh[a-z]_\w+|\bgithub_pat_\w+|\bxox[a-z]-[\w-]+"
    r"|(?<![\w/+])(?=[\w/+]*[a-z])(?=[\w/+]*[A-Z])(?=[\w/+]*\d)[\w/+]{40,}={0,2}",
    re.ASCII,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended. `code` is None when it was stopped after its time."""

    code: int | None
    stderr: str

    @property
    def outcome(self) -> str:
        """What that says of the access: nothing, when it failed for another reason."""
        if self.code == 0:
            return ALLOWED
        if self.code is None:
            return UNTOLD
        said = any(
            re.search(pattern, self.stderr)
            for patterns in REFUSALS.values()
            for pattern in patterns
        )
        return DENIED if said else UNTOLD


def run_here(
    command: Sequence[str], environment: Mapping[str, str], patience: timedelta, quiet: bool
) -> Ended:
    """Run `command` and show what it prints; with `quiet`, all of it on stderr.

    A signal that ended it counts as 128 and its number, as shells have it.

    Raises:
        AskedWrongly: it cannot be started.
    """
    from subprocess import PIPE, Popen, TimeoutExpired

    try:
        # S603: their own command, on their own machine, is what this is for.
        child = Popen(list(command), env=dict(environment), stdout=PIPE, stderr=PIPE)
    except (OSError, ValueError) as fault:
        why = fault.strerror if isinstance(fault, OSError) else "not a command line"
        raise AskedWrongly(
            "not_started", f"cannot run `{command[0]}`: {why}", "check its name and your PATH"
        ) from None
    end = _Tail()
    readers = [
        _reader(child.stdout, sys.stderr if quiet else sys.stdout, None),
        _reader(child.stderr, sys.stderr, end),
    ]
    code: int | None
    try:
        code = child.wait(patience.total_seconds())
    except TimeoutExpired:
        code = None
        _stop(child)
    except KeyboardInterrupt:
        _stop(child)
        raise
    for reader in readers:
        reader.join(LAST_WORDS)  # a grandchild may hold the pipe open for ever
    if code is not None and code < 0:
        code = 128 - code
    return Ended(code=code, stderr=end.text())


def told_call(command: Sequence[str]) -> str:
    """The command as one line to be kept: quoted, escaped, bounded, secrets taken out."""
    line = shlex.join(masked(command))
    clean = "".join(
        ch.encode("unicode_escape").decode("ascii") if is_hidden(ch) else ch for ch in line
    )
    return clean if len(clean) <= LONGEST_CALL else clean[: LONGEST_CALL - 1] + "…"


def masked(command: Sequence[str]) -> list[str]:
    """The words of a command with the values of what is named like a secret taken out.

    Words after such flags, what follows such a name in a word, user and password in an address, and
    what has the shape of a known key. It errs towards taking out too much.
    """
    kept: list[str] = []
    hide = False
    for word in command:
        kept.append(HIDDEN if hide else _masked_word(word))
        hide = _FLAG.fullmatch(word) is not None
    return kept


def _masked_word(word: str) -> str:
    if attached := _ATTACHED.fullmatch(word):
        return f"{attached[1]}{HIDDEN}"
    return _SHAPES.sub(HIDDEN, _USERINFO.sub(HIDDEN, _NAMED.sub(rf"\1{HIDDEN}", word)))


class _Tail:
    """The last KEPT bytes of a stream."""

    def __init__(self) -> None:
        self._kept = b""
        self._lock = threading.Lock()

    def add(self, data: bytes) -> None:
        with self._lock:
            self._kept = (self._kept + data)[-KEPT:]

    def text(self) -> str:
        with self._lock:
            return self._kept.decode("utf-8", "replace")


def _reader(source: IO[bytes] | None, shown: IO[str], end: _Tail | None) -> threading.Thread:
    """Pass on what comes, as it comes."""

    def copy() -> None:
        if source is None:
            return
        text = getincrementaldecoder("utf-8")("replace")
        with suppress(OSError, ValueError):  # whoever read our output went away
            while data := source.read1(CHUNK):  # type: ignore[attr-defined]  # a buffered pipe
                if end is not None:
                    end.add(data)
                shown.write(text.decode(data))
                shown.flush()

    thread = threading.Thread(target=copy, daemon=True)
    thread.start()
    return thread


def _stop(child: "Popen[bytes]") -> None:
    from subprocess import TimeoutExpired

    child.terminate()
    try:
        child.wait(LAST_WORDS)
    except TimeoutExpired:
        child.kill()
        child.wait()
