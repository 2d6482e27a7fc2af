"""Every kind of store, behind the few things that the suite asks of one. A new kind is a class here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ensemble.log import EventLog, LogReader, has_log, open_log, read_log
from ensemble.log import memory as memory_logs
from ensemble.log.directory import DirectoryLog


class Store(ABC):
    """One place where a log may be. It lets go of all that it opened."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._opened: list[LogReader] = []

    def open(self, **options: Any) -> EventLog:
        log = open_log(self.url, **({"name": "band"} | options))
        self._opened.append(log)
        return log

    def read(self) -> LogReader:
        log = read_log(self.url)
        self._opened.append(log)
        return log

    def exists(self) -> bool:
        return has_log(self.url)

    @abstractmethod
    def forget(self, log: EventLog) -> None:
        """The store takes its writer for dead: it is not, and knows nothing of it."""

    def close(self) -> None:
        for log in self._opened:
            log.close()


class MemoryStores(Store):
    def forget(self, log: EventLog) -> None:
        store = memory_logs.memory_store(self.url.partition(":")[2])
        assert store is not None
        store.writer = None


class DirectoryStores(Store):
    def forget(self, log: EventLog) -> None:
        assert isinstance(log, DirectoryLog)
        (log.folder / "lock").unlink()


@pytest.fixture(params=["memory", "directory", "file url"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = request.node.nodeid
    kinds: dict[str, Store] = {
        "memory": MemoryStores(f"memory:{name}"),
        "directory": DirectoryStores(str(tmp_path / "music" / "store")),
        "file url": DirectoryStores((tmp_path / "a store").as_uri()),
    }
    made = kinds[request.param]
    yield made
    made.close()
