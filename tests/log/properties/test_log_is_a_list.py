"""A log against a list, on random histories of appending, reopening, tearing, dying, saving and reading.

The list is what was acknowledged. Planted bugs at the end show that the comparison can fail.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from obstore.store import MemoryStore

from ensemble.errors import LogCorrupt, OffsetError
from ensemble.log import EventLog, LogReader, Position, Snapshot
from ensemble.log import memory as memory_logs
from ensemble.log.directory import open_directory, read_directory
from ensemble.log.objects.log import let_go, open_objects, read_objects
from ensemble.log.objects.store import Objects
from tests.effort import some
from tests.log.log_samples import Quick, append, contents, flat, plain

groups = st.lists(st.integers(0, 4), min_size=1, max_size=5)


class LogIsAList(RuleBasedStateMachine):
    """Segments and blocks are short and the index is dense, so that few events reach all that there is."""

    def sabotage(self) -> None:
        """For a planted bug."""

    @initialize(kind=st.sampled_from(["memory", "directory", "objects"]), segment_bytes=st.sampled_from([100, 600, 3000]))
    def begin(self, kind: str, segment_bytes: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.kind = kind
        self.segment_bytes = segment_bytes
        self.memory = memory_logs.MemoryStore("log", "band")
        self.objects = MemoryStore()
        self.list: list[dict[str, Any]] = []
        self.ends = [Position(0, 0, b"", 0)]
        self.saved: Snapshot | None = None
        self.writer = self._open()
        self.reader = self._read()
        self.epoch = self.writer.epoch

    def _open(self) -> EventLog:
        if self.kind == "memory":
            return memory_logs.MemoryLog(self.memory)
        if self.kind == "objects":
            return open_objects(Objects(self.objects, str(self.folder)), name="band", log_id="log")
        return open_directory(self.folder, name="band", log_id="log", files=Quick(), segment_bytes=self.segment_bytes)

    def _read(self) -> LogReader:
        if self.kind == "objects":
            return read_objects(Objects(self.objects, str(self.folder)))
        return memory_logs.MemoryReader(self.memory) if self.kind == "memory" else read_directory(self.folder)

    @rule(counts=st.lists(groups, min_size=1, max_size=4))
    def append(self, counts: list[list[int]]) -> None:
        self.list += flat(append(self.writer, *counts))
        self.sabotage()

    @rule()
    def reopen(self) -> None:
        self.writer.close()
        self._take_up()

    @rule()
    def die(self) -> None:
        if self.kind == "memory":
            self.memory.writer = None
        elif self.kind == "objects":
            let_go(str(self.folder))
            self.writer._merger.close()  # type: ignore[attr-defined]
        else:
            self.writer._lock.release()  # type: ignore[attr-defined]
            (self.folder / "lock").write_text("process 1 on moon")
        self._take_up()

    @precondition(lambda self: self.kind == "directory" and self.list)
    @rule(garbage=st.binary(min_size=1, max_size=300))
    def tear(self, garbage: bytes) -> None:
        """A commit that got so far: any bytes behind the last group."""
        self.writer.close()
        path = max((self.folder / "shard-0").glob("*.seg"))
        with path.open("ab") as file:
            file.write(garbage)
        self._take_up()
        assert len(self.writer.notes) == 1

    def _take_up(self) -> None:
        self.writer = self._open()
        assert self.writer.epoch == self.epoch + 1
        self.epoch += 1

    @rule(pick=st.integers(0, 1000))
    def save(self, pick: int) -> None:
        seq = pick % (len(self.list) + 1)
        before = [kept.prev for kept in self.writer.frames(seq)][:1]
        told: dict[str, Any] = self.list[seq - 1] if seq else {"first": 0, "time_us": 0}
        offset = told["first"] + len(told.get("events", ()))
        at = Position(seq, offset, before[0], told["time_us"]) if before else self.writer.end()
        snapshot = Snapshot(at, b"state %d" % seq)
        self.writer.save(snapshot)
        if self.saved is None or seq >= self.saved.at.seq:
            self.saved = snapshot

    @rule()
    def read_anew(self) -> None:
        self.reader.close()
        self.reader = self._read()

    @rule(pick=st.integers(0, 1000))
    def read_from(self, pick: int) -> None:
        seq = pick % (len(self.list) + 2)
        offset = pick % (self._end() + 1)
        rows = [kept for kept in self.list if "events" in kept and kept["first"] + len(kept["events"]) > offset]
        for log in (self.writer, self.reader):
            assert contents(log, seq) == self.list[seq:]
            assert [plain(kept) for kept in log.rows(offset)] == rows
            if rows:
                assert plain(log.frame_at(offset)) == rows[0]

    @rule(beyond=st.integers(1, 1 << 60))
    def read_beyond(self, beyond: int) -> None:
        for log in (self.writer, self.reader):
            for offset in (-1, self._end() + beyond):
                with pytest.raises(OffsetError):
                    log.rows(offset)
                with pytest.raises(OffsetError):
                    log.frame_at(offset)

    @invariant()
    def it_holds_what_was_acknowledged(self) -> None:
        for log in (self.writer, self.reader):
            assert contents(log) == self.list
            assert [plain(kept) for kept in log.rows()] == [kept for kept in self.list if "events" in kept]
            assert log.end()[:2] == (len(self.list), self._end())
            if self.saved is not None:
                assert log.snapshot() == self.saved

    def _end(self) -> int:
        last: dict[str, Any] = self.list[-1] if self.list else {"first": 0}
        return int(last["first"]) + len(last.get("events", ()))

    def teardown(self) -> None:
        self.writer.close()
        self.reader.close()
        shutil.rmtree(self.folder)


quick = settings(
    max_examples=some(60),
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


def test_a_log_is_the_list_of_what_was_acknowledged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.log.segment.SPACING_BYTES", 200)
    monkeypatch.setattr("ensemble.log.segment.READ_BYTES_MIN", 150)
    monkeypatch.setattr("ensemble.log.objects.codec.BLOCK", 4)
    monkeypatch.setattr("ensemble.log.objects.reading.RECENT_BYTES", 300)

    run_state_machine_as_test(LogIsAList, settings=quick)


def lose_the_last(machine: LogIsAList) -> None:
    """A group that was acknowledged and not written."""
    if machine.kind == "directory":
        path = max((machine.folder / "shard-0").glob("*.seg"))
        path.write_bytes(path.read_bytes()[:-1])


def repeat_the_last(machine: LogIsAList) -> None:
    """A commit that was written twice."""
    if machine.kind == "directory":
        path = max((machine.folder / "shard-0").glob("*.seg"))
        path.write_bytes(path.read_bytes() * 2)


def exchange_entries(machine: LogIsAList) -> None:
    """Two objects of which each has the other's name."""
    names = [meta["path"] for chunk in obstore.list(machine.objects, "log/log") for meta in chunk]
    if len(names) > 2:
        one, two = (bytes(obstore.get(machine.objects, name).bytes()) for name in names[-2:])
        obstore.put(machine.objects, names[-2], two)
        obstore.put(machine.objects, names[-1], one)


def forget_a_frame(machine: LogIsAList) -> None:
    store = machine.memory.held
    if len(store.data) > 3:
        store.data[1] = store.data[2]


def misplace_rows(machine: LogIsAList) -> None:
    store = machine.memory.held
    if len(store.filled) > 2:
        store.filled[1] = store.filled[2]


@pytest.mark.parametrize("bug", [lose_the_last, repeat_the_last, exchange_entries, forget_a_frame, misplace_rows])
def test_the_comparison_fails_when_a_bug_is_planted(bug: Callable[[LogIsAList], None]) -> None:
    class Sabotaged(LogIsAList):
        def sabotage(self) -> None:
            bug(self)

    short = settings(quick, phases=[Phase.generate], max_examples=200, database=None, print_blob=False)
    with pytest.raises((AssertionError, LogCorrupt, OffsetError)):
        run_state_machine_as_test(Sabotaged, settings=short)
