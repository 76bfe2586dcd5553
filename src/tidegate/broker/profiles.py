"""AWS profiles that call `tidegate-credentials`, in a block of their own of `~/.aws/config`.

Everything between the two marker lines is ours and written anew each time; everything else is the
person's and stays byte for byte. A profile names the role, so it works for every later grant.
"""

import os
import re
import shlex
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from tidegate.base.errors import AskedWrongly, Stale
from tidegate.base.text import clean_name

BEGIN = "# >>> tidegate profiles (written by `tidegate profiles`; edits in here are lost) >>>"
END = "# <<< tidegate profiles <<<"
HELPER = "tidegate-credentials"
MOST_PROFILES = 1_000  # roles one person may ask for; far above any seen, and still a small file
LARGEST_CONFIG = 4_194_304  # bytes: an AWS configuration of ten thousand profiles is smaller

_SECTION = re.compile(r"^\[(?P<name>[^\]\r\n]*)\]")
_REGION = re.compile(r"[a-z0-9-]{1,32}", re.ASCII)
_URL = re.compile(r"https?://[A-Za-z0-9._:/\[\]-]{1,200}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """One profile. `region` and `endpoint_url` may be empty.

    `expiration` is `grant` (clients stop by themselves at the grant's end, with our message) or
    `sts` (they go on and the cloud refuses). `helper` is the program's name or full path.
    """

    role: str
    region: str = ""
    endpoint_url: str = ""
    expiration: str = "grant"
    helper: str = HELPER

    @property
    def name(self) -> str:
        """`tidegate-aws-prod-admin` for the role `aws-prod/admin`."""
        return "tidegate-" + self.role.replace("/", "-")

    def lines(self) -> list[str]:
        """Its section of the file. Raises AskedWrongly for a value that cannot be written."""
        target, _, role = self.role.partition("/")
        clean_name("target", target)
        clean_name("role", role)
        _check("region", self.region, _REGION, "eu-central-1")
        _check("endpoint_url", self.endpoint_url, _URL, "http://127.0.0.1:4566")
        if self.expiration not in ("grant", "sts") or not self.helper.isprintable():
            raise AskedWrongly(
                "bad_profile",
                f"expected expiration `grant` or `sts`, got `{self.expiration[:40]}`",
                "leave it out for `grant`",
            )
        words = [self.helper, self.role]
        if self.expiration == "sts":
            words += ["--expiration", "sts"]
        made = [f"[profile {self.name}]", f"credential_process = {shlex.join(words)}"]
        made += [f"region = {self.region}"] if self.region else []
        made += [f"endpoint_url = {self.endpoint_url}"] if self.endpoint_url else []
        return made


def merge(text: str, profiles: Sequence[Profile], keys_text: str = "") -> str:
    """`text` of an AWS config file with our block holding exactly `profiles`; none removes it.

    `keys_text` is the text of the shared credentials file, which AWS clients read first: a section
    of the same name there would win over the helper without a word.

    Raises:
        AskedWrongly: two roles make one name, a profile of that name stands outside the block, the
            block's markers are damaged, or a value cannot be written.
    """
    _check_names(profiles)
    lines = text.splitlines(keepends=True)
    first, last = _block(lines)
    outside = lines[:first] + lines[last:]
    taken = _names_in(outside, config=True) | _names_in(keys_text.splitlines(), config=False)
    for profile in profiles:
        if profile.name in taken:
            raise AskedWrongly(
                "profile_exists",
                f"expected no other profile `{profile.name}`, got one that Tidegate did not write",
                "rename or remove it in your AWS files, then run this again",
            )
    ending = "\r\n" if lines and lines[0].endswith("\r\n") else "\n"
    before, after = "".join(lines[:first]), "".join(lines[last:])
    if not profiles:
        return before + after
    body = [line for profile in profiles for line in ("", *profile.lines())]
    block = ending.join([BEGIN, *body[1:], END, ""])
    if before and not before.endswith(("\n", "\r")):
        before += ending
    return before + block + after


def write_profiles(path: str, profiles: Sequence[Profile], keys_path: str = "") -> None:
    """Bring the AWS config file at `path` to hold `profiles`: replaced whole, mode kept.

    A new file gets mode 0600. A symbolic link is followed and stays one. Nothing is written when
    nothing changes.

    Raises:
        AskedWrongly: what `merge` refuses, or a file that cannot be read or written.
        Stale: the file changed while this ran; nothing was written.
    """
    real = os.path.realpath(os.path.expanduser(path))
    try:
        raw = _read(real)
        keys = _read(os.path.expanduser(keys_path)) if keys_path else None
        merged = merge(
            (raw or b"").decode("utf-8"), profiles, (keys or b"").decode("utf-8", "replace")
        ).encode("utf-8")
        if merged == (raw or b""):
            return
        os.makedirs(os.path.dirname(real), mode=0o700, exist_ok=True)
        _replace(real, raw, merged)
    except (OSError, UnicodeDecodeError) as fault:
        raise AskedWrongly(
            "bad_aws_config",
            f"expected an AWS configuration to write at `{path}`, got {_why(fault)}",
            "mend the file or its folder, then run this again",
        ) from fault


def _replace(path: str, raw: bytes | None, merged: bytes) -> None:
    """Put `merged` at `path` if it still holds `raw`."""
    handle, temporary = tempfile.mkstemp(prefix=".config-", dir=os.path.dirname(path))
    try:
        with open(handle, "wb") as file:
            os.fchmod(handle, os.stat(path).st_mode & 0o7777 if raw is not None else 0o600)
            file.write(merged)
            file.flush()
            # A file of the person's is replaced: its content must outlive a power cut.
            os.fsync(handle)
        if _read(path) != raw:
            raise Stale(
                "aws_config_changed",
                f"expected `{path}` unchanged while writing, got another version",
                "run it again",
            )
        os.replace(temporary, path)
    finally:
        with suppress(FileNotFoundError):
            os.unlink(temporary)


def _read(path: str) -> bytes | None:
    try:
        with open(path, "rb") as file:
            raw = file.read(LARGEST_CONFIG + 1)
    except FileNotFoundError:
        return None
    if len(raw) > LARGEST_CONFIG:
        raise OSError(0, f"over {LARGEST_CONFIG} bytes")
    return raw


def _why(fault: OSError | UnicodeDecodeError) -> str:
    return str(fault.strerror) if isinstance(fault, OSError) else "bytes that are not UTF-8"


def _block(lines: Sequence[str]) -> tuple[int, int]:
    """Where our block is, as a slice; an empty one at the end of the file when there is none."""
    begins = [at for at, line in enumerate(lines) if line.strip() == BEGIN]
    ends = [at for at, line in enumerate(lines) if line.strip() == END]
    if not begins and not ends:
        return len(lines), len(lines)
    if len(begins) == len(ends) == 1 and begins[0] < ends[0]:
        return begins[0], ends[0] + 1
    at = (begins + ends)[0] + 1
    raise AskedWrongly(
        "damaged_block",
        f"expected one begin and one end marker of tidegate, got {len(begins)} and {len(ends)} "
        f"(line {at})",
        "remove those marker lines and the profiles between them, then run this again",
    )


def _names_in(lines: Sequence[str], *, config: bool) -> set[str]:
    """The profile names of an AWS config (or credentials) file, as AWS clients read them."""
    names = set()
    for line in lines:
        match = _SECTION.match(line.strip())
        if match:
            words = match["name"].replace('"', " ").replace("'", " ").split()
            if config and len(words) == 2 and words[0] == "profile":
                names.add(words[1])
            elif not config and words:
                names.add(" ".join(words))
    return names


def _check_names(profiles: Sequence[Profile]) -> None:
    if len(profiles) > MOST_PROFILES:
        raise AskedWrongly(
            "many_profiles",
            f"expected at most {MOST_PROFILES} profiles, got {len(profiles)}",
            "name the roles you use",
        )
    roles: dict[str, str] = {}
    for profile in profiles:
        other = roles.get(profile.name)
        if other is not None:
            raise AskedWrongly(
                "same_profile",
                f"expected one role for the profile `{profile.name}`, "
                f"got `{other}` and `{profile.role}`",
                "leave one of them out",
            )
        roles[profile.name] = profile.role


def _check(field: str, value: str, shape: re.Pattern[str], example: str) -> None:
    if value and not shape.fullmatch(value):
        raise AskedWrongly(
            f"bad_{field}",
            f"expected a {field} like `{example}`, got `{value[:40]}`",
            "it is written to your AWS configuration as it is",
        )
