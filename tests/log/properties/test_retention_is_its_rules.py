"""Retention against a slow account of its rules, on random histories of saying, saving, trimming, reopening and being killed.

Planted bugs at the end show that the comparison can fail.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from obstore import store as stores

from ensemble.broker.needs import Needs
from ensemble.broker.state import State
from ensemble.errors import OffsetError
from ensemble.event import REMOVED, Frame
from ensemble.log import EventLog, LogReader, Snapshot
from ensemble.log import retention as retentions
from ensemble.log.audit.memory import audit_memory
from ensemble.log.audit.objects import audit_objects
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from ensemble.log.files import Files
from ensemble.log.memory import MemoryLog, MemoryReader, MemoryStore
from ensemble.log.objects import codec
from ensemble.log.objects.log import ObjectLog, let_go, open_objects, read_objects
from ensemble.log.objects.store import Objects
from ensemble.log.retention import Rules, trim
from tests.effort import some
from tests.log.log_samples import Failing, Plug, Quick
from tests.log.object_samples import Unplugged
from tests.log.past_samples import Account, append, files_of, packed_to, rules, said, verify

SCORES = [
    rules({"time": "50s"}),
    rules({"size": "3KB"}, compress="zstd"),
    rules({"time": "80s", "size": "2KB"}),
    rules(None, {"a": {"retain": {"time": "20s"}}}),
    rules(None, {"a": {"retain": {"size": "300B"}}, "b": {"compact": True}}),
    rules({"time": "90s"}, {"a.*": {"compact": True}, "b": {"retain": {"time": "10s"}, "compact": True}}, compress="zstd"),
    rules(compress="zstd"),
]


WHERE = "s3://bucket/band"


class Place(ABC):
    """Where the log is."""

    @abstractmethod
    def open(self) -> EventLog: ...

    @abstractmethod
    def read(self) -> LogReader: ...

    def kill(self, log: EventLog, trims: Callable[[EventLog], None], step: int) -> None:
        """Open it, after closing it, and pull the plug so many operations after that. What was opened is let go of."""
        trims(log)
        log.close()

    @abstractmethod
    def verify(self) -> None:
        """That every hash of it holds."""

    def remove(self) -> None:  # noqa: B027 - what is in memory goes by itself
        """Let all of it go."""


class InADirectory(Place):
    def __init__(self, size: int) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self._size = size

    def open(self, files: Files | None = None) -> DirectoryLog:
        return open_directory(self.folder, name="band", log_id="log", files=files or Quick(), segment_bytes=self._size)

    def read(self) -> LogReader:
        return read_directory(self.folder)

    def kill(self, log: EventLog, trims: Callable[[EventLog], None], step: int) -> None:
        log.close()
        disk = Failing(10_000, None)
        log = self.open(disk)
        disk.fails_at = disk.done + step
        with suppress(Plug):
            trims(log)
        log.close()
        (self.folder / "lock").write_text("process 1 on moon")
        self.open().close()
        assert not list(self.folder.glob("shard-0/*.tmp"))

    def verify(self) -> None:
        verify(self.folder, "log")

    def remove(self) -> None:
        shutil.rmtree(self.folder)


class InMemory(Place):
    def __init__(self, size: int) -> None:
        self._store = MemoryStore("log", "band")

    def open(self) -> EventLog:
        return MemoryLog(self._store)

    def read(self) -> LogReader:
        return MemoryReader(self._store)

    def verify(self) -> None:
        assert audit_memory(self._store, lambda log_id, shard: ()).findings == []


class InObjects(Place):
    def __init__(self, size: int) -> None:
        self._store = stores.MemoryStore()

    def open(self) -> ObjectLog:
        return self._opened(Unplugged(self._store, WHERE))

    def _opened(self, objects: Objects) -> ObjectLog:
        let_go(WHERE)
        return open_objects(objects, name="band", log_id="log")

    def read(self) -> LogReader:
        return read_objects(Unplugged(self._store, WHERE))

    def kill(self, log: EventLog, trims: Callable[[EventLog], None], step: int) -> None:
        log.close()
        objects = Unplugged(self._store, WHERE)
        log = self._opened(objects)
        objects.fails_at = objects.done + step
        with suppress(Plug):
            trims(log)
        log._merger.close()

    def verify(self) -> None:
        assert audit_objects(Unplugged(self._store, WHERE), 0, lambda log_id, shard: ()).findings == []

    def remove(self) -> None:
        let_go(WHERE)


class RetentionIsItsRules(RuleBasedStateMachine):
    place: type[Any] = InADirectory

    @initialize(size=st.sampled_from([300, 900]), seed=st.integers(0, 10_000))
    def begin(self, size: int, seed: int) -> None:
        self.store = self.place(size)
        self.account = Account()
        self.now_us = 1_000_000_000
        self.saved = [0, 0]
        self.is_looked_at = True
        self.log: EventLog = self.store.open()
        self.reader = self.store.read()
        self.say(seed, 20, True)
        self.say(seed + 1, 1, True)

    @rule(seed=st.integers(0, 10_000), count=st.integers(1, 15), saves=st.booleans())
    def say(self, seed: int, count: int, saves: bool) -> None:
        chance = random.Random(seed)
        for _ in range(count):
            events = [(chance.choice(["a", "a.b", "b", "c"]), chance.choice("kl")) for _ in range(chance.randrange(6))]
            self.now_us += chance.randrange(9) * 1_000_000
            frame = said(self.log, events, self.now_us)
            append(self.log, frame)
            self.account.add(frame)
        if saves:
            self.save()

    @rule()
    def save(self) -> None:
        self.log.save(Snapshot(self.log.end(), self.account.state().dump()))
        if self.log.end().seq != self.saved[1]:
            self.saved = [self.saved[1], self.log.end().seq]

    @rule()
    def reopen(self) -> None:
        self.log.close()
        self.log = self.store.open()

    @rule()
    def read_anew(self) -> None:
        self.reader = self.store.read()

    @rule(which=st.sampled_from(SCORES), seconds=st.integers(0, 60), back=st.integers(0, 20), pick=st.integers(1, 9))
    def trim(self, which: Rules, seconds: int, back: int, pick: int) -> None:
        self.now_us += seconds * 1_000_000
        steps = self._steps(which, needs := self._needs(back, pick))
        trim(self.log, which, needs, self.now_us, self._say)
        for step in steps:
            self.account.take(step)
        self.account.catch_up(self.log)
        self.is_looked_at = False

    @rule(which=st.sampled_from(SCORES), seconds=st.integers(0, 60), pick=st.integers(1, 9), step=st.integers(1, 40))
    def be_killed_while_it_trims(self, which: Rules, seconds: int, pick: int, step: int) -> None:
        self.now_us += seconds * 1_000_000
        steps: Any = ()

        def trims(log: EventLog) -> None:
            nonlocal steps
            self.log = log
            steps = self._steps(which, needs := self._needs(0, pick))
            trim(log, which, needs, self.now_us, self._say)

        self.store.kill(self.log, trims, step)
        self.log = self.store.open()
        self.account.catch_up(self.log)
        for each in steps:
            if self.account.is_that_of(self.log):
                break
            self.account.take(each)
        self.is_looked_at = False

    def _say(self, statement: list[Any]) -> None:
        append(self.log, Frame(self.log.end().offset, self.log.end().time_us, None, {"removed": [statement]}))

    def _needs(self, back: int, pick: int) -> Needs:
        floor = max(0, self.account.end() - back)
        there = [
            frame["first"] + ix
            for frame in self.account.frames
            for ix, event in enumerate(frame["events"])
            if event is not None and frame["first"] + ix < floor
        ]
        return Needs(floor, there[::pick] if pick > 3 else [])

    def _steps(self, which: Rules, needs: Needs) -> Any:
        self.account.packed_to = packed_to(self.log)
        files, size = files_of(self.log), self.log.size_bytes()
        return self.account.steps(files, self.saved[0], size, which, needs, self.now_us)

    @invariant()
    def it_holds_what_the_rules_leave(self) -> None:
        for log in (self.log, self.reader):
            assert self.account.is_that_of(log)
            assert log.end().seq == len(self.account.frames)

    @invariant()
    def it_is_whole(self) -> None:
        """Looked at closely after something went."""
        if not self.is_looked_at:
            self.each_event_is_there_or_it_is_said_why_not()
            self.rows_begin_where_they_are_asked_for()
            self.it_folds_to_the_same_state()
            self.store.verify()
        self.is_looked_at = True

    def each_event_is_there_or_it_is_said_why_not(self) -> None:
        for frame in self.account.frames:
            for ix, event in enumerate(frame["events"]):
                offset = frame["first"] + ix
                if event is None:
                    with pytest.raises(OffsetError, match=r"retention took it: .* on 1970-"):
                        self.log.frame_at(offset)
                else:
                    rows = self.log.frame_at(offset).rows
                    assert rows is not None
                    at = offset - rows.first
                    assert (rows.topic(at), rows.keys[at], rows.data[at]) == event

    def rows_begin_where_they_are_asked_for(self) -> None:
        for offset in range(0, self.account.end(), 3):
            start = max(offset, self.log.begin().offset)
            left = self.account.frames[self.account.begin :]
            wanted = [f["first"] for f in left if f["events"] and f["first"] + len(f["events"]) > start]
            assert [frame.first for frame in self.log.rows(offset)] == wanted

    def it_folds_to_the_same_state(self) -> None:
        base = self.log.base()
        state = State() if base is None else State.load(base.state)
        for frame in self.log.frames():
            state.apply(frame)
        whole = self.account.state()
        assert (state.topics, state.end, state.frames, state.time_us, state.plan, state.gone) == (
            whole.topics, whole.end, whole.frames, whole.time_us, whole.plan, whole.gone
        )  # fmt: skip
        assert {name: each.table for name, each in state.sections.items()} == {
            name: each.table for name, each in whole.sections.items()
        }
        assert REMOVED not in state.topics

    def teardown(self) -> None:
        self.log.close()
        self.store.remove()


quick = settings(
    max_examples=some(40),
    stateful_step_count=12,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ensemble.log.segment.SPACING_BYTES", 200)
    monkeypatch.setattr("ensemble.log.pack.BLOCK_BYTES", 250)
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 500)
    made = codec.new_manifest
    monkeypatch.setattr(codec, "new_manifest", lambda *given: made(*given)._replace(block=4))


class InMemoryToo(RetentionIsItsRules):
    place = InMemory


class InObjectsToo(RetentionIsItsRules):
    place = InObjects


@pytest.mark.parametrize(
    ("machine", "examples"),
    [(RetentionIsItsRules, 40), (InMemoryToo, 15), (InObjectsToo, 25)],
    ids=["directory", "memory", "objects"],
)
def test_retention_leaves_what_its_rules_say(machine: type[RetentionIsItsRules], examples: int) -> None:
    run_state_machine_as_test(machine, settings=settings(quick, max_examples=some(examples)))


def take_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Needs, "between", lambda needs, first, end: [])


def take_what_is_as_old_as_the_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    late = retentions.Retention._past

    def past(self: Any, packing: Any, parts: Any, now_us: int) -> Any:
        return late(self, packing, parts, now_us + 60_000_000)

    monkeypatch.setattr(retentions.Retention, "_past", past)


def forget_the_newest_of_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retentions.Retention, "_note", lambda self, frame: self._newest.update(
        {(topic, key): 1 << 60 for topic in ("a", "a.b", "b") for key in "kl"}
    ))  # fmt: skip


def say_nothing_of_topics_that_went(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = State._count

    def count(self: State, frame: Frame) -> None:
        frame.removed = None
        whole(self, frame)

    monkeypatch.setattr(State, "_count", count)


@pytest.mark.parametrize(
    "bug",
    [
        take_what_is_needed,
        take_what_is_as_old_as_the_bound,
        forget_the_newest_of_a_key,
        say_nothing_of_topics_that_went,
    ],
)
def test_the_comparison_fails_when_a_bug_is_planted(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    short = settings(quick, phases=[Phase.generate], max_examples=100, database=None, print_blob=False)

    with pytest.raises((AssertionError, OffsetError, KeyError, ExceptionGroup)):
        run_state_machine_as_test(RetentionIsItsRules, settings=short)
