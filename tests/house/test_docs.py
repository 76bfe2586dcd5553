"""What the documents say is what the code does."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_states_page_drawn_from_other_tables_is_found() -> None:
    """`docs/states.md` is exactly what the transition tables draw."""
    spec = importlib.util.spec_from_file_location("make_states", ROOT / "docs" / "make_states.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.page() == (ROOT / "docs" / "states.md").read_text()
