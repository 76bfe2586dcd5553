"""A rule file into statements, each with its line.

The engine's errors carry no position, so each statement is given to it alone. The scanner knows
just enough of Cedar's surface to find where a statement ends (strings, `//` comments, `;`), and
measures how deep the engine would have to go: its parser recurses natively, and on deep input ends
the whole process instead of raising.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass

LONGEST_STATEMENT = 16_384  # characters; a readable rule has a few hundred
DEEPEST = 20  # open brackets at once; one costs the engine some 13 KiB of native stack
# Operators, dots and brackets in one statement: each may be one level of the engine's recursion.
# 400 levels of the dearest kind were tried on an 8 MiB stack and hold, 1,600 end the process.
MOST_STEPS = 200

_TOKEN = re.compile(
    r"""(?P<blank>\s+)
    | (?P<comment>//[^\r\n]*)
    | (?P<string>"(?:\\.|[^"\\])*+")
    | (?P<end>;)
    | (?P<open>[(\[{])
    | (?P<close>[)\]}])
    | (?P<step>&&|\|\||[.+*!-]|\b(?:if|when|unless)\b)
    | (?P<word>\w+)
    | (?P<quote>")
    | (?P<other>.)""",
    re.DOTALL | re.VERBOSE,
)
# As in `base.text`: what changes how its neighbours are read, or cannot be read at all. A file that
# looks different from what it does is the oldest way to have a bad rule reviewed.
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LAYOUT = re.compile(r"\r\n|[\n\t]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement from its first token to its `;`. `line` is where it begins, from 1.

    `fault` is a code and what was got when it must not reach the engine; empty when it may.
    """

    text: str
    line: int
    fault: str = ""
    got: str = ""


def split_statements(text: str) -> Iterator[Statement]:
    """The statements of `text` in order; comments and blanks between them belong to none.

    A last statement without `;`, an open string, and one too long or deep to parse safely come with
    a `fault`. Everything that is not blank or comment is in exactly one statement.

    A quote that is missing turns code and strings around, so that the string left open at the end
    is another one. The `line` told is then that of the first string there that spans a line break:
    few are meant to.
    """
    start, depth, deepest, steps = -1, 0, 0, 0
    line, at_line = 1, 0
    open_quote = spanning = -1
    for match in _TOKEN.finditer(text):
        kind = match.lastgroup
        if start < 0:
            if kind in ("blank", "comment"):
                continue
            line += text.count("\n", at_line, match.start())
            at_line = start = match.start()
        if kind == "open":
            depth += 1
            deepest = max(deepest, depth)
        elif kind == "close":
            depth = max(0, depth - 1)
        elif kind == "quote" and open_quote < 0:
            open_quote = match.start()
        elif kind == "string" and spanning < 0 and "\n" in match[0]:
            spanning = match.start()
        steps += kind in ("open", "step")
        if kind == "end" and open_quote < 0:
            yield _statement(text[start : match.end()], line, deepest, steps)
            start, depth, deepest, steps, spanning = -1, 0, 0, 0, -1
    if open_quote >= 0:
        line += text.count("\n", at_line, spanning if spanning >= 0 else open_quote)
        yield Statement(
            text=text[start:], line=line, fault="open_string", got="the end of the file"
        )
    elif start >= 0:
        yield Statement(text=text[start:], line=line, fault="no_end", got="the end of the file")


def line_of(text: str, word: str) -> int:
    """How many lines below the first `word` stands in the code of `text`, if it stands there once.

    Zero when it is absent or stands there more than once: a wrong line is worse than the first. A
    `word` in quotes is looked for among strings, any other among words.
    """
    found = [
        match.start()
        for match in _TOKEN.finditer(text)
        if match.lastgroup not in ("comment", "blank") and match[0] == word
    ]
    return text.count("\n", 0, found[0]) if len(found) == 1 else 0


def hidden_character(text: str) -> tuple[int, str] | None:
    """The line and the name (`U+202E`) of the first character nobody sees, if there is one.

    Line breaks are LF or CRLF: a lone CR ends a comment for the engine and in few editors.
    """
    rest = _LAYOUT.sub(lambda match: " " * len(match[0]), text)
    if rest.isascii() and rest.isprintable():
        return None
    for index, ch in enumerate(rest):
        if unicodedata.category(ch) in _HIDDEN:
            return text.count("\n", 0, index) + 1, f"U+{ord(ch):04X}"
    return None


def _statement(text: str, line: int, deepest: int, steps: int) -> Statement:
    if len(text) > LONGEST_STATEMENT:
        return Statement(text=text, line=line, fault="too_long", got=f"{len(text)} characters")
    if deepest > DEEPEST:
        return Statement(text=text, line=line, fault="too_deep", got=f"{deepest} open brackets")
    if steps > MOST_STEPS:
        return Statement(text=text, line=line, fault="too_deep", got=f"{steps} operators")
    return Statement(text=text, line=line)
