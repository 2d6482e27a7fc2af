"""A writer of a log of objects in a process of its own: killed at any moment, or replaced while it writes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ensemble.log.objects.log import open_objects, read_objects
from tests.log.faults.log_writer import check
from tests.log.faults.object_log_writer import objects

WRITER = Path(__file__).with_name("object_log_writer.py")
ROOT = WRITER.parents[3]


@contextmanager
def writer(folder: Path, seed: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, str(WRITER), str(folder), str(seed)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env={"PYTHONPATH": str(ROOT)})
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(7)
    folder = tmp_path / "store"
    for seed in range(8):
        with writer(folder, seed) as process:
            assert process.stdout is not None
            acknowledged = 0
            for _ in range(chance.randrange(1, 40)):
                acknowledged = int(process.stdout.readline())
            process.kill()
            acknowledged = max([acknowledged, *(int(line) for line in process.stdout.read().splitlines())])

        kept = list(read_objects(objects(str(folder))).frames())
        assert len(kept) >= acknowledged
        check(kept)


def test_a_writer_that_was_replaced_while_it_writes_is_refused_and_told_by_whom(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    with writer(folder, 1) as old:
        assert old.stdout is not None
        for _ in range(20):
            acknowledged = int(old.stdout.readline())

        new = open_objects(objects(str(folder)), name="band", log_id="log")

        *more, refused = old.stdout.read().splitlines()
        assert "taken over by another writer (process " in refused
        assert "epoch 2; our epoch is 1" in refused
        assert new.end().seq >= max([acknowledged, *map(int, more)])
        check(list(new.frames()))
        new.close()
