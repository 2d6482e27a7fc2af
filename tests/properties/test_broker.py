"""The broker against a slow, obvious one, on random histories.

Histories publish (twice with one id, too; by a clock that jumps back), hear, answer, write tables, set timers, fail, crash,
come back with other rules on ids, have sections join late, and hear dead letters again. The oracle keeps plain lists and
asks, for each event, whether an earlier one of its lane is still unheard. Each property has a name, and bugs that are planted
at the end show that it can fail, and for its own reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from ensemble.broker import (
    Batch,
    Broker,
    Failure,
    Later,
    Listener,
    Opening,
    Outcome,
    Policy,
    Publication,
    Said,
    Section,
    State,
    broker,
    failure,
    state,
)
from ensemble.errors import InvalidEvent
from ensemble.event import Event, Frame, decode, encode
from ensemble.score.model import Emit, RetryPolicy
from tests.effort import some

KEYS = ["a", "b"]
ATTEMPTS = 3
FIRST_US = 1000
WINDOWS = [(86_400_000_000, 200_000), (2000, 200_000), (50_000, 3)]
"""How long ids are remembered, and how many: from opening to opening."""


class Broken(AssertionError):
    """A property does not hold. Its text begins with the property's name."""


def holds(name: str, claim: bool, told: object = "") -> None:
    if not claim:
        raise Broken(f"{name}: {told}")


@dataclass(frozen=True)
class Told:
    """An event as it should stand in the log."""

    topic: str
    key: str
    data: Any
    source: str
    cause: int | None = None
    root: int | str | None = None
    """None: it is its own."""


def columns(events: Sequence[Told], ids: Sequence[str | None] = ()) -> Said:
    names = sorted({event.topic for event in events})
    is_answer = bool(events) and events[0].cause is not None
    return Said(
        names,
        [names.index(event.topic) for event in events],
        [event.key for event in events],
        [encode(event.data) for event in events],
        [event.cause for event in events] if is_answer else None,  # type: ignore[misc]
        [event.root for event in events] if is_answer else None,  # type: ignore[misc]
        {row: {"id": id_} for row, id_ in enumerate(ids) if id_ is not None} or None,
    )


def read(frame: Frame) -> list[Told]:
    """The events of a frame."""
    rows = frame.rows
    if rows is None:
        return []
    return [
        Told(
            rows.topic(ix),
            rows.keys[ix],
            decode(rows.data[ix]),
            rows.source(ix),
            None if rows.causes is None else rows.causes[ix],  # type: ignore[arg-type]
            None if rows.causes is None else rows.root(ix),
        )
        for ix in range(len(rows))
    ]


def is_liked(event: Event) -> bool:
    """The `where:` of the section that has one."""
    return bool(event.data["n"] != 2)


def by_number(event: Event) -> str:
    """The `by:` of the section that has one."""
    return f"n{event.data['n']}"


def refuses_some(data: Any) -> None:
    """The schema of what is said of failures."""
    if data["offset"] % 2:
        raise InvalidEvent("failed: data.offset is odd")


@dataclass
class SlowSection:
    """What one section should do, as plainly as it can be said."""

    topics: set[str]
    order: str = "key"
    overlapping: bool = False
    on_failure: str | Emit = "dead-letter"
    where: bool = False
    by: bool = False
    is_late: bool = False
    unheard: list[int] = field(default_factory=list)
    disliked: list[int] = field(default_factory=list)
    """Events of its topics whose condition does not hold."""
    lane: dict[int, str] = field(default_factory=dict)
    tries: dict[int, int] = field(default_factory=dict)
    due: dict[int, int] = field(default_factory=dict)
    flying: set[int] = field(default_factory=set)
    dead: dict[int, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    revived: set[int] = field(default_factory=set)
    table: dict[str, Any] = field(default_factory=dict)
    heard: int = 0
    emitted: int = 0
    failed: int = 0

    def listener(self) -> Listener:
        return Listener(
            [(topic, is_liked if self.where else None) for topic in sorted(self.topics)],
            order=self.order,  # type: ignore[arg-type]
            by=by_number if self.by else None,
        )

    def policy(self) -> Policy:
        check = refuses_some if isinstance(self.on_failure, Emit) else None
        return Policy(RetryPolicy(attempts=ATTEMPTS, first_us=FIRST_US, jitter=0), self.on_failure, check)

    def come(self, offset: int, told: Told) -> None:
        if told.topic not in self.topics:
            return
        if self.where and told.data["n"] == 2:
            self.disliked.append(offset)
        else:
            self.unheard.append(offset)
            own = f"n{told.data['n']}" if self.by else told.key
            self.lane[offset] = {"key": own, "all": "", "none": told.key}[self.order]

    def is_eligible(self, offset: int, now: int, batch: set[int]) -> bool:
        """Whether an event may be heard now, together with those of the batch, which come before it."""
        if offset in self.flying or offset in self.held or self.due.get(offset, 0) > now:
            return False
        if self.order == "none":
            return True
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


NAMES = ["key", "wide", "none", "all", "by", "late"]


class Machine(RuleBasedStateMachine):
    """Runs both side by side."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[Frame] = []
        self.now = 1_000_000
        self.time = 0
        self.slow = {
            "key": SlowSection({"x", "y"}),
            "wide": SlowSection({"x"}, overlapping=True, on_failure="hold"),
            "none": SlowSection({"x", "y"}, "none", overlapping=True),
            "all": SlowSection({"y"}, "all", on_failure="hold"),
            "by": SlowSection({"x", "answer"}, overlapping=True, on_failure=Emit("failed"), where=True, by=True),
        }
        self.log: list[Told] = []
        self.flights: list[Batch] = []
        self.ids: list[tuple[str, int, int]] = []
        """Id, offset and time of what is remembered, oldest first."""
        self.window = (0, 0)
        self.timers: dict[int, tuple[int, Told]] = {}
        self.timers_set = 0
        self.places: dict[str, int] = {}
        self.open(WINDOWS[0])

    def open(self, window: tuple[int, int]) -> None:
        folded = State()
        for frame in self.frames:
            folded.apply(frame)
        self.broker = Broker(
            folded,
            log_id="log",
            name="band",
            listeners={name: slow.listener() for name, slow in self.slow.items()},
            policies={name: slow.policy() for name, slow in self.slow.items()},
            overlapping=[name for name, slow in self.slow.items() if slow.overlapping],
        )
        opening = Opening(None, [name for name, slow in self.slow.items() if slow.is_late], window)
        self.keep(self.broker.open(opening, self.now, lambda patterns, offset: 0), [])
        if window != self.window:
            self.window = window
            self.forget()

    def keep(self, frame: Frame | None, expected: Sequence[Told], why: str = "emissions") -> None:
        """Take a frame in, which must say these events."""
        first = len(self.log)
        self.log += expected
        if frame is None:
            holds(why, not expected, f"not said: {expected}")
            return
        self.time = max(self.time, self.now_of_broker)
        holds("time", frame.time_us == self.time, f"a frame of {frame.time_us} at {self.time}")
        holds(why, read(frame) == list(expected), f"{read(frame)}, not {expected}")
        for offset, told in enumerate(expected, first):
            for slow in self.slow.values():
                slow.come(offset, told)
        if expected:
            self.forget()
        # What is folded again after a crash is what a log gives back.
        marks = msgspec.msgpack.decode(msgspec.msgpack.encode(frame.marks))
        self.frames.append(Frame(frame.first, frame.time_us, frame.rows, marks))

    @property
    def now_of_broker(self) -> int:
        return self.now - self.skew

    skew = 0
    """How far the machine's clock has jumped back, for one call."""

    def forget(self) -> None:
        window_us, most = self.window
        self.ids = [each for each in self.ids if each[2] + window_us > self.time]
        self.ids = self.ids[max(0, len(self.ids) - most) :]

    def look(self) -> None:
        by_offset = {offset: frame for frame in self.frames for offset in range(frame.first, frame.end)}
        for section in self.broker.sections.values():
            while section.reopened:
                offset = section.reopened.popleft()
                section.look_again(by_offset[offset].rows, [offset])  # type: ignore[arg-type]
            while section.next < self.broker.state.end:
                frame = by_offset[section.next]
                concerned = section.listener.heed(frame.rows).offsets  # type: ignore[arg-type]
                unwanted = [offset for offset in concerned if offset not in self.slow[section.name].lane]
                holds("where", section.name == "late" or not unwanted, f"{unwanted} do not concern {section.name}")
                section.look(frame.rows, frame.end)
            section.wake(self.now)

    # Rules

    @rule(
        data=st.data(),
        sizes=st.lists(st.integers(0, 4), min_size=1, max_size=2),
        skew=st.sampled_from([0, 0, 0, 700]),
    )
    def publish(self, data: st.DataObject, sizes: list[int], skew: int) -> None:
        self.skew = skew
        event = st.tuples(st.sampled_from("xyz"), st.sampled_from(KEYS), st.integers(0, 3))
        id_ = st.sampled_from([None, None, "i", "j", "k", "l", "m"])
        publications, expected, receipts = [], list[Told](), []
        fresh: list[tuple[str, int]] = []
        for number, size in enumerate(sizes):
            source = f"/test/{number}"
            events = [Told(topic, key, {"n": n}, source) for topic, key, n in (data.draw(event) for _ in range(size))]
            ids = [data.draw(id_) for _ in events]
            place = (f"source-{number}", data.draw(st.integers(0, 99))) if data.draw(st.booleans()) else None
            publications.append(Publication(columns(events, ids), source, place))
            for told, id_of in zip(events, ids, strict=True):
                known = [where for each, where in fresh if each == id_of] + [
                    where for each, where, time in self.ids if each == id_of and time + self.window[0] > self.now - skew
                ]
                receipts.append(known[0] if known else len(self.log) + len(expected))
                if not known:
                    expected.append(told)
                    if id_of is not None:
                        fresh.append((id_of, receipts[-1]))
            if place:
                self.places[place[0]] = place[1]

        frame, offsets = self.broker.publish(publications, self.now - skew)

        holds("dedupe", [each for where in offsets for each in where] == receipts, f"{offsets}, not {receipts}")
        if frame is not None:
            time = max(self.time, self.now - skew)
            self.ids = [each for each in self.ids if each[0] not in dict(fresh)] + [(each, at, time) for each, at in fresh]
        self.keep(frame, expected)
        self.skew = 0

    @rule(data=st.data(), limit=st.integers(1, 4), lane_most=st.sampled_from([None, 1, 2]))
    def take(self, data: st.DataObject, limit: int, lane_most: int | None) -> None:
        self.look()
        ready = []
        for name, slow in self.slow.items():
            if self.broker.sections[name].has_work:
                ready.append(name)
            else:
                holds("all are heard", bool(slow.flying and not slow.overlapping) or not slow.may_take(self.now), name)
        if not ready:
            return
        name = data.draw(st.sampled_from(ready))
        section, slow = self.broker.sections[name], self.slow[name]
        may = slow.may_take(self.now)

        batch = section.take(limit, self.now, lane_most)

        offsets = list(batch.offsets) if batch else []
        lanes = [slow.lane[offset] for offset in offsets]
        holds("lanes", list(batch.keys if batch else []) == lanes, f"{batch}, not {lanes}")
        taken: set[int] = set()
        for offset in offsets:
            holds("order", slow.is_eligible(offset, self.now, taken), f"{name} is handed {offset} too early")
            taken.add(offset)
        # What comes behind an event of its own lane may wait for the next batch where several may be in flight.
        least = len({slow.lane[offset] for offset in may}) if slow.overlapping and slow.order == "key" else len(may)
        if lane_most is not None and slow.overlapping and slow.order == "key":
            least = min(least, 1)
            fullest = max((list(batch.keys).count(lane) for lane in batch.keys), default=0) if batch else 0
            holds("no more of a lane", fullest <= lane_most, f"{batch}, and {lane_most} of a lane at the most")
        holds("all are heard", len(offsets) >= min(limit, least), f"{name} is handed {offsets} of {may}")
        slow.flying |= taken
        if batch:
            tried = {o: slow.tries[o] + 1 for o in offsets if slow.tries.get(o)}
            holds("attempts", batch.attempts == tried, f"{batch.attempts}, not {tried}")
            self.flights.append(batch)

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), tick=st.integers(0, 500), fails=st.sampled_from([0, 2, 2, 5]))
    def come_back(self, data: st.DataObject, tick: int, fails: int) -> None:
        self.now += tick
        batch = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        name = batch.section
        slow = self.slow[name]
        answers: list[Told] = []
        ends: list[tuple[int, Told]] = []
        heard, failures, skipped, later, blocked = [], [], [], [], set()
        wrote: dict[str, bytes | None] = {}
        for offset, lane in zip(batch.offsets, batch.keys, strict=True):
            slow.flying.discard(offset)
            if slow.order != "none" and lane in blocked:
                skipped.append((offset, lane))
                continue
            told = self.log[offset]
            root = offset if told.root is None else told.root
            if data.draw(st.integers(0, 5)) >= fails:
                heard.append(offset)
                slow.heard += 1
                self.done(slow, offset)
                for _ in range(data.draw(st.integers(0, 2))):
                    key, n = data.draw(st.sampled_from(KEYS)), data.draw(st.integers(0, 3))
                    topic = data.draw(st.sampled_from(["answer", "note"]))
                    answers.append(Told(topic, key, {"n": n}, f"/band/{name}", offset, root))
                if slow.order != "none" and data.draw(st.booleans()):
                    state_ = data.draw(st.none() | st.integers(0, 9))
                    wrote[lane] = None if state_ is None else encode(state_)
                    slow.table.pop(lane, None)
                    if state_ is not None:
                        slow.table[lane] = state_
                if data.draw(st.integers(0, 3)) == 0:
                    after = data.draw(st.integers(0, 3000))
                    later.append(Later(after, "answer", told.key, encode({"n": 1}), offset, root))
                    alarm = Told("answer", told.key, {"n": 1}, f"/band/{name}", offset, root)
                    self.timers[self.timers_set] = (self.now + after, alarm)
                    self.timers_set += 1
                continue
            slow.failed += 1
            blocked.add(lane)
            is_final = data.draw(st.integers(0, 2)) == 0
            failures.append(
                Failure(offset, told.key, lane, told.topic, offset, root, "E: no", "trace", is_final=is_final)
            )
            slow.tries[offset] = slow.tries.get(offset, 0) + 1
            if slow.tries[offset] < ATTEMPTS and not is_final:
                slow.due[offset] = self.now + FIRST_US * 2 ** (slow.tries[offset] - 1)
            else:
                ends.append((offset, self.ended(name, offset, told, root)))
        ends.sort(key=lambda each: each[1].topic != "_band.dead")  # dead letters are told of first
        slow.emitted += len(answers)
        whole: Any = batch.offsets if len(heard) == len(batch) else heard
        said = columns(answers) if answers else None
        outcome = Outcome(name, len(batch), batch.keys, whole, said, 0, wrote, later, failures, skipped)

        frame = self.broker.hear(outcome, self.now)

        if frame is None:  # all of it only came back
            return
        first = len(self.log) + len(answers)
        for row, (offset, end) in enumerate(ends):
            if end.topic == "_band.dead":
                slow.dead[offset] = first + row
        self.keep(frame, [*answers, *(end for _, end in ends)])

    def done(self, slow: SlowSection, offset: int) -> None:
        """Deal with an event for good."""
        slow.unheard.remove(offset)
        slow.tries.pop(offset, None)
        slow.due.pop(offset, None)
        slow.revived.discard(offset)

    def ended(self, name: str, offset: int, told: Told, root: int | str) -> Told:
        """An event will not be tried again: what is said of it."""
        slow = self.slow[name]
        attempts, is_held = slow.tries.pop(offset), slow.on_failure == "hold"
        slow.due.pop(offset, None)
        topic, error = "_band.dead", "E: no"
        if isinstance(slow.on_failure, Emit):
            if offset % 2:
                error += "; and failed can't tell of it: failed: data.offset is odd"
            else:
                topic = slow.on_failure.topic
        if is_held:
            slow.held.add(offset)
        else:
            self.done(slow, offset)
        data = {
            "player": name,
            "offset": offset,
            "topic": told.topic,
            "attempts": attempts,
            "error": error,
            "traceback": "trace",
            "held": is_held,
        }
        return Told(topic, told.key, data, f"/band/{name}", offset, root)

    @rule(data=st.data(), rounds=st.integers(1, 3))
    def work(self, data: st.DataObject, rounds: int) -> None:
        """What makes a history long: events come, are handed out, fail, and are due again."""
        for _ in range(rounds):
            sizes: list[int] = [data.draw(st.integers(0, 4))]
            self.publish(data, sizes, 0)
            for _ in range(3):
                self.take(data, data.draw(st.integers(1, 4)), data.draw(st.sampled_from([None, None, 1, 2])))
            self.now += data.draw(st.sampled_from([0, 1000, 3000]))
            while self.flights:
                if data.draw(st.integers(0, 4)) == 0:
                    break
                self.come_back(data, 0, data.draw(st.sampled_from([0, 2, 5])))
            self.both_agree()

    @rule(wait=st.integers(1, 5000))
    def wait(self, wait: int) -> None:
        self.now += wait

    @rule()
    def fire(self) -> None:
        due = sorted((due_us, number) for number, (due_us, _) in self.timers.items())
        numbers = [number for due_us, number in due if due_us <= self.now]
        expected = [self.timers.pop(number)[1] for number in numbers]

        frame = self.broker.fire(self.now)

        self.keep(frame, expected, "timers")

    @rule(window=st.sampled_from(WINDOWS))
    def crash(self, window: tuple[int, int]) -> None:
        """All that is not durable is lost: what was in flight is heard again."""
        self.folds_to_the_same()
        self.flights.clear()
        for slow in self.slow.values():
            slow.flying.clear()
            slow.due = {offset: due for offset, due in slow.due.items() if offset in slow.tries}
        self.open(window)

    @precondition(lambda self: "late" not in self.slow)
    @rule()
    def join(self) -> None:
        """A section with `from: now` joins: what was said before it does not concern it."""
        self.slow["late"] = SlowSection({"x", "answer"}, overlapping=True, is_late=True)
        self.crash(self.window)

    @rule()
    def rest(self) -> None:
        self.keep(self.broker.rest(self.now), [])
        self.folds_to_the_same()

    @rule(name=st.sampled_from(NAMES), looked=st.booleans())
    def hear_again(self, name: str, looked: bool) -> None:
        slow = self.slow.get(name)
        if slow is None or not slow.dead:
            return
        if looked:
            self.look()
        offsets = sorted(slow.dead)
        seated = set(self.broker.sections[name]._held)
        self.keep(self.broker.again(name, offsets, self.now), [])
        for offset in offsets:
            if offset in seated:
                slow.due[offset] = self.now  # it goes first, and alone
            elif offset not in slow.held:
                slow.unheard.append(offset)
                slow.revived.add(offset)
        slow.dead.clear()
        slow.held.clear()

    # What holds at all times

    @invariant()
    def both_agree(self) -> None:
        known = self.broker.state
        holds("emissions", known.end == len(self.log), f"{known.end} events, not {len(self.log)}")
        holds("timers", {n: t.due_us for n, t in known.timers.items()} == {n: due for n, (due, _) in self.timers.items()})
        holds("places", known.places == self.places, f"{known.places}, not {self.places}")
        seen = [(id_, *place) for id_, place in known.seen.items()]
        holds("dedupe", seen == self.ids, f"{seen}, not {self.ids}")
        for name, slow in self.slow.items():
            section = known.section(name)
            table = {key: decode(value) for key, value in section.table.items()}
            holds("writes", table == slow.table, f"{name}: {table}, not {slow.table}")
            below = {offset for offset in slow.unheard if offset < section.position}
            holds("watermark", section.open == below, f"{name}: open below its place are {section.open}, not {below}")
            holds("dead letters", (section.dead, section.held) == (slow.dead, slow.held), f"{name}: {section.dead}")
            tries = {offset: tries for offset, (tries, _) in section.attempts.items()}
            holds("attempts", tries == slow.tries, f"{name}: {tries}, not {slow.tries}")
            counts = section.heard, section.emitted, section.failed
            holds("counts", counts == (slow.heard, slow.emitted, slow.failed), f"{name}: {counts}")
            for told, looked_at in (
                (self.broker.lag(name), self.broker.sections[name].next),
                (state.lag(known, name), section.position),
            ):
                lag = len(slow.unheard) + sum(offset >= looked_at for offset in slow.disliked)
                holds("lag", told == lag, f"{name}: {told}, not {lag}")

    def folds_to_the_same(self) -> None:
        folded = State()
        for frame in self.frames:
            folded.apply(frame)
        holds("fold", folded == self.broker.state, f"{folded}, not {self.broker.state}")
        holds("round trip", State.load(folded.dump()) == folded, folded)


CHECKS = settings(max_examples=some(150), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


def test_the_broker_does_what_a_slow_and_obvious_one_does() -> None:
    run_state_machine_as_test(Machine, settings=CHECKS)


# Planted bugs

Patch = pytest.MonkeyPatch


def forgets_to_block(patch: Patch) -> None:
    """A key whose event waits for its next attempt is not blocked."""

    def wait(self: Section, offset: int, key: str, due_us: int) -> None:
        original(self, offset, key, due_us)
        self._lanes.pop(key, None)

    original = Section._wait
    patch.setattr(Section, "_wait", wait)


def runs_twice(patch: Patch) -> None:
    """Two batches may hold one key."""

    def take(self: Section, limit: int, now_us: int, lane_most: int | None = None) -> Batch | None:
        lanes, self._lanes = self._lanes, {}
        try:
            return original(self, limit, now_us, lane_most)
        finally:
            self._lanes = lanes

    original = Section.take
    patch.setattr(Section, "take", take)


def never_frees_a_key(patch: Patch) -> None:
    """What was parked behind a busy key is never heard."""
    patch.setattr(Section, "_end_lane", lambda self, key: None)


def moves_too_far(patch: Patch) -> None:
    """The watermark passes what is still in flight."""

    def advance(self: Section, done: Any) -> Any:
        made = original(self, done)
        made.opened = ()
        return made

    original = Section.advance
    patch.setattr(Section, "advance", advance)


def ignores_by(patch: Patch) -> None:
    """The lane is the key, whatever `by:` says."""
    patch.setattr(Listener, "lanes", lambda self, rows, chosen: [rows.keys[row] for row in chosen])


def ignores_where(patch: Patch) -> None:
    """Every event of the topic is heard."""
    original = Listener._judge
    patch.setattr(Listener, "_judge", lambda self, topic: original(self, topic) is not False)


def does_not_count_the_skipped(patch: Patch) -> None:
    """What a condition passes over never counts as passed."""

    def heed(self: Listener, rows: Any, start: int = 0) -> Any:
        made = original(self, rows, start)
        made.skipped = ()
        return made

    original = Listener.heed
    patch.setattr(Listener, "heed", heed)


def fold_of(name: str, fold: Callable[..., None]) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        patch.setitem(state.FOLDS, name, fold)

    plant.__name__ = f"folds_{name}_wrong"
    return plant


def nothing(folded: State, mark: Any, frame: Frame) -> None: ...


def counts_no_attempt(folded: State, mark: Any, frame: Frame) -> None:
    for name, failures in mark.items():
        section = folded.section(name)
        section.failed += len(failures)
        section.attempts.update({offset: (1, due_us) for offset, _, due_us, _ in failures if due_us >= 0})


def loses_the_letter(folded: State, mark: Any, frame: Frame) -> None:
    for name, letters in mark.items():
        for offset, _row, _held in letters:
            folded.section(name).attempts.pop(offset, None)


def lets_the_held_go(folded: State, mark: Any, frame: Frame) -> None:
    state._dead(folded, {name: [[*letter[:2], False] for letter in letters] for name, letters in mark.items()}, frame)


def forgets_the_past(folded: State, mark: Any, frame: Frame) -> None:
    state._joined(folded, {name: [position, 0, patterns] for name, (position, _, patterns) in mark.items()}, frame)


def passes_none(folded: State, mark: Any, frame: Frame) -> None:
    state._heard(folded, {name: [moved[0], 0, *moved[2:]] for name, moved in mark.items()}, frame)


def drops_words(patch: Patch) -> None:
    """Where some of a batch is answered and some fails, nothing is said of what fails."""

    def fail(self: Broker, section: Section, outcome: Outcome, marks: Any, said: list[Any], *others: Any) -> Any:
        done = original(self, section, outcome, marks, said, *others)
        del said[1:]
        return done

    original = Broker._fail
    patch.setattr(Broker, "_fail", fail)


def says_in_nobodys_name(patch: Patch) -> None:
    """An answer loses its chain."""

    def merge(self: Broker, chunks: Any) -> Any:
        rows = original(self, chunks)
        if rows is not None and rows.causes is not None:
            rows.roots = rows.causes
        return rows

    original = Broker._merge
    patch.setattr(Broker, "_merge", merge)


def writes_what_breaks_its_schema(patch: Patch) -> None:
    """What is said of a failure is not checked."""

    def end_of(player: str, failed: Failure, attempts: int, policy: Policy) -> Any:
        return original(player, failed, attempts, Policy(policy.retry, policy.on_failure))

    original = failure.end_of
    patch.setattr(broker, "end_of", end_of)


def has_no_window(patch: Patch) -> None:
    """An id is remembered for ever."""
    patch.setattr(State, "_forget", lambda self, now_us: None)


def forgets_ids(patch: Patch) -> None:
    """Ids of earlier frames are not looked up."""

    def without_seen(self: Broker, said: Said, end: int, fresh: dict[str, int], now_us: int) -> Any:
        seen, self.state.seen = self.state.seen, {}
        try:
            return original(self, said, end, fresh, now_us)
        finally:
            self.state.seen = seen

    original = Broker._without_seen
    patch.setattr(Broker, "_without_seen", without_seen)


def believes_the_clock(patch: Patch) -> None:
    """A frame has the time that the machine's clock says."""

    def frame_of(self: Broker, rows: Any, marks: dict[str, Any], now_us: int) -> Frame:
        made = Frame(first=self.state.end, time_us=now_us, rows=rows, marks=marks)
        self.state.apply(made)
        return made

    patch.setattr(Broker, "_frame", frame_of)


def fires_the_youngest_first(patch: Patch) -> None:
    """Timers that are due together fire in the wrong order."""

    def fire(self: Broker, now_us: int) -> Frame | None:
        self._timers.sort(key=lambda each: (each[0] > now_us, -each[1]))
        return original(self, now_us)

    original = Broker.fire
    patch.setattr(Broker, "fire", fire)


def knows_more_than_the_log(patch: Patch) -> None:
    """The state is changed beside `apply`."""

    def rest(self: Broker, now_us: int) -> Frame | None:
        self.state.frames += 1
        return original(self, now_us)

    original = Broker.rest
    patch.setattr(Broker, "rest", rest)


def leaves_the_timers_out(patch: Patch) -> None:
    """A snapshot holds no timers."""
    patch.setattr(State, "dump", lambda self: msgspec.msgpack.encode(msgspec.structs.replace(self, timers={})))


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (forgets_to_block, "order"),
    (runs_twice, "order"),
    (never_frees_a_key, "all are heard"),
    (moves_too_far, "watermark"),
    (ignores_by, "lanes"),
    (ignores_where, "where"),
    (does_not_count_the_skipped, "lag"),
    (fold_of("heard", passes_none), "lag"),
    (fold_of("joined", forgets_the_past), "lag"),
    (fold_of("failed", counts_no_attempt), "attempts"),
    (fold_of("dead", loses_the_letter), "dead letters"),
    (fold_of("dead", lets_the_held_go), "dead letters"),
    (fold_of("wrote", nothing), "writes"),
    (fold_of("place", nothing), "places"),
    (fold_of("later", nothing), "timers"),
    (fold_of("dedupe", nothing), "dedupe"),
    (fires_the_youngest_first, "timers"),
    (drops_words, "emissions"),
    (says_in_nobodys_name, "emissions"),
    (writes_what_breaks_its_schema, "emissions"),
    (has_no_window, "dedupe"),
    (forgets_ids, "dedupe"),
    (believes_the_clock, "time"),
    (knows_more_than_the_log, "fold"),
    (leaves_the_timers_out, "round trip"),
]

PLANTED = settings(
    CHECKS,
    max_examples=3000,
    database=None,
    derandomize=True,
    phases=[Phase.generate],
    report_multiple_bugs=False,
)


@pytest.mark.parametrize(("bug", "name"), BUGS, ids=[f"{bug.__name__}-{name}" for bug, name in BUGS])
def test_a_planted_bug_is_found_by_the_property_that_it_breaks(
    bug: Callable[[Patch], None], name: str, monkeypatch: Patch
) -> None:
    bug(monkeypatch)

    with pytest.raises(Broken) as found:
        run_state_machine_as_test(Machine, settings=PLANTED)

    assert str(found.value).startswith(f"{name}: ")
