"""A newer release than this one: its source in a folder, with one more migration.

What it adds is what most releases add: a column on a row that changes all the time, a table, an
index. Its own code works as this one's does, so whatever differs between the two is their schema.
"""

import shutil
from pathlib import Path

from tidegate import __version__
from tidegate.store.migrate import REVISIONS

SOURCE = Path(__file__).parents[1] / "src" / "tidegate"
VERSION = "999.0.0"
MIGRATION = '''"""What a newer release has more."""

import sqlalchemy as sa
from alembic import op

revision = "{new}"
down_revision = "{old}"


def upgrade() -> None:
    """A column, a table, an index."""
    more = sa.Column("of_a_newer_release", sa.Text, nullable=False, server_default="")
    op.add_column("grants", more)
    op.create_table("of_a_newer_release", sa.Column("id", sa.Text, primary_key=True))
    op.create_index("grants_of_a_newer_release", "grants", ["of_a_newer_release"])
'''


def newer_release(folder: Path) -> Path:
    """Make it; returns what goes first on its PYTHONPATH."""
    made = folder / "tidegate"
    shutil.copytree(SOURCE, made)
    old = REVISIONS[-1]
    new = f"{int(old) + 1:04}"
    versions = made / "store" / "migrations" / "versions"
    (versions / f"{new}_newer.py").write_text(MIGRATION.format(new=new, old=old))
    _change(made / "store" / "migrate.py", f'    "{old}",\n', f'    "{old}",\n    "{new}",\n')
    _change(made / "__init__.py", f'"{__version__}"', f'"{VERSION}"')
    return folder


def _change(file: Path, found: str, put: str) -> None:
    text = file.read_text()
    if text.count(found) != 1:
        raise RuntimeError(f"expected `{found}` once in {file.name}, got {text.count(found)}")
    file.write_text(text.replace(found, put))
