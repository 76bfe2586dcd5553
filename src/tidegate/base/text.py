"""Texts people type: what is accepted, and the one key an identity is compared by.

Reasons and tickets end in logs, terminals and reports; control characters (ANSI escapes, CR/LF,
bidirectional overrides) are refused, not stripped, so that what was approved is what was typed.
"""

import re
import unicodedata

from tidegate.base.errors import AskedWrongly

LONGEST_REASON = 2_000  # characters: a paragraph or three; more belongs in the ticket
LONGEST_NAME = 200
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)
# Format characters that change how neighbours are read: zero width, bidi, tags, soft hyphen.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


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
        if unicodedata.category(ch) in _HIDDEN:
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


def mail_key(mail: str) -> str:
    """The key two e-mail addresses are the same person by; empty for an empty address.

    NFKC and case folded, invisible characters dropped, a `+tag` and a trailing dot of the domain
    removed. It errs towards "the same": it only ever *stops* an approval.
    """
    folded = unicodedata.normalize("NFKC", mail).casefold()
    folded = "".join(ch for ch in folded if unicodedata.category(ch) not in _HIDDEN).strip()
    local, at, domain = folded.rpartition("@")
    return f"{local.split('+')[0]}@{domain.rstrip('.')}" if at else folded
