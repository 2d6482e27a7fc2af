"""Where the log of a test of faults is kept, and what somebody could do to it there from outside."""

from __future__ import annotations

import shutil
from contextlib import closing
from pathlib import Path
from typing import Protocol

from ensemble.log import read_log
from ensemble.log.objects.store import objects_at


class Kept(Protocol):
    """A store that there is not yet."""

    url: str
    is_missed_late: bool
    """Whether who writes it may not see at once that it is gone."""

    def size(self) -> int:
        """What grows with each commit; 0: there is no store."""
        ...

    def let_go(self) -> None:
        """Have whoever writes it not know that another does."""
        ...

    def remove(self) -> None: ...


class InDirectory:
    is_missed_late = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.url = str(folder)

    def size(self) -> int:
        return sum(path.stat().st_size for path in self._folder.rglob("*.seg"))

    def let_go(self) -> None:
        (self._folder / "lock").unlink()

    def remove(self) -> None:
        shutil.rmtree(self._folder)


class InObjects:
    """An object store keeps nobody out: who opens it takes it over. Its manifest is looked at once a second."""

    is_missed_late = True

    def __init__(self, url: str) -> None:
        self.url = url

    def size(self) -> int:
        with closing(read_log(self.url)) as log:
            return log.end().seq

    def let_go(self) -> None: ...

    def remove(self) -> None:
        objects = objects_at(self.url)
        for path in objects.list(""):
            objects.delete(path)
