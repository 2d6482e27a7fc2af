"""The broker against a slow, obvious one, on random histories of publishing, hearing, failing, crashing and hearing again.

The oracle keeps a plain list of events and asks, for each, whether an earlier one of its key is still unheard. Planted bugs
at the end show that the comparison can fail.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ensemble.broker import Batch, Broker, Failure, Listener, Outcome, Policy, Publication, Said, Section, State
from ensemble.event import Frame, encode
from ensemble.score.model import RetryPolicy

KEYS = ["a", "b", "c"]
ATTEMPTS = 3
FIRST_US = 1000


def said(topics: list[str], keys: list[str], ids: list[str | None]) -> Said:
    names = sorted(set(topics))
    return Said(
        names,
        [names.index(topic) for topic in topics],
        keys,
        [encode(None)] * len(keys),
        extras={row: {"id": id_} for row, id_ in enumerate(ids) if id_ is not None} or None,
    )


class SlowSection:
    """What one section should do, as plainly as it can be said."""

    def __init__(self, topics: set[str], order: str, overlapping: bool, on_failure: str) -> None:
        self.topics, self.order, self.overlapping, self.on_failure = topics, order, overlapping, on_failure
        self.unheard: list[int] = []
        self.lane: dict[int, str] = {}
        self.tries: dict[int, int] = {}
        self.due: dict[int, int] = {}
        self.flying: set[int] = set()
        self.dead: set[int] = set()
        self.held: set[int] = set()
        self.revived: set[int] = set()
        self.heard: list[int] = []
        self.said = 0

    def publish(self, offset: int, topic: str, key: str) -> None:
        if topic in self.topics:
            self.said += 1
            self.unheard.append(offset)
            self.lane[offset] = {"key": key, "all": "", "none": str(offset)}[self.order]

    def is_eligible(self, offset: int, now: int, batch: set[int]) -> bool:
        """Whether an event may be heard now, together with those of the batch, which come before it."""
        if offset in self.flying or offset in self.held or self.due.get(offset, 0) > now:
            return False
        for other in self.unheard:
            if self.lane[other] != self.lane[offset] or other == offset:
                continue
            if other in self.flying:
                return False
            if offset in self.revived or other in self.revived:  # a dead letter has lost its place in the order
                if other in self.due or other in self.held:
                    return False
                continue
            if other < offset and (other not in batch or other in self.due):
                return False
        return True

    def may_take(self, now: int) -> set[int]:
        batch: set[int] = set()
        for offset in sorted(self.unheard):
            if self.is_eligible(offset, now, batch):
                batch.add(offset)
        return batch


class Machine(RuleBasedStateMachine):
    """Runs both side by side."""

    section_class: type[Section] = Section

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.now = 1_000_000
        self.slow = {
            "key": SlowSection({"x", "y"}, "key", False, "dead-letter"),
            "wide": SlowSection({"x"}, "key", True, "hold"),
            "none": SlowSection({"x", "y"}, "none", True, "dead-letter"),
            "all": SlowSection({"y"}, "all", False, "hold"),
        }
        self.flights: list[Batch] = []
        self.published: dict[str, int] = {}
        self.lanes: list[tuple[str, str]] = []
        self.open()

    def open(self) -> None:
        state = State()
        for frame in self.frames:
            state.apply(frame)
        self.broker = Broker(
            state,
            log_id="log",
            name="band",
            listeners={
                name: Listener([(topic, None) for topic in sorted(slow.topics)], order=slow.order)  # type: ignore[arg-type]
                for name, slow in self.slow.items()
            },
            policies={
                name: Policy(RetryPolicy(attempts=ATTEMPTS, first_us=FIRST_US, jitter=0), slow.on_failure)
                for name, slow in self.slow.items()
            },
            overlapping=[name for name, slow in self.slow.items() if slow.overlapping],
        )
        self.keep(self.broker.open(None, [], self.now))
        for section in self.broker.sections.values():
            section.__class__ = self.section_class

    def keep(self, frame: Frame | None) -> None:
        if frame is not None:
            assert frame.time_us >= (self.frames[-1].time_us if self.frames else 0)
            # What is folded again after a crash is what a log gives back.
            marks = msgspec.msgpack.decode(msgspec.msgpack.encode(frame.marks))
            self.frames.append(Frame(frame.first, frame.time_us, frame.rows, marks))

    def look(self) -> None:
        by_offset = {offset: frame for frame in self.frames for offset in range(frame.first, frame.end)}
        for section in self.broker.sections.values():
            while section.reopened:
                offset = section.reopened.popleft()
                section.look_again(by_offset[offset].rows, [offset])  # type: ignore[arg-type]
            while section.next < self.broker.state.end:
                frame = by_offset[section.next]
                section.look(frame.rows, frame.end)
            section.wake(self.now)

    @rule(data=st.data(), events=st.lists(st.tuples(st.sampled_from("xyz"), st.sampled_from(KEYS)), max_size=6))
    def publish(self, data: st.DataObject, events: list[tuple[str, str]]) -> None:
        ids = [data.draw(st.sampled_from([None, None, "i", "j", "k"])) for _ in events]
        chunk = said([topic for topic, _ in events], [key for _, key in events], ids)

        frame, offsets = self.broker.publish([Publication(chunk, "/test")], self.now)

        self.keep(frame)
        for (topic, key), id_, offset in zip(events, ids, offsets[0], strict=True):
            if id_ in self.published:
                assert offset == self.published[id_]  # published before: the same receipt
                continue
            assert offset == len(self.lanes)
            self.lanes.append((topic, key))
            if id_ is not None:
                self.published[id_] = offset
            for slow in self.slow.values():
                slow.publish(offset, topic, key)

    @rule(
        name=st.sampled_from(["key", "wide", "none", "all"]), limit=st.integers(1, 4), lane_most=st.sampled_from([None, 1, 2])
    )
    def take(self, name: str, limit: int, lane_most: int | None) -> None:
        section, slow = self.broker.sections[name], self.slow[name]
        self.look()
        if not section.has_work:
            if not slow.flying or slow.overlapping:
                assert not slow.may_take(self.now)
            return
        may = slow.may_take(self.now)

        batch = section.take(limit, self.now, lane_most)

        offsets = list(batch.offsets) if batch else []
        if lane_most is not None and section.overlapping and section.keyed:
            assert bool(offsets) == bool(may), "some, where any may be heard"
            assert batch is None or max(Counter(batch.keys).values()) <= lane_most, "no more of a lane"
        else:
            assert len(offsets) == min(limit, len(may)), "as many as may be heard"
        taken: set[int] = set()
        for offset in offsets:
            assert slow.is_eligible(offset, self.now, taken), f"{offset} was handed out too early"
            taken.add(offset)
        slow.flying |= taken
        if batch:
            assert batch.attempts == {o: slow.tries[o] + 1 for o in offsets if slow.tries.get(o)}
            self.flights.append(batch)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), tick=st.integers(0, 500))
    def come_back(self, data: st.DataObject, tick: int) -> None:
        self.now += tick
        batch = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        slow = self.slow[batch.section]
        heard, failures, skipped, blocked = [], [], [], set()
        for offset, lane in zip(batch.offsets, batch.keys, strict=True):
            slow.flying.discard(offset)
            if slow.order != "none" and lane in blocked:
                skipped.append((offset, lane))
                continue
            if data.draw(st.booleans()):
                heard.append(offset)
                slow.heard.append(offset)
                slow.unheard.remove(offset)
                slow.tries.pop(offset, None)
                slow.due.pop(offset, None)
                slow.revived.discard(offset)
                continue
            is_final = data.draw(st.integers(0, 3)) == 0
            blocked.add(lane)
            failures.append(Failure(offset, "k", lane, "x", offset, offset, "E: no", "trace", is_final=is_final))
            slow.tries[offset] = slow.tries.get(offset, 0) + 1
            if slow.tries[offset] < ATTEMPTS and not is_final:
                slow.due[offset] = self.now + FIRST_US * 2 ** (slow.tries[offset] - 1)
                continue
            slow.dead.add(offset)
            slow.tries.pop(offset)
            slow.due.pop(offset, None)
            if slow.on_failure == "hold":
                slow.held.add(offset)
            else:
                slow.unheard.remove(offset)
                slow.revived.discard(offset)
        whole: Any = batch.offsets if len(heard) == len(batch) else heard

        frame = self.broker.hear(
            Outcome(batch.section, len(batch), batch.keys, whole, None, 0, failures=failures, skipped=skipped), self.now
        )

        if frame is None:  # all of it only came back
            return
        self.keep(frame)
        for _ in range(frame.count):  # dead letters are events too, under a topic that nobody here hears
            self.lanes.append(("_band.dead", "k"))

    @rule(wait=st.integers(1, 5000))
    def wait(self, wait: int) -> None:
        self.now += wait

    @rule()
    def crash(self) -> None:
        """All that is not durable is lost: what was in flight is heard again."""
        self.flights.clear()
        for slow in self.slow.values():
            slow.flying.clear()
            slow.due = {offset: due for offset, due in slow.due.items() if offset in slow.tries}
        self.open()

    @rule()
    def rest(self) -> None:
        self.keep(self.broker.rest(self.now))

    @rule(name=st.sampled_from(["key", "wide", "none", "all"]), looked=st.booleans())
    def hear_again(self, name: str, looked: bool) -> None:
        slow = self.slow[name]
        if not slow.dead:
            return
        if looked:
            self.look()
        offsets = sorted(slow.dead)
        seated = set(self.broker.sections[name]._held)
        self.keep(self.broker.again(name, offsets, self.now))
        for offset in offsets:
            if offset in seated:
                slow.due[offset] = self.now  # it goes first, and alone
            elif offset not in slow.held:
                slow.unheard.append(offset)
                slow.revived.add(offset)
        slow.dead.clear()
        slow.held.clear()

    @invariant()
    def both_agree(self) -> None:
        state = self.broker.state
        assert state.end == len(self.lanes)
        for name, slow in self.slow.items():
            section = state.section(name)
            passed = [o for o in section.open if o not in slow.unheard]
            assert not passed, f"{name}: open, though dealt with: {passed}"
            below = {o for o in slow.unheard if o < section.position}
            assert below == section.open, f"{name}: the watermark passed an unheard event"
            assert section.heard == len(slow.heard)
            assert set(section.dead) == slow.dead
            assert section.held == slow.held
            assert {o: n for o, (n, _) in section.attempts.items()} == slow.tries
            assert self.broker.lag(name) == len(slow.unheard)

    @invariant()
    def a_fold_of_the_frames_gives_the_same_state(self) -> None:
        state = State()
        for frame in self.frames:
            state.apply(frame)
        assert state == self.broker.state
        assert State.load(state.dump()) == state


CHECKS = settings(max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_broker_does_what_a_slow_and_obvious_one_does() -> None:
    run_state_machine_as_test(Machine, settings=CHECKS)


class ForgetsToBlock(Section):
    """Planted: a key whose event waits for its next attempt is not blocked."""

    def _wait(self, offset: int, key: str, due_us: int) -> None:
        super()._wait(offset, key, due_us)
        self._lanes.pop(key, None)


class MovesTooFar(Section):
    """Planted: the watermark passes what is still in flight."""

    def advance(self, done: Any) -> Any:
        advance = super().advance(done)
        advance.opened = ()
        return advance


class ForgetsTheParked(Section):
    """Planted: what was parked behind a busy key is lost when the key is free."""

    def _end_lane(self, key: str) -> None:
        self._lanes.pop(key, None)


class RunsTwice(Section):
    """Planted: two batches may hold one key."""

    def take(self, limit: int, now_us: int, lane_most: int | None = None) -> Batch | None:
        lanes, self._lanes = self._lanes, {}
        try:
            return super().take(limit, now_us, lane_most)
        finally:
            self._lanes = lanes


@pytest.mark.parametrize("bug", [ForgetsToBlock, MovesTooFar, ForgetsTheParked, RunsTwice])
def test_the_comparison_finds_a_planted_bug(bug: type[Section]) -> None:
    class Planted(Machine):
        section_class = bug

    with pytest.raises(BaseException):  # noqa: B017, PT011 - whatever the bug leads to first
        run_state_machine_as_test(Planted, settings=settings(CHECKS, max_examples=5000, database=None, phases=[Phase.generate]))
