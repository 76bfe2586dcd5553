"""The lines under `Backups` in docs/operations.md, as written: a backup of a database in use, put
back whole.
"""

import re
import shutil
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs" / "operations.md"
NO_PROGRAM = pytest.mark.skipif(shutil.which("sqlite3") is None, reason="no sqlite3 here")


def lines(head: str) -> list[str]:
    """The commands for SQLite under a head of the operations document, in order."""
    section = re.split(r"^##", DOCS.read_text().partition(f"{head}\n")[2], flags=re.MULTILINE)[0]
    found: list[str] = re.findall(r"^    (\S.*)$", section, re.MULTILINE)
    return [line for line in found if not re.match(r"psql|pg_", line)]


def typed(line: str, at: Path) -> None:
    """One line in `at`, with `/backup` beside it. `umask` holds for one shell, so for each line."""
    line = line.replace("/backup/", f"{at.parent}/backup/")
    subprocess.run(["bash", "-c", f"umask 077; {line}"], cwd=at, check=True)


def written(file: Path) -> list[int]:
    """What is in the database `file`."""
    with closing(sqlite3.connect(file)) as db:
        return [row[0] for row in db.execute("SELECT n FROM told ORDER BY n")]


@pytest.mark.parametrize(
    "program", [pytest.param("sqlite3", marks=NO_PROGRAM), pytest.param("python3")]
)
def test_documented_backup_lacks_rows_or_mixes_two_databases(tmp_path: Path, program: str) -> None:
    """Backed up in use, and put back over a database with a write-ahead log of its own."""
    at = tmp_path / "here"
    at.mkdir()
    (tmp_path / "backup").mkdir()
    with closing(sqlite3.connect(at / "tidegate.db")) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("CREATE TABLE told (n INTEGER)")
        db.execute("INSERT INTO told VALUES (1)")
        db.commit()
        (backup,) = [line for line in lines("## Backups") if line.startswith(program)]
        typed(backup, at)
        db.execute("INSERT INTO told VALUES (2)")
        db.commit()
        for line in lines("### Putting one back"):
            typed(line, at)
        assert written(at / "tidegate.db") == [1]
    assert (at / "tidegate.db").stat().st_mode & 0o777 == 0o600
    assert written(at / "lost" / "tidegate.db") == [1, 2]
