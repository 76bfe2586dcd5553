"""The scanner: where statements end, and what must not reach the engine."""

from hypothesis import given
from hypothesis import strategies as st

from tidegate.policy.scanner import (
    DEEPEST,
    LONGEST_STATEMENT,
    MOST_STEPS,
    hidden_character,
    line_of,
    split_statements,
)


def test_semicolons_in_strings_and_comments_end_nothing() -> None:
    """Only a `;` of the code ends a statement; lines count from the first token."""
    text = '// a; b\n\na "x;\\";\n" // c;\n;\n  b;\n// the end'
    assert [(statement.text, statement.line) for statement in split_statements(text)] == [
        ('a "x;\\";\n" // c;\n;', 3),
        ("b;", 6),
    ]


def test_missing_end_is_told_where_the_rule_begins() -> None:
    """A last rule without `;` is found, not dropped."""
    (first, last) = split_statements("a;\nb\nc")
    assert (first.fault, last.fault, last.line) == ("", "no_end", 2)


def test_open_string_is_told_where_it_opens() -> None:
    """An open string swallows the rest; its own line is named, and nothing after it is a rule."""
    (only,) = split_statements('a\n"b;\nc;\n')
    assert (only.fault, only.line) == ("open_string", 2)


def test_missing_quote_is_told_at_the_last_string() -> None:
    """A missing quote turns strings around; told is where the first one runs over a line's end."""
    text = '@id("a") @max("2h) @approve("none")\npermit (x in "y");\n\n@id("b") z;\n'
    (only,) = split_statements(f"// first\n{text}")
    assert (only.fault, only.line) == ("open_string", 2)
    last = list(split_statements(f'a "\n";\n{text}'))[-1]
    assert (last.fault, last.line) == ("open_string", 3)


def test_what_would_end_the_process_never_reaches_the_engine() -> None:
    """Depth, chains and length are bounded before the native parser recurses into them."""
    for text, fault in (
        ("(" * (DEEPEST + 1) + ")" * (DEEPEST + 1) + ";", "too_deep"),
        ("a" + ".a" * (MOST_STEPS + 1) + ";", "too_deep"),
        ("if a then b else " * (MOST_STEPS + 1) + "c;", "too_deep"),
        ("a" + " && a" * (MOST_STEPS + 1) + ";", "too_deep"),
        ("a" * LONGEST_STATEMENT + ";", "too_long"),
    ):
        assert fault == next(split_statements(text)).fault
    assert next(split_statements("(" * DEEPEST + ")" * DEEPEST + ";")).fault == ""


def test_hidden_characters_are_named_with_their_line() -> None:
    """A file that looks different from what it does is refused; layout and umlauts are not."""
    assert hidden_character("a\r\n\tb // für alle\u00a0\n") is None
    assert hidden_character("a\n\u202eb") == (2, "U+202E")
    assert hidden_character("// fine\rforbid") == (1, "U+000D")
    assert hidden_character("\ufeffpermit") == (1, "U+FEFF")
    assert hidden_character("\ud800") == (1, "U+D800")


def test_line_of_gives_no_wrong_line() -> None:
    """A word that stands twice is not guessed at, nor one that stands in a comment only."""
    assert line_of('a\n"b" // c', '"b"') == 1
    assert line_of("a\nb\nb", "b") == 0
    assert line_of("a\n// c", "c") == 0


PIECES = st.lists(
    st.sampled_from(['"s;"', "// c;\n", " ", "\n", ";", "word", "(", ")", '"\\";"', "&&"])
).map("".join)


def code(text: str) -> str:
    """What is neither blank nor comment, found one character at a time."""
    kept, at = "", 0
    while at < len(text):
        if text.startswith("//", at):
            at = text.find("\n", at) % (len(text) + 1)
            continue
        to = at + 1
        if text[at] == '"':
            while to < len(text) and text[to] != '"':
                to += 2 if text[to] == "\\" else 1
            to += 1
        kept, at = kept + text[at:to], to
    return "".join(kept.split())


@given(PIECES)
def test_no_code_falls_between_statements(text: str) -> None:
    """What is in no statement is blank or comment, and each stands on the line it is given."""
    statements = list(split_statements(text))
    assert code("\n".join(statement.text for statement in statements)) == code(text)
    for statement in statements:
        if statement.fault != "open_string":
            line = text.split("\n")[statement.line - 1]
            assert statement.text.split("\n")[0] in line
