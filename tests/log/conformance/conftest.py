"""Every kind of store, behind the few things that the suite asks of one. A new kind is a class here."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from obstore import store as stores

from ensemble.log import EventLog, LogReader, has_log, new_id, open_log, read_log
from ensemble.log import memory as memory_logs
from ensemble.log.directory import DirectoryLog
from ensemble.log.objects.log import let_go, open_objects, read_objects, read_root
from ensemble.log.objects.store import Objects
from tests.azure import Azure
from tests.gcs import GCS
from tests.log.object_samples import Losing
from tests.s3 import S3


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


class ObjectStores(Store):
    """A log of objects over any of obstore's stores."""

    def __init__(self, store: Any, where: str) -> None:
        super().__init__(where)
        self._store = store

    def objects(self) -> Objects:
        return Objects(self._store, self.url, pause=lambda seconds: None)

    def open(self, **options: Any) -> EventLog:
        given: dict[str, Any] = {"name": "band", "log_id": options.pop("id", None) or new_id()} | options
        given.pop("durability", None)
        log = open_objects(self.objects(), **given)
        self._opened.append(log)
        return log

    def read(self) -> LogReader:
        log = read_objects(self.objects())
        self._opened.append(log)
        return log

    def exists(self) -> bool:
        return read_root(self.objects()) is not None

    def forget(self, log: EventLog) -> None:
        let_go(self.url)


class CloudStores(Store):
    """Over the network, to a server that speaks as a cloud's does."""

    def forget(self, log: EventLog) -> None:
        let_go(self.url)


class ObjectsLosingAnswers(ObjectStores):
    """Every third call has no answer: it was made, or it was not, in turn."""

    def objects(self) -> Objects:
        return Losing(self._store, self.url, every=3)


KINDS = (
    *("memory", "directory", "file url", "objects in memory", "objects in a folder", "objects losing answers", "s3", "gcs"),
    pytest.param("azure", marks=pytest.mark.everywhere("it needs a program that is none of Python's")),
)


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    name = request.node.nodeid
    if request.param in ("s3", "gcs", "azure"):
        server: S3 | GCS | Azure = request.getfixturevalue(request.param)
        over_there = CloudStores(server.url())
        yield over_there
        over_there.close()
        return
    kinds: dict[str, Store] = {
        "memory": MemoryStores(f"memory:{name}"),
        "directory": DirectoryStores(str(tmp_path / "music" / "store")),
        "file url": DirectoryStores((tmp_path / "a store").as_uri()),
        "objects in memory": ObjectStores(stores.MemoryStore(), name),
        "objects in a folder": ObjectStores(stores.LocalStore(tmp_path / "objects", mkdir=True), name),
        "objects losing answers": ObjectsLosingAnswers(stores.MemoryStore(), name),
    }
    made = kinds[request.param]
    yield made
    made.close()
