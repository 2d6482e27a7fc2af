"""A writer in a process of its own, killed or stalled at any moment."""

from __future__ import annotations

import random
import signal
from pathlib import Path

from ensemble.event import Frame
from ensemble.log import open_log, read_log
from tests.effort import some
from tests.log.faults.log_writer import check, expected
from tests.log.faults.writers import killed, said_by, writer

WRITER = Path(__file__).with_name("log_writer.py")


def test_a_writer_killed_at_any_moment_loses_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    chance = random.Random(11)
    cuts = 0
    for seed in range(some(25)):
        with writer(WRITER, tmp_path / "store", seed) as process:
            acknowledged = 0
            for _ in range(chance.randrange(1, 40)):
                acknowledged = int(said_by(process).readline())
            reader = read_log(str(tmp_path / "store"))
            seen = reader.end().seq
            assert seen >= acknowledged, "a reader beside it sees what was acknowledged"
            acknowledged = killed(process, acknowledged)

        kept = list(reader.frames())
        assert len(kept) >= max(acknowledged, seen)
        check(kept)
        log = open_log(str(tmp_path / "store"), name="band")
        assert log.end().seq == len(kept), "what the reader stopped before is what is cut"
        check(list(log.frames()))
        snapshot = log.snapshot()
        assert snapshot is None or snapshot.state == b"%d" % snapshot.at.seq
        cuts += len(log.notes)
        log.close()
    assert cuts <= some(25)


def test_a_reader_beside_a_writer_meets_no_damage_and_sees_all_in_order(tmp_path: Path) -> None:
    with writer(WRITER, tmp_path / "store", 3) as process:
        said_by(process).readline()
        reader = read_log(str(tmp_path / "store"))
        kept: list[Frame] = []
        while len(kept) < 1500:
            kept += reader.frames(len(kept))
            end = reader.end()
            assert end.seq >= len(kept)
            if end.offset:
                assert reader.frame_at(end.offset - 1).end <= end.offset

    check(kept)


def test_a_writer_that_stalled_and_was_replaced_wakes_and_writes_nothing(tmp_path: Path) -> None:
    with writer(WRITER, tmp_path / "store", 5) as process:
        for _ in range(10):
            said_by(process).readline()
        process.send_signal(signal.SIGSTOP)
        (tmp_path / "store" / "lock").unlink()  # an operator believes it dead

        log = open_log(str(tmp_path / "store"), name="band")
        for _ in range(5):
            end = log.end()
            log.append([log.seal(expected(end.seq, end.offset))])
        process.send_signal(signal.SIGCONT)
        said = said_by(process).read().splitlines()

        assert "was taken over by another writer (its epoch is 2, ours 1)" in said[-1]
        assert process.wait() == 0
    assert log.end().seq > 5
    check(list(read_log(str(tmp_path / "store")).frames()))
