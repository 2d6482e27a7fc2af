"""A process that trims its log is killed at any moment; and readers beside one that goes on."""

from __future__ import annotations

import random
from pathlib import Path

from ensemble.log import read_log
from ensemble.log.audit import audit_log
from ensemble.log.cut import goes_through
from tests.log.faults.trimming_writer import check, event, opened
from tests.log.faults.writers import killed, said_by, writer
from tests.log.past_samples import verify

WRITER = Path(__file__).with_name("trimming_writer.py")


def test_a_writer_killed_while_it_trims_loses_nothing_but_what_its_rules_take(tmp_path: Path) -> None:
    chance = random.Random(7)
    store = tmp_path / "store"
    begins, midway = set(), 0
    for seed in range(15):
        with writer(WRITER, store, seed) as process:
            acknowledged = 0
            for _ in range(chance.randrange(5, 100)):
                acknowledged = int(said_by(process).readline())
            acknowledged = killed(process, acknowledged)

        midway += any(store.glob("shard-0/*.tmp"))
        check(read_log(str(store)), acknowledged)
        log = opened(store)
        check(log, acknowledged)
        log.close()
        assert not list(store.glob("shard-0/*.tmp"))
        verify(store, "log")
        begins.add(log_begin(store))
    assert len(begins) > 3, "the log began later and later"
    assert midway > 0, "some were killed while a pack was on its way"


def test_a_writer_killed_while_it_archives_has_all_in_the_archive_or_in_its_log(tmp_path: Path) -> None:
    chance = random.Random(11)
    store, cold = tmp_path / "store", tmp_path / "cold"
    ends = set()
    for seed in range(7):
        with writer(WRITER, store, seed, cold) as process:
            acknowledged = 0
            for _ in range(chance.randrange(5, 100)):
                acknowledged = int(said_by(process).readline())
            acknowledged = killed(process, acknowledged)

        log = opened(store)
        check(log, acknowledged)
        if (cold / "ensemble.json").exists():
            archive = read_log(str(cold))
            end, at = archive.end(), 0
            for frame in archive.frames():
                for ix in range(frame.count):
                    assert frame.rows is not None
                    assert (frame.rows.topic(ix), frame.rows.keys[ix], frame.rows.data[ix]) == event(frame.first + ix)
                at = frame.end
            assert at == end.offset
            assert log.begin().seq <= end.seq and goes_through(log, end)
            assert all(frame.removed is None for frame in log.frames(end.seq)), "what lost something is archived"
            assert audit_log(str(cold)).findings == []
            ends.add(end.seq)
        log.close()
    assert len(ends) > 2, "more and more was archived"


def log_begin(store: Path) -> int:
    return read_log(str(store)).begin().offset


def test_readers_beside_a_writer_that_trims_meet_no_damage(tmp_path: Path) -> None:
    store = tmp_path / "store"
    with writer(WRITER, store, 3) as process:
        said_by(process).readline()
        reader = read_log(str(store))
        at, jumps = 0, 0
        while jumps < 2 or at < 800:
            for frame in reader.frames(at):
                assert frame.seq >= at
                jumps += frame.seq > at
                at = frame.seq + 1
            anew = read_log(str(store))
            assert not at or [frame.seq for frame in anew.frames()][-1] >= at - 1
            at = max(0, anew.begin().seq - 40) if at % 5 == 0 else at  # a reader that was away for long
