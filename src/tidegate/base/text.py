"""Texts people type: what is accepted, and the one key an identity is compared by.

Reasons and tickets end in logs, terminals and reports; control characters (ANSI escapes, CR/LF,
bidirectional overrides) and characters nobody sees are refused, not stripped, so that what was
approved is what was typed. Nothing is normalised on the way in; real accents are kept.
"""

import re
import unicodedata
from encodings.idna import ToASCII

from tidegate.base.errors import AskedWrongly, one_line

LONGEST_REASON = 2_000  # characters: a paragraph or three; more belongs in the ticket
LONGEST_NAME = 200
LONGEST_SHOWN = 200  # characters of a text in a line for people: the pack has the whole
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
# Format characters that change how neighbours are read: zero width, bidi, tags, soft hyphen.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Default_Ignorable_Code_Point (Unicode, DerivedCoreProperties.txt): drawn as nothing. Many are of
# the categories above; variation selectors, fillers and the grapheme joiner count as letters or
# marks. U+2800, the braille cell without dots, is no member and looks like one.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_QUOTING = re.compile(r'[ "\\]')
LONGEST_LABEL = 63  # RFC 1035, section 2.3.4
_PASSES = 8  # of loosening a mail address; no single character needs more than two


def clean_text(field: str, text: str, longest: int) -> str:
    """`text` without outer blanks. Raises AskedWrongly when empty, too long or hiding things."""
    kept = text.strip(" \t\r\n")
    if not kept:
        raise AskedWrongly(f"empty_{field}", f"{field} is empty", f"say it in words: --{field} '…'")
    if len(kept) > longest:
        raise AskedWrongly(
            f"long_{field}",
            f"{field} may have at most {longest} characters, got {len(kept)}",
            "shorten it and point to the ticket for the rest",
        )
    for ch in kept:
        if is_hidden(ch):
            raise AskedWrongly(
                f"bad_{field}",
                f"{field} may not hold control or invisible characters, got U+{ord(ch):04X}",
                "type it as plain text in one line",
            )
    return kept


def clean_name(field: str, text: str) -> str:
    """A lower-case ASCII name of a target, role, group or local account, exactly as given.

    NB. nothing is folded: `Ana` and `ａｎａ` are refused, not taken for `ana`.
    """
    if _NAME.fullmatch(text):
        return text
    raise AskedWrongly(
        f"bad_{field}",
        f"expected a {field} of a-z, 0-9, `.`, `_`, `-` (at most 64), got `{text[:40]}`",
        "names are lower case and ASCII",
    )


def is_hidden(ch: str) -> bool:
    """Whether one character is unseen, or changes how its neighbours are read."""
    return unicodedata.category(ch) in _HIDDEN or _IGNORABLE.match(ch) is not None


def mail_key(mail: str) -> str:
    """The key two e-mail addresses are the same person by; empty for an empty address.

    Folded are: letter case and compatibility forms (NFKC), invisible characters and blanks, quotes
    and backslashes of a quoted local part (RFC 5322, section 3.2.4), a `+tag` (RFC 5233), dots
    that are dots to IDNA only, empty labels, and an international domain to its `xn--` form. Of
    Gmail, which delivers them alike, also dots of the local part and `googlemail.com`.

    It errs towards "the same": it only ever *stops* an approval. It never raises, and the key of a
    key is that key.
    """
    for _ in range(_PASSES):  # what one pass removes can let the next one compose its neighbours
        before, mail = mail, _loosened(mail)
        if mail == before:
            break
    return mail


def _loosened(mail: str) -> str:
    if mail.isascii() and mail.isprintable():  # none of it is folded but case: most addresses
        return _as_delivered(_QUOTING.sub("", mail.lower()))
    # Unseen ones go first: between two marks they would keep them from their canonical order.
    folded = unicodedata.normalize("NFKC", "".join(ch for ch in mail if not is_hidden(ch)))
    folded = unicodedata.normalize("NFKC", folded.casefold())
    folded = folded.replace("\u3002", ".")  # RFC 3490, section 3.1; NFKC folded the other dots
    folded = "".join(
        ch for ch in folded if not (is_hidden(ch) or ch.isspace() or ch in {'"', "\\"})
    )
    return _as_delivered(folded)


def _as_delivered(folded: str) -> str:
    local, at, domain = folded.rpartition("@")
    if not at:
        return folded
    local = local.split("+")[0]
    domain = ".".join(_ascii_label(label) for label in domain.split(".") if label)
    if domain == "googlemail.com":
        domain = "gmail.com"
    if domain == "gmail.com":
        local = local.replace(".", "")
    return f"{local}@{domain}"


def _ascii_label(label: str) -> str:
    """A label of a domain in its `xn--` form; as it is when it has none."""
    if label.isascii() or len(label) > LONGEST_LABEL:
        return label
    try:
        return ToASCII(label).decode("ascii")
    except UnicodeError:
        return label


def cells_of(text: str) -> int:
    """How many terminal cells `text` takes: wide East Asian characters two, marks none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(ch) else 2 if unicodedata.east_asian_width(ch) in "WF" else 1
        for ch in text
    )


def short(text: str) -> str:
    """`text` in one printable line of bounded length."""
    clean = one_line(text)
    return clean if len(clean) <= LONGEST_SHOWN else clean[: LONGEST_SHOWN - 1] + "…"


def many(count: int, word: str) -> str:
    """`1 grant`, `3 grants`."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
