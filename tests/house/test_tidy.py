"""House rules that run: what a reviewer would otherwise have to see."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = sorted((ROOT / "src").rglob("*.py"))
LONGEST_FUNCTION = 70  # lines, docstring included: one screen
LONGEST_FILE = 600  # lines; the aim is 400

# A clock or randomness anywhere but where it is wired makes a test need patching.
BANNED = {
    r"\bdatetime\.now\(|\btime\.time\(|\bdatetime\.utcnow\(": "take `now` as an argument",
    r"\buuid4\(|\brandom\.|\bos\.urandom\(|\bsecrets\.": "take randomness from a port",
    r"\b(TODO|FIXME|XXX)\b": "do it, or write it down as a limit",
    r"shell=True": "no shell",
    r"verify=False|CERT_NONE": "certificates are always checked",
}
# Wires the clock and the randomness; processes of their own.
MAY = {"main", "tidegate_credentials", "tidegate_standin"}


def ids(path: Path) -> str:
    """A short name for a source file."""
    return str(path.relative_to(ROOT / "src"))


@pytest.mark.parametrize("path", SOURCE, ids=ids)
def test_banned_call_is_found(path: Path) -> None:
    """No pure room reads a clock, draws randomness, or switches off a check."""
    parts = path.relative_to(ROOT / "src").parts
    for number, line in enumerate(path.read_text().splitlines(), 1):
        for pattern, instead in BANNED.items():
            if re.search(pattern, line) and not MAY & set(parts):
                pytest.fail(f"{path.name}:{number}: {line.strip()}: {instead}")


@pytest.mark.parametrize("path", SOURCE, ids=ids)
def test_long_function_or_file_is_found(path: Path) -> None:
    """Functions fit on a screen and files in a head."""
    text = path.read_text()
    assert text.count("\n") <= LONGEST_FILE
    for node in functions(text):
        length = (node.end_lineno or 0) - node.lineno + 1
        assert length <= LONGEST_FUNCTION, f"{path.name}: {node.name} has {length} lines"


@pytest.mark.parametrize("path", SOURCE, ids=ids)
def test_public_name_without_docstring_is_found(path: Path) -> None:
    """Every module, public class and public function says what a caller must know."""
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree) or not tree.body, f"{path} has no docstring"
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{path.name}: class {node.name}"
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
                    assert ast.get_docstring(part), f"{path.name}: {node.name}.{part.name}"
    for part in tree.body:
        if isinstance(part, ast.FunctionDef) and not part.name.startswith("_"):
            assert ast.get_docstring(part), f"{path.name}: {part.name}"


def test_authorization_by_assert_is_found() -> None:
    """`assert` disappears under -O, so rooms that decide on access hold none."""
    for name in ("flow/allowing.py", "approve.py", "session.py", "policy/decide.py"):
        tree = ast.parse((ROOT / "src" / "tidegate" / name).read_text())
        assert not [node for node in ast.walk(tree) if isinstance(node, ast.Assert)], name


def test_test_without_behaviour_sentence_is_found() -> None:
    """Every test says in one sentence what must hold."""
    missing = [
        f"{path.name}: {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in functions(path.read_text())
        if node.name.startswith("test_") and not ast.get_docstring(node)
    ]
    assert missing == []


def functions(text: str) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function in a source text."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
