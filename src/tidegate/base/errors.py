"""The one error tree.

    TidegateError
    ├── AskedWrongly        the caller can mend it: bad input, unknown name, stale page
    │   ├── NotFound        no such thing, or not yours to see
    │   ├── Stale           the thing changed since it was read (HTTP 409)
    │   └── EvidenceBroken  evidence that was handed in does not hold
    ├── NotAllowed          understood and refused
    │   └── NotSignedIn     nobody is known to be asking (HTTP 401)
    └── WorldFailed         something outside did not answer as it should
        ├── Refused         a cloud said no, and certainly did nothing
        ├── Unreachable     a cloud was certainly not reached
        ├── Unknown         a cloud may or may not have acted; read it back
        └── EvidenceClosed  the evidence cannot be written, so nothing opens

Each has a `code` (stable, snake_case, branched on by clients), a `message` (one sentence: lower
case, no full stop, input in backticks, *expected* and *got*), a `help` (what to do next) and a
`status` hint that only the API uses. Misuse by our own code is a plain `RuntimeError`: a bug, never
a member of this tree. Messages never carry secrets or line breaks.
"""

from typing import ClassVar


class TidegateError(Exception):
    """Root of everything a user may be told. Never raised itself."""

    family: ClassVar[str] = ""
    status: ClassVar[int] = 500

    def __init__(self, code: str, message: str, help: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.message = one_line(message)
        self.help = one_line(help)


class AskedWrongly(TidegateError):
    """The request itself is at fault; the same request will fail again."""

    family = "asked_wrongly"
    status = 400


class NotFound(AskedWrongly):
    """No such thing, or one the caller may not see: the two are never told apart."""

    status = 404


class Stale(AskedWrongly):
    """The thing changed between reading and writing; nothing was written."""

    status = 409


class EvidenceBroken(AskedWrongly):
    """Evidence that was handed in does not hold: forged, damaged, or not evidence at all.

    `what` names the part; `expected` and `got` are words or shortened values, never whole texts.
    """

    status = 422

    def __init__(self, code: str, what: str, expected: str, got: str) -> None:
        super().__init__(
            code,
            f"{what}: expected {expected}, got {got}",
            "do not rely on it; compare with a copy that came another way",
        )
        self.what = one_line(what)
        self.expected = one_line(expected)
        self.got = one_line(got)


class NotAllowed(TidegateError):
    """Understood, and refused."""

    family = "not_allowed"
    status = 403


class NotSignedIn(NotAllowed):
    """No valid credential came with the call."""

    status = 401


class WorldFailed(TidegateError):
    """Something outside Tidegate failed; the same request may succeed later."""

    family = "world_failed"
    status = 503


class Refused(WorldFailed):
    """A cloud answered no. It certainly changed nothing."""

    status = 502


class Unreachable(WorldFailed):
    """A cloud was certainly not reached, so certainly changed nothing."""


class Unknown(WorldFailed):
    """A call was sent and no answer came. It may have taken effect: read back, never assume."""


class EvidenceClosed(WorldFailed):
    """The log cannot be written. Nothing opens; closing goes on from the closing journal."""


def one_line(text: str) -> str:
    """`text` with every control character, line breaks included, shown as a blank."""
    if text.isprintable():  # nearly always
        return text
    return "".join(ch if ch.isprintable() else " " for ch in text)
