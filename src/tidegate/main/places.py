"""Where each value of a TOML file stands, so that a mistake is told with its line.

The standard parser gives values without places. This reads a text that it has accepted already, so
it need not judge: it walks the tokens and notes the line of every value, inside lists and inline
tables too. Knows TOML 1.0 (toml.io), decides nothing. Called by whoever reads a file of ours.
"""

import re
import tomllib

Place = tuple[str | int, ...]  # ("target", 0, "role", 1, "arn")

_TOKEN = re.compile(
    r"""(?P<blank>[ \t]+|\#[^\n]*)
    | (?P<line>\r?\n)
    | (?P<text>\"{3}(?:\\.|[^\\])*?\"{3,5} | '{3}.*?'{3,5} | "(?:\\.|[^"\\\n])*" | '[^'\n]*')
    | (?P<sign>[\[\]{}=,.])
    | (?P<bare>[^\s\#\[\]{}=,."']+)""",
    re.DOTALL | re.VERBOSE,
)
_ENDS = frozenset({"\n", ",", "]", "}", ""})


class Places:
    """The line of each value of `text`, a document that `tomllib` has read without complaint."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Place, int] = {}
        self._counted: dict[Place, int] = {}  # of an array of tables: how many there are so far
        self._tokens: list[tuple[str, int]] = []
        self._at = 0
        line = 1
        for match in _TOKEN.finditer(text):
            if match.lastgroup != "blank":
                self._tokens.append(("\n" if match.lastgroup == "line" else match[0], line))
            line += match[0].count("\n")
        self._document()

    def line(self, place: Place) -> int:
        """The line (from 1) of the value there, else of what would hold it; 0 if that is all."""
        while place and place not in self._lines:
            place = place[:-1]
        return self._lines.get(place, 0)

    def _document(self) -> None:
        table: Place = ()
        while self._at < len(self._tokens):
            if self._peek() == "\n":
                self._next()
            elif self._peek() == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Place:
        _, line = self._next()
        several = self._peek() == "["
        if several:
            self._next()
        keys = self._keys()
        while self._peek() not in ("\n", ""):
            self._next()
        place = self._within(keys[:-1]) + keys[-1:]
        if several:
            self._counted[place] = self._counted.get(place, 0) + 1
            self._lines.setdefault(place, line)
            place = (*place, self._counted[place] - 1)
        self._lines.setdefault(place, line)
        return place

    def _within(self, keys: Place) -> Place:
        """The table that dotted `keys` mean: of an array of tables, the last one."""
        place: Place = ()
        for key in keys:
            place = (*place, key)
            if place in self._counted:
                place = (*place, self._counted[place] - 1)
        return place

    def _pair(self, table: Place) -> None:
        keys = self._keys()
        self._next()  # the equals sign
        line = self._tokens[self._at][1] if self._at < len(self._tokens) else 0
        for count in range(1, len(keys)):
            self._lines.setdefault(table + keys[:count], line)
        self._value(table + keys)

    def _keys(self) -> Place:
        keys: list[str] = []
        while self._peek() not in ("=", "]", ""):
            text, _ = self._next()
            if text != ".":
                keys.append(_unquoted(text))
        return tuple(keys)

    def _value(self, place: Place) -> None:
        opened, line = self._next()
        self._lines.setdefault(place, line)
        if opened == "[":
            count = 0
            while self._peek() not in ("]", ""):
                if self._peek() in ("\n", ","):
                    self._next()
                else:
                    self._value((*place, count))
                    count += 1
            self._next()
        elif opened == "{":
            while self._peek() not in ("}", ""):
                if self._peek() in ("\n", ","):
                    self._next()
                else:
                    self._pair(place)
            self._next()
        else:
            while self._peek() not in _ENDS:  # 1.5 and 07:32 are several tokens
                self._next()

    def _peek(self) -> str:
        return self._tokens[self._at][0] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, int]:
        token = self._tokens[self._at] if self._at < len(self._tokens) else ("", 0)
        self._at += 1
        return token


def _unquoted(key: str) -> str:
    if key[0] in "\"'":
        return str(tomllib.loads(f"k = {key}")["k"])
    return key
