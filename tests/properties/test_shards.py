"""Several shards against a slow and obvious account of what should come of it, on random histories.

Brokers publish, hear, answer to each other's keys, fail, set timers and crash; parcels between them are lost, come twice, late
and in another order. The account keeps, for each frame that became durable, what was to be said and heard by it; what a crash
took back is struck out. At the end of each history all is brought to rest, and must add up. Each property has a name, and bugs
that are planted at the end show that it can fail, and for its own reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any, NamedTuple, TypeVar

import msgspec
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from ensemble.broker import Batch, Broker, Later, Listener, Policy, Said, Section, State, broker, outbox, state
from ensemble.broker.outbox import Outbox, Parcel, shard_of
from ensemble.broker.state import lag
from ensemble.errors import Unavailable
from ensemble.event import Event, Frame, decode, encode
from ensemble.score.model import Emit, RetryPolicy
from tests.broker.several import Shards, kept
from tests.effort import some

KEYS = ["a", "b", "c", "d", "e"]
IDS = ["i", "j"]
EVENTS = st.tuples(st.sampled_from("xyz"), st.sampled_from(KEYS), st.integers(0, 3), st.sampled_from([None, None, *IDS]))
"""Topic, key, number and id."""
RETRY = RetryPolicy(attempts=2, first_us=1000, jitter=0)
ONCE = RetryPolicy(attempts=1)


T = TypeVar("T")


class Broken(AssertionError):
    """A property does not hold. Its text begins with the property's name."""


LANES = [
    next(lane for i in count() if shard_of(lane := f"l{i}", 2) == n % 2 and shard_of(lane, 3) == n % 3) for n in range(4)
]
"""By number; they belong to different shards."""


def by_number(event: Event) -> str:
    number: int = event.data["n"]
    return LANES[number]


def likes(event: Event) -> bool:
    return bool(event.data["n"] != 2)


HEARS = {
    "key": Listener([("x", None), ("y", None)]),
    "by": Listener([("x", likes), ("answer", likes)], by=by_number),
    "all": Listener([("y", None)], order="all"),
    "none": Listener([("x", None)], order="none"),
    "sad": Listener([("_band.dead", None)]),
}
POLICIES = {
    "key": Policy(ONCE),
    "by": Policy(RETRY, Emit("failed")),
    "all": Policy(ONCE, "hold"),
    "none": Policy(RETRY, Emit("failed")),
    "sad": Policy(ONCE),
}
SAYS = {"key": ["answer", "note"], "by": ["note"], "all": ["note"], "none": ["note"], "sad": ["note"]}


class Told(NamedTuple):
    """An event as it should be there."""

    name: Any
    """Its number; of what the band says of a failure: `failed`, the section, and the name of what failed."""
    topic: str
    key: str
    source: str
    cause: Any = None
    id: str | None = None


@dataclass
class Flight:
    """A batch that is being heard."""

    shard: int
    batch: Batch


@dataclass
class Bag:
    """Parcels on their way."""

    here: int
    there: int
    first: int
    parcels: Sequence[Parcel]


class Machine(RuleBasedStateMachine):
    """Plays the shards, and keeps account."""

    is_broken = False

    def holds(self, name: str, claim: bool, told: object = "") -> None:
        if not claim:
            self.is_broken = True
            raise Broken(f"{name}: {told}")

    @initialize(shards=st.sampled_from([2, 2, 3]))
    def begin(self, shards: int) -> None:
        self.start(shards)

    def start(self, shards: int) -> None:
        self.band = Shards(shards, HEARS, POLICIES, ["by", "none"])
        self.number = 0
        self.said: list[Told] = []
        """What is durable, and therefore to be there in the end."""
        self.heard: list[tuple[str, Any]] = []
        """Section and event, in the order in which it became durable that they were dealt with."""
        self.lanes: dict[tuple[str, Any], tuple[str, int, int]] = {}
        """Section and event -> lane; and shard and offset of the event itself."""
        self.timers: dict[Any, Told] = {}
        self.origins: dict[Any, tuple[int, ...]] = {}
        """The shards in which an event lay before the store was divided anew: its lane has no order over several."""
        self.flights: list[Flight] = []
        self.bags: list[Bag] = []
        self.answers: list[Callable[[], None]] = []

    # The account

    def name_of(self, event: Event) -> Any:
        """What an event is called in the account."""
        data = event.data
        return data["u"] if "u" in data else ("failed", data["player"], self.names()[event.causationid])

    def names(self) -> dict[str | None, Any]:
        """Id -> name of each event; those of failures are called by what failed."""
        found: dict[str | None, Any] = {}
        late = []
        for number in range(self.band.count):
            for event in self.band.said(number):
                if "u" in event.data:
                    found[event.id] = event.data["u"]
                else:
                    late.append(event)
        for _ in range(3):
            for event in late:
                if event.causationid in found:
                    found[event.id] = ("failed", event.data["player"], found[event.causationid])
        return found

    def numbered(self) -> int:
        self.number += 1
        return self.number

    # Rules

    @rule(
        data=st.data(),
        shard=st.integers(0, 2),
        events=st.lists(EVENTS, min_size=1, max_size=4),
        flush=st.booleans(),
    )
    def publish(self, data: st.DataObject, shard: int, events: list[tuple[str, str, int, str | None]], flush: bool) -> None:
        shard %= self.band.count
        told = [Told(self.numbered(), topic, key, "/test", None, self.id_of(id_, key)) for topic, key, _, id_ in events]
        said = columns(told, [n for _, _, n, _ in events])

        self.band.publish(shard, said, lambda: self.said.extend(told))
        self.after(shard, flush)

    def id_of(self, id_: str | None, key: str) -> str | None:
        """An id is one event's, so that who publishes it twice gives it one key."""
        return None if id_ is None else f"{id_}-{key}"

    def after(self, shard: int, flush: bool) -> None:
        if flush:
            self.band.flush(shard)

    @rule(data=st.data(), shard=st.integers(0, 2), limit=st.integers(1, 4))
    def take(self, data: st.DataObject, shard: int, limit: int) -> None:
        shard %= self.band.count
        self.band.look(shard)
        sections = self.band.brokers[shard].sections
        ready = [name for name in HEARS if sections[name].has_work]
        if not ready:
            return
        self._take(shard, data.draw(st.sampled_from(ready)), limit)

    @property
    def has_bags(self) -> bool:
        return bool(self.bags)

    @property
    def has_flights(self) -> bool:
        return bool(self.flights)

    def _take(self, shard: int, name: str, limit: int) -> Flight | None:
        batch = self.band.take(shard, name, limit)
        if batch is None:
            return None
        for offset, lane, event in zip(batch.offsets, batch.keys, self.band.events(shard, batch), strict=True):
            given = {"by": LANES[event.data.get("n", 0)], "all": ""}.get(name, event.key)
            self.holds("lanes", lane == given, f"{name} is told of lane {lane!r}, it is {given!r}")
            if name != "none":
                home = shard_of(lane, self.band.count)
                self.holds("lanes", home == shard, f"{name} hears lane {lane!r} in shard {shard}, it is {home}'s")
                busy = [f for f in self.flights if f.batch.section == name and lane in f.batch.keys]
                self.holds("order", not busy, f"{name} hears two events of lane {lane!r} at a time")
            where = event._rows.extra(event._ix, "at") or [shard, offset]
            self.lanes[name, self.name_of(event)] = (lane, *where)
        flight = Flight(shard, batch)
        self.flights.append(flight)
        return flight

    @precondition(lambda self: self.flights)
    @rule(data=st.data(), fails=st.sampled_from([0, 2, 4]), flush=st.booleans())
    def come_back(self, data: st.DataObject, fails: int, flush: bool) -> None:
        flight = self.flights.pop(data.draw(st.integers(0, len(self.flights) - 1)))
        failing = [offset for offset in flight.batch.offsets if data.draw(st.integers(0, 4)) < fails]
        topics = st.sampled_from(SAYS[flight.batch.section])
        answer = st.lists(st.tuples(topics, st.sampled_from(KEYS), st.integers(0, 3)), max_size=2)
        answers = {offset: data.draw(answer) for offset in flight.batch.offsets}
        alarm = data.draw(st.sampled_from([None, None, *KEYS]))
        self._come_back(flight, failing, answers, alarm)
        self.after(flight.shard, flush)

    def _come_back(
        self,
        flight: Flight,
        failing: Sequence[int] = (),
        answers: dict[int, list[tuple[str, str, int]]] | None = None,
        alarm: str | None = None,
    ) -> None:
        band, shard, batch = self.band, flight.shard, flight.batch
        name, section = batch.section, band.section(shard, batch.section)
        events = dict(zip(batch.offsets, band.events(shard, batch), strict=True))
        lanes = dict(zip(batch.offsets, batch.keys, strict=True))
        said: list[Told] = []
        ends: list[Told] = []
        numbers: list[int] = []
        refs, roots = [], []
        dealt, blocked = [], set[str]()
        later: list[Later] = []
        for offset, event in events.items():
            if section.keyed and lanes[offset] in blocked:
                continue
            what, rows, ix = self.name_of(event), event._rows, event._ix
            if offset in failing:
                blocked.add(lanes[offset])
                if section.state.attempts.get(offset, (0, 0))[0] + 1 < POLICIES[name].retry.attempts:
                    continue
                on_failure = POLICIES[name].on_failure
                if on_failure != "hold":
                    dealt.append((name, what))
                topic = on_failure.topic if isinstance(on_failure, Emit) else "_band.dead"
                if name != "sad":
                    ends.append(Told(("failed", name, what), topic, event.key, f"/band/{name}", what))
                continue
            dealt.append((name, what))
            for topic, key, n in (answers or {}).get(offset, ()):
                said.append(Told(self.numbered(), topic, key, f"/band/{name}", what))
                numbers.append(n)
                refs.append(rows.ref(ix))
                roots.append(rows.root(ix))
            if alarm is not None and not later:
                told = Told(self.numbered(), "answer", alarm, f"/band/{name}", what)
                later.append(Later(700, told.topic, alarm, encode({"u": told.name, "n": 1}), rows.ref(ix), rows.root(ix)))
                self.timers[told.name] = told
        words = columns(said, numbers)
        words.causes, words.roots = refs, roots

        def is_durable() -> None:
            self.said += said + ends
            self.heard += dealt

        free = [lane for lane in batch.keys if section.keyed and lane not in blocked]
        wrote: Any = {free[0]: encode(self.number)} if free else {}

        band.hear(shard, batch, words if said else None, failing, is_durable, later=later, wrote=wrote)

    @rule(shard=st.integers(0, 2), wait=st.sampled_from([0, 300, 800, 2000]), flush=st.booleans())
    def fire(self, shard: int, wait: int, flush: bool) -> None:
        self.band.now += wait
        self._fire(shard % self.band.count)
        self.after(shard % self.band.count, flush)

    def _fire(self, shard: int) -> bool:
        known = self.band.brokers[shard].state.timers
        due = [decode(timer.data)["u"] for _, timer in sorted(known.items()) if timer.due_us <= self.band.now]
        told = [self.timers[name] for name in due]
        return self.band.fire(shard, lambda: self.said.extend(told)) is not None

    @rule(shard=st.integers(0, 2), name=st.sampled_from(["by", "all", "sad"]), most=st.integers(1, 3), flush=st.booleans())
    def forward(self, shard: int, name: str, most: int, flush: bool) -> None:
        shard %= self.band.count
        self.band.look(shard)
        self.band.forward(shard, name, most)
        self.after(shard, flush)

    @rule(shard=st.integers(0, 2))
    def flush(self, shard: int) -> None:
        self.band.flush(shard % self.band.count)

    @rule(shard=st.integers(0, 2), rest=st.booleans())
    def crash(self, shard: int, rest: bool) -> None:
        shard %= self.band.count
        if rest:
            self.band.keep(shard, self.band.brokers[shard].rest(self.band.now))
        self.flights = [flight for flight in self.flights if flight.shard != shard]
        self.band.crash(shard)

    @rule(data=st.data(), ways=st.tuples(st.integers(0, 2), st.integers(0, 2)))
    def send(self, data: st.DataObject, ways: tuple[int, int]) -> None:
        """Put parcels on their way: some of those that have not arrived, as far as their shard knows."""
        here, there = (way % self.band.count for way in ways)
        parcels = self.band.sendable(here, there)
        if not parcels:
            return
        numbers = sorted(parcels)
        self.holds("numbers", numbers == list(range(numbers[0], numbers[-1] + 1)), f"from {here} to {there}: {numbers}")
        at = data.draw(st.sampled_from(numbers[:2]))
        if at > self.band.brokers[there].state.inbox.get(here, 0):  # nobody sends on what was not answered for
            at = numbers[0]
        sent = [parcels[number] for number in numbers if number >= at][: data.draw(st.integers(1, 3))]
        self.bags.append(Bag(here, there, at, sent))

    @precondition(lambda self: self.bags)
    @rule(data=st.data(), fate=st.sampled_from(["comes", "comes", "comes twice", "is lost"]), flush=st.booleans())
    def arrive(self, data: st.DataObject, fate: str, flush: bool) -> None:
        bag = self.bags.pop(data.draw(st.integers(0, len(self.bags) - 1)))
        if fate == "is lost":
            return
        if fate == "comes twice":
            self.bags.append(bag)
        sender = self.band.brokers[bag.here]
        is_answered = data.draw(st.booleans())

        def answer(number: int) -> None:
            if is_answered and self.band.brokers[bag.here] is sender:  # nobody waits any more after a crash
                self.answers.append(lambda: sender.arrived(bag.there, number))

        self.taken(lambda: self.band.deliver(bag.here, bag.there, bag.first, bag.parcels, answer))
        self.after(bag.there, flush)

    def taken(self, bring: Callable[[], T]) -> T:
        try:
            return bring()
        except Unavailable as refused:
            self.is_broken = True
            raise Broken(f"numbers: {refused}") from refused

    @precondition(lambda self: self.answers)
    @rule(data=st.data())
    def be_answered(self, data: st.DataObject) -> None:
        self.answers.pop(data.draw(st.integers(0, len(self.answers) - 1)))()

    @rule(data=st.data(), rounds=st.integers(1, 3))
    def work(self, data: st.DataObject, rounds: int) -> None:
        """What makes a history long."""
        for _ in range(rounds):
            events: list[tuple[str, str, int, str | None]] = data.draw(st.lists(EVENTS, min_size=1, max_size=4))
            self.publish(data, data.draw(st.integers(0, 2)), events, flush=True)
            self.band.now += data.draw(st.sampled_from([0, 100, 100, 1500]))
            self.work_on(data)

    def work_on(self, data: st.DataObject) -> None:
        for shard in range(self.band.count):
            self.band.flush(shard)
            self.band.look(shard)
            for name in ("by", "all", "sad"):
                self.band.forward(shard, name, 2)
            self.band.flush(shard)
        for here in range(self.band.count):
            for there in range(self.band.count):
                self.send(data, (here, there))
        while self.has_bags and data.draw(st.integers(0, 5)):
            fate: str = data.draw(st.sampled_from(["comes", "comes twice"]))
            self.arrive(data, fate, data.draw(st.booleans()))
        for shard in range(self.band.count):
            if data.draw(st.integers(0, 3)):
                self.take(data, shard, 3)
        while self.has_flights and data.draw(st.integers(0, 3)):
            fails: int = data.draw(st.sampled_from([0, 0, 2]))
            self.come_back(data, fails, data.draw(st.booleans()))

    # What holds at all times

    @invariant()
    def each_fold_is_the_state(self) -> None:
        for number in range(self.band.count):
            folded = State()
            for frame in self.band.logs[number].frames:
                folded.apply(kept(frame))
            known = self.band.brokers[number].state
            self.holds("fold", folded == known, f"shard {number}: {folded}, not {known}")
            self.holds("fold", State.load(known.dump()) == known, f"shard {number}: a snapshot gives another state")

    @invariant()
    def parcels_have_numbers_without_a_gap(self) -> None:
        for here, sender in enumerate(self.band.brokers):
            for there, box in sender.state.outbox.items():
                numbers = list(box.parcels)
                first = numbers[0] if numbers else box.next
                taken = self.band.brokers[there].state.inbox.get(here, 0)
                told = f"from {here} to {there}: {numbers}, next is {box.next}, taken are those before {taken}"
                self.holds("numbers", numbers == list(range(first, box.next)), told)
                self.holds("numbers", first <= taken <= box.next, told)

    # In the end

    def teardown(self) -> None:
        if self.is_broken or not hasattr(self, "band"):
            return
        self.bags.clear()
        for flight in self.flights:
            self._come_back(flight)
        self.flights.clear()
        self.come_to_rest()
        self.all_is_there_once()
        self.all_is_heard_once()
        self.all_is_heard_in_order()

    def come_to_rest(self) -> None:
        """As `Shards.settle`, with an eye on the account."""
        band = self.band
        for _ in range(300):
            is_quiet = True
            for shard in range(band.count):
                band.flush(shard)
                band.look(shard)
                held = band.brokers[shard].state.sections["all"].held
                if held:
                    band.keep(shard, band.brokers[shard].again("all", sorted(held), band.now))
                    is_quiet = False
                for name in HEARS:
                    is_quiet &= band.forward(shard, name) is None
                    flight = self._take(shard, name, 100)
                    if flight is not None:
                        is_quiet = False
                        self.flights.remove(flight)
                        self._come_back(flight)
                is_quiet &= not self._fire(shard)
                band.flush(shard)
            is_quiet &= not self.taken(band.exchange)
            due = [moment for each in band.brokers if (moment := each.due_us()) is not None]
            if due:
                band.now = max(band.now, min(due))
            elif is_quiet:
                break
        for shard, each in enumerate(band.brokers):
            band.keep(shard, each.rest(band.now))
            band.flush(shard)
            waiting = {there: list(box.parcels) for there, box in each.state.outbox.items() if box.parcels}
            self.holds("settled", not waiting, f"shard {shard} has parcels for others: {waiting}")
            for name in HEARS:
                dead = len(each.state.sections[name].held)
                self.holds("settled", lag(each.state, name) == dead, f"{name} in shard {shard}: {lag(each.state, name)}")

    def all_is_there_once(self) -> None:
        names = self.names()
        found = [
            (number, event, Told(self.name_of(event), event.topic, event.key, event.source, names.get(event.causationid)))
            for number in range(self.band.count)
            for event in self.band.said(number)
        ]
        counts = Counter(told.name for _, _, told in found)
        self.holds("once", max(counts.values(), default=1) == 1, f"there twice: {counts}")
        for number, event, told in found:
            home = shard_of(event.key, self.band.count)
            self.holds("home", told.topic == "_band.dead" or number == home, f"{told} is in shard {number}, not {home}")
        expected = {told.name: told for told in self.said}
        by_id: dict[tuple[str, int], list[Told]] = {}
        for told in self.said:
            if told.id is not None:
                by_id.setdefault((told.id, shard_of(told.key, self.band.count)), []).append(told)
        there = {told.name: told for _, _, told in found}
        for (id_, home), same in by_id.items():
            kept_ = [told for told in same if told.name in there]
            self.holds("dedupe", len(kept_) < 2, f"id {id_} in shard {home}: {kept_}")
            for told in same:
                if told is not (kept_ or same)[0]:
                    del expected[told.name]
        wanted = {name: told._replace(id=None) for name, told in expected.items()}
        self.holds("once", there == wanted, f"{there}, not {wanted}")
        self.there = there

    def all_is_heard_once(self) -> None:
        counts = Counter(self.heard)
        for name, listener in HEARS.items():
            topics = {pattern for pattern, _ in listener.leaves}
            liked = {event.data["u"] for event in self.said_events() if "u" in event.data and likes(event)}
            wanted = Counter(
                (name, told.name)
                for told in self.there.values()
                if told.topic in topics and (name != "by" or told.name in liked)
            )
            heard = Counter({each: count for each, count in counts.items() if each[0] == name})
            self.holds("heard", heard == wanted, f"{name} heard {heard}, not {wanted}")

    def said_events(self) -> list[Event]:
        return [event for number in range(self.band.count) for event in self.band.said(number)]

    def all_is_heard_in_order(self) -> None:
        lanes: dict[tuple[Any, ...], list[int]] = {}
        for name, what in self.heard:
            if name != "none":
                lane, shard, offset = self.lanes[name, what]
                lanes.setdefault((name, lane, shard, *self.origins.get(what, ())), []).append(offset)
        for where, offsets in lanes.items():
            self.holds("order", offsets == sorted(offsets), f"{where}: {offsets}")


def columns(told: Sequence[Told], numbers: Sequence[int]) -> Said:
    topics = sorted({each.topic for each in told})
    return Said(
        topics,
        [topics.index(each.topic) for each in told],
        [each.key for each in told],
        [encode({"u": each.name, "n": n}) for each, n in zip(told, numbers, strict=True)],
        extras={row: {"id": each.id} for row, each in enumerate(told) if each.id is not None} or None,
    )


CHECKS = settings(max_examples=some(100), stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.patience(300)
def test_shards_do_what_a_slow_account_says() -> None:
    run_state_machine_as_test(Machine, settings=CHECKS)


# Planted bugs

Patch = pytest.MonkeyPatch


def fold_of(name: str, fold: Callable[..., None], called: str) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        patch.setitem(state.FOLDS, name, fold)

    plant.__name__ = called
    return plant


def drops_parcels(folded: State, mark: dict[int, list[Any]], frame: Frame) -> None:
    """What is on its way is forgotten in a crash: only what is decided live is kept."""
    for shard, parcels in mark.items():
        box = folded.outbox.setdefault(shard, Outbox())
        for each in parcels:
            if isinstance(each, Parcel):
                box.parcels[box.next] = each
            box.next += 1


def numbers_by_frame(folded: State, mark: dict[int, list[Any]], frame: Frame) -> None:
    """Parcels are numbered within their frame."""
    for shard, parcels in mark.items():
        box = folded.outbox.setdefault(shard, Outbox())
        box.parcels.update(enumerate(msgspec.convert([msgspec.to_builtins(each) for each in parcels], list[Parcel])))
        box.next = len(parcels)


def drops_one_too_many(folded: State, mark: dict[int, int], frame: Frame) -> None:
    """An answer is believed to be about the parcel after those, too."""
    state._arrived(folded, {shard: first + 1 for shard, first in mark.items()}, frame)


def nothing(folded: State, mark: Any, frame: Frame) -> None: ...


def takes_one_parcel_for_all(folded: State, mark: dict[int, int], frame: Frame) -> None:
    """What came is recorded as the number of frames in which it came."""
    for shard in mark:
        folded.inbox[shard] = folded.inbox.get(shard, 0) + 1


def accepts_twice(patch: Patch) -> None:
    """Parcels that are here already are taken in again."""

    def accept(self: Broker, shard: int, first: int, parcels: Any, now_us: int) -> Any:
        fresh = self.state.inbox.get(shard, 0) - first
        frames, expected = original(self, shard, first, parcels, now_us)
        again = [each.publication() for each in parcels[:fresh] if each.causes is None]
        frame, _ = self._publish(again, {}, now_us) if again else (None, None)
        return frames + ([frame] if frame is not None else []), expected

    original = Broker.accept
    patch.setattr(Broker, "accept", accept)


def without_mark(mark: str) -> Callable[[Patch], None]:
    def plant(patch: Patch) -> None:
        def forward(self: Broker, *given: Any) -> Frame:
            def frame_of(rows: Any, marks: dict[str, Any], now_us: int) -> Frame:
                return original_frame({name: each for name, each in marks.items() if name != mark}, now_us)

            def original_frame(marks: dict[str, Any], now_us: int) -> Frame:
                del self.__dict__["_frame"]
                return self._frame(None, marks, now_us)

            self._frame = frame_of  # type: ignore[method-assign]
            return original(self, *given)

        original = Broker.forward
        patch.setattr(Broker, "forward", forward)

    plant.__name__ = f"forwards_without_{mark}"
    return plant


def hears_everywhere(patch: Patch) -> None:
    """A section hears whatever lies in its shard."""
    patch.setattr(Broker, "_owns", lambda self, lane: True)


def hears_and_forwards(patch: Patch) -> None:
    """What is sent away is heard here, too."""

    def ours(self: Section, heed: Any) -> Any:
        original(self, heed)
        return heed

    original = Section._ours
    patch.setattr(Section, "_ours", ours)


def keeps_all(patch: Patch) -> None:
    """What players say stays in their shard."""
    patch.setattr(Broker, "_keep", lambda self, said, source, out: (said, None))


def fires_here(patch: Patch) -> None:
    """A timer says its event in the shard in which it was set."""

    def fire(self: Broker, now_us: int) -> Frame | None:
        shards, self.shards = self.shards, 1
        try:
            return original(self, now_us)
        finally:
            self.shards = shards

    original = Broker.fire
    patch.setattr(Broker, "fire", fire)


def loses_causes(patch: Patch) -> None:
    """A parcel does not say what its events answer."""

    def lost(*given: Any) -> Parcel:
        made = original(*given)
        if made.causes is not None:
            made.causes = ["?" for _ in made.causes]
        return made

    original = outbox.parcel
    patch.setattr(broker, "parcel", lost)


def turns_parcels_round(patch: Patch) -> None:
    """What one frame sends to a section of another shard arrives with the last first."""

    def turned(events: Any, *given: Any) -> Parcel:
        return original(events[::-1], *given)

    original = outbox.copies
    patch.setattr(broker, "copies", turned)


def hears_copies_of_others(patch: Patch) -> None:
    """Who sends an event away forgets of whom it was."""

    def copies(events: Any, section: str, *given: Any) -> Parcel:
        made = original(events, section, *given)
        made.topics = [outbox.forwarded_topic("by")]
        return made

    original = outbox.copies
    patch.setattr(broker, "copies", copies)


def forgets_ids_of_parcels(patch: Patch) -> None:
    """An id is looked up where it is published only."""

    def accept(self: Broker, *given: Any) -> Any:
        seen, self.state.seen = self.state.seen, {}
        try:
            return original(self, *given)
        finally:
            self.state.seen = {**seen, **self.state.seen}

    original = Broker.accept
    patch.setattr(Broker, "accept", accept)


def never_tells_of_arrivals(patch: Patch) -> None:
    """What has arrived stays in the outbox."""
    patch.setattr(Broker, "arrived", lambda self, shard, first: None)


# What is taken twice is also answered wrongly: which of the two shows first is chance.
BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (fold_of("out", drops_parcels, "drops_parcels_in_a_crash"), "fold"),
    (fold_of("out", numbers_by_frame, "numbers_parcels_by_frame"), "once"),
    (fold_of("arrived", drops_one_too_many, "drops_one_parcel_too_many"), "once or numbers"),
    (fold_of("arrived", nothing, "keeps_what_has_arrived"), "settled"),
    (fold_of("in", nothing, "forgets_what_came"), "once or numbers"),
    (fold_of("in", takes_one_parcel_for_all, "counts_frames_for_parcels"), "once or numbers"),
    (accepts_twice, "once"),
    (without_mark("out"), "heard"),
    (without_mark("heard"), "settled"),
    (hears_everywhere, "lanes"),
    (hears_and_forwards, "lanes"),
    (keeps_all, "lanes"),
    (fires_here, "home"),
    (loses_causes, "once"),
    (turns_parcels_round, "order"),
    (hears_copies_of_others, "heard"),
    (forgets_ids_of_parcels, "dedupe"),
    (never_tells_of_arrivals, "settled"),
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

    assert str(found.value).partition(":")[0] in name.split(" or ")
