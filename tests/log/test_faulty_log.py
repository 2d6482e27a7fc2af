"""The log with settable faults: what it is told to do wrong, and nothing else."""

from __future__ import annotations

import threading

import pytest

from ensemble.errors import Unavailable
from ensemble.log import EventLog, Snapshot, open_log
from ensemble.testing import FaultyLog
from tests.log.log_samples import append, contents, flat, frame


@pytest.fixture
def log() -> FaultyLog:
    return FaultyLog(open_log("memory:", name="band", id="log"))


def test_without_faults_it_is_the_log_that_it_wraps(log: FaultyLog) -> None:
    as_log: EventLog = log
    groups = append(as_log, [2], [1])
    as_log.save(Snapshot(as_log.end(), b"state"))

    assert contents(as_log) == contents(log.log) == flat(groups)
    assert (log.id, log.name, log.shard, log.epoch, list(log.notes)) == ("log", "band", 0, 1, [])
    assert log.snapshot() == log.log.snapshot()
    assert [kept.first for kept in log.rows(2)] == [2]
    assert log.frame_at(1).first == 0
    assert log.size_bytes() == log.log.size_bytes()
    assert (log.appends, log.saves) == (2, 1)
    log.close()
    with pytest.raises(Unavailable, match="closed"):
        log.log.end()


@pytest.mark.parametrize("after_writing", [False, True])
def test_the_append_that_was_chosen_fails_and_all_after_it_are_refused(log: FaultyLog, after_writing: bool) -> None:
    log.fail_append(2, after_writing=after_writing)
    append(log, [1])

    with pytest.raises(Unavailable, match="the disk is full"):
        append(log, [1])

    assert log.end().seq == (2 if after_writing else 1)
    with pytest.raises(Unavailable, match="takes no more until it is opened again"):
        log.append([b""])


def test_any_error_can_be_given(log: FaultyLog) -> None:
    log.fail_append(error=OSError(28, "mine"))

    with pytest.raises(OSError, match="mine"):
        append(log, [1])


def test_a_save_that_fails_leaves_the_log_as_it_was(log: FaultyLog) -> None:
    append(log, [1])
    log.fail_save()

    with pytest.raises(Unavailable, match="a snapshot can't be written"):
        log.save(Snapshot(log.end(), b"state"))

    assert log.snapshot() is None
    append(log, [1])
    log.save(Snapshot(log.end(), b"state"))
    assert log.snapshot() is not None


def test_an_append_that_is_held_has_written_nothing_until_it_is_released(log: FaultyLog) -> None:
    log.hold()
    sealed = log.seal(frame(log.end(), 1))
    writer = threading.Thread(target=log.append, args=([sealed],))
    writer.start()
    assert log.held.wait(timeout=10)
    assert log.end().seq == 0

    log.release()

    writer.join(timeout=10)
    assert log.end().seq == 1
    assert not log.held.is_set()
