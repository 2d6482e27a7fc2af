"""Group commit: what was sealed is appended in order, one group at a time; who waits for it is told when it is durable."""

from __future__ import annotations

from collections.abc import Iterator
from queue import SimpleQueue
from typing import Any

import pytest

from ensemble.errors import Unavailable
from ensemble.event import Frame, Rows, encode
from ensemble.log import open_log
from ensemble.log.base import Snapshot
from ensemble.stage.commit import BYTES_MOST, LINGER_BYTES, Commit, Group
from ensemble.testing import FaultyLog

Told = list[BaseException | None]


class Writing:
    """A commit over a log with settable faults, and what it posts."""

    def __init__(self, *, is_inline: bool = False, linger_us: int = 0) -> None:
        self.log = FaultyLog(open_log("memory:", name="test"))
        self.posted: SimpleQueue[Group | BaseException] = SimpleQueue()
        self.commit = Commit(self.log, 0, self.posted.put, is_inline=is_inline, linger_us=linger_us)
        self._frames = 0

    def seal(self, **marks: object) -> None:
        """Seal one more frame, which holds no events."""
        self._frames += 1
        self.commit.seal(Frame(first=0, time_us=self._frames, rows=None, marks=marks))

    def tell(self) -> Told:
        """What will be told of all that is sealed by now."""
        told: Told = []
        self.commit.tell(told.append)
        return told

    def take(self) -> Group:
        """The next group that the writer's thread brings back, taken as the loop does."""
        group = self.posted.get(timeout=20)
        assert isinstance(group, Group)
        self.commit.done(group)
        return group

    def times(self) -> list[int]:
        """Which frames are in the log."""
        return [frame.time_us for frame in self.log.frames()]


@pytest.fixture
def writing() -> Iterator[Writing]:
    writing = Writing()
    yield writing
    writing.log.release()
    writing.commit.close()


def test_what_is_sealed_is_not_in_the_log_before_it_is_flushed(writing: Writing) -> None:
    writing.seal()
    told = writing.tell()

    assert (writing.times(), told, writing.commit.is_clean) == ([], [], False)


@pytest.mark.parametrize("is_inline", [False, True], ids=["asked for", "under a manual clock"])
def test_a_group_that_is_written_here_comes_back_durable(is_inline: bool) -> None:
    writing = Writing(is_inline=is_inline)
    writing.seal()
    writing.seal()
    told = writing.tell()

    group = writing.commit.flush(here=not is_inline)

    assert group is not None
    assert writing.times() == [1, 2]
    assert told == []  # only the loop tells, in its own turn
    writing.commit.done(group)
    assert told == [None]
    assert writing.commit.is_clean


def test_all_that_is_sealed_while_a_group_is_written_is_the_next_group(writing: Writing) -> None:
    writing.log.hold()
    writing.seal()
    assert writing.commit.flush(here=False) is None
    assert writing.log.held.wait(20)

    for _ in range(3):
        writing.seal()
        assert writing.commit.flush(here=False) is None
    writing.log.release()
    writing.take()
    writing.commit.flush(here=False)

    assert len(writing.take().sealed) == 3
    assert writing.times() == [1, 2, 3, 4]
    assert writing.log.appends == 2


def test_nobody_is_told_before_what_he_waits_for_is_durable(writing: Writing) -> None:
    writing.log.hold()
    writing.seal()
    first = writing.tell()
    writing.commit.flush(here=False)
    during = writing.tell()
    writing.seal()
    second = writing.tell()

    writing.log.release()
    writing.take()
    assert (first, during, second) == ([None], [None], [])
    writing.commit.flush(here=False)
    writing.take()

    assert second == [None]


def test_who_waits_for_what_is_durable_already_is_told_at_once(writing: Writing) -> None:
    assert writing.tell() == [None]


def test_the_durable_end_moves_when_append_has_returned(writing: Writing) -> None:
    rows = Rows(writing.log.id, 0, 0, 1, ["said"], 0, [""] * 7, [encode(None)] * 7, ["/test"], 0)
    writing.commit.seal(Frame(first=0, time_us=1, rows=rows, marks={}))

    group = writing.commit.flush(here=True)
    assert writing.commit.durable_end == 0
    assert group is not None
    writing.commit.done(group)

    assert writing.commit.durable_end == 7


@pytest.mark.parametrize("here", [True, False])
def test_an_append_that_fails_is_told_to_all_that_wait(writing: Writing, here: bool) -> None:
    error = Unavailable("the disk is full")
    writing.log.fail_append(1, error)
    writing.seal()
    first = writing.tell()

    if here:
        with pytest.raises(Unavailable, match="the disk is full"):
            writing.commit.flush(here=True)
    else:
        writing.commit.flush(here=False)
        assert writing.posted.get(timeout=20) is error
    writing.seal()
    second = writing.tell()
    writing.commit.fail(error)

    assert first == second == [error]
    assert writing.times() == []
    assert writing.commit.durable_end == 0


def test_a_snapshot_is_kept_once_the_group_that_it_is_of_is_in_the_log(writing: Writing) -> None:
    writing.seal()
    snapshot = Snapshot(writing.commit.sealed_to(), b"state")
    writing.commit.save(snapshot)
    assert writing.log.snapshot() is None

    writing.commit.flush(here=True)

    assert writing.log.snapshot() == snapshot
    assert snapshot.at == writing.log.end()


class Time:
    """What `time.monotonic` says, moved by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.s = 100.0
        monkeypatch.setattr("ensemble.stage.commit.time.monotonic", lambda: self.s)


def test_a_group_waits_for_more_from_when_it_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    time, writing = Time(monkeypatch), Writing(linger_us=50_000)
    waits = [writing.commit.rest_s()]

    for seconds in (0.0, 0.03, 0.02):
        writing.seal()
        time.s += seconds
        waits.append(writing.commit.rest_s())
    writing.commit.flush(here=True)
    waits.append(writing.commit.rest_s())
    writing.seal()
    waits.append(writing.commit.rest_s())

    assert waits == pytest.approx([0, 0.05, 0.02, 0, 0, 0.05])


def test_a_group_that_is_large_waits_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    Time(monkeypatch)
    writing = Writing(linger_us=50_000)

    writing.seal(score={"about": "x" * LINGER_BYTES})

    assert writing.commit.rest_s() == 0


@pytest.mark.parametrize("given", [{}, {"linger_us": 50_000, "is_inline": True}], ids=["no linger", "a manual clock"])
def test_without_linger_or_under_a_manual_clock_nothing_waits(given: dict[str, Any]) -> None:
    writing = Writing(**given)

    writing.seal()

    assert (writing.commit.rest_s(), writing.commit.lingers) == (0, False)


def test_a_commit_is_full_when_too_much_is_sealed_and_not_written(writing: Writing) -> None:
    fullness = []

    for about in ("", "x" * BYTES_MOST):
        writing.seal(score={"about": about})
        fullness.append(writing.commit.is_full)
    writing.commit.flush(here=True)
    fullness.append(writing.commit.is_full)

    assert fullness == [False, True, False]


def test_closing_waits_until_what_was_flushed_is_written(writing: Writing) -> None:
    writing.seal()
    writing.commit.flush(here=False)

    writing.commit.close()

    assert writing.times() == [1]
