"""The closing journal of a process that runs, on a disk that may not be mounted."""

import errno
from pathlib import Path

from tidegate.evidence.journal import ClosingJournal, JournalContents
from tidegate.evidence.journal_book import JournalBook


class MountedJournal(ClosingJournal):
    """A closing journal whose directory must be there.

    Without one its disk is away, and what it names is not known: that is another thing than a
    journal that has no line yet.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._directory = path.parent

    def book(self) -> JournalBook:
        """As the journal's. Raises OSError also when its directory is not there."""
        check_mounted(self._directory)
        return super().book()

    def inspect(self) -> JournalContents:
        """As the journal's. Raises OSError also when its directory is not there."""
        check_mounted(self._directory)
        return super().inspect()


def check_mounted(directory: Path) -> None:
    """Raise OSError unless `directory` is there: what it should hold is not known then.

    An empty mount point is there: what is kept belongs in a directory below it.
    """
    if not directory.is_dir():
        raise FileNotFoundError(errno.ENOENT, "No such directory", str(directory))
