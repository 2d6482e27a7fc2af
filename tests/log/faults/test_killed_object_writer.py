"""A writer of a log of objects in a process of its own: killed at any moment, replaced while it writes, or stopped for long.

Promise: what it was told is durable is there, and nothing that it does after it was replaced is part of the log.
"""

from __future__ import annotations

import os
import random
import signal
from contextlib import closing
from pathlib import Path

import pytest

from ensemble.log import EventLog, open_log, read_log
from ensemble.log.objects.store import objects_at
from tests.conformance.stand import eventually
from tests.effort import some
from tests.log.faults.log_writer import check, expected
from tests.log.faults.writers import killed, said_by, writer
from tests.s3 import S3

WRITER = Path(__file__).with_name("log_writer.py")


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        return server.url()
    return f"objects:{tmp_path / 'store'}"


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(url: str) -> None:
    chance = random.Random(7)
    for seed in range(some(8, 4)):
        with writer(WRITER, url, seed) as process:
            acknowledged = 0
            for _ in range(chance.randrange(1, 40)):
                acknowledged = int(said_by(process).readline())
            acknowledged = killed(process, acknowledged)

        with closing(read_log(url)) as reader:
            kept = list(reader.frames())
        assert len(kept) >= acknowledged
        check(kept)


def test_a_writer_that_was_replaced_while_it_writes_is_refused_and_told_by_whom(url: str) -> None:
    with writer(WRITER, url, 1) as old:
        for _ in range(20):
            acknowledged = int(said_by(old).readline())

        with closing(open_log(url, name="band")) as new:
            *more, refused = said_by(old).read().splitlines()
            assert "taken over by another writer (process " in refused
            assert "epoch 2; our epoch is 1" in refused
            assert new.end().seq >= max([acknowledged, *map(int, more)])
            check(list(new.frames()))


def write_on(log: EventLog, groups: int) -> None:
    for _ in range(groups):
        at = log.end()
        log.append([log.seal(expected(at.seq, at.offset))])


def test_a_writer_that_was_stopped_until_its_entries_were_deleted_and_goes_on_is_refused(url: str) -> None:
    with writer(WRITER, url, 3) as old:
        for _ in range(10):
            said_by(old).readline()
        os.kill(old.pid, signal.SIGSTOP)  # wherever it is
        with closing(open_log(url, name="band")) as new:
            write_on(new, 300)
            objects = objects_at(url)
            log = f"log/{new.id}/"
            eventually(lambda: objects.list(log)[0] >= f"{log}{256:020d}", "the deletion of what the writer waits to write", 60)
            before = new.end()

            os.kill(old.pid, signal.SIGCONT)
            refused = said_by(old).read().splitlines()[-1]

            assert "taken over by another writer" in refused
            assert objects.list(log)[0] >= f"{log}{256:020d}", "what it still wrote is left"
            assert new.end() == before
            write_on(new, 3)
        with closing(read_log(url)) as reader:
            kept = list(reader.frames())
        assert len(kept) == before.seq + 3
        check(kept)
