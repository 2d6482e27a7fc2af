"""A store that is divided anew holds what it held: on the random histories of test_shards.py, in 1 to 3 shards, into 1 to 4.

The history is cut off wherever it is, with batches in flight, parcels on their way and sections behind. Its logs are written to
a disk, divided anew, and played on to the end, where all must add up as if nothing had happened.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from ensemble.broker import State, carrying
from ensemble.broker.carrying import Carrying
from ensemble.broker.outbox import shard_of
from ensemble.broker.state import lag
from ensemble.event import Event, Rows
from ensemble.log import division, read_log
from ensemble.log.directory import open_directory
from ensemble.resharding import reshard
from tests.broker.several import Log, Shards
from tests.effort import some
from tests.log.log_samples import Quick
from tests.properties.test_shards import HEARS, POLICIES, Broken, Machine

IN_MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None
"""Where thousands of small stores are made and removed, if it can be."""
SEEN = ("topic", "key", "data", "time", "source", "causationid", "correlationid", "traceparent")


def written(band: Shards, store: Path) -> None:
    """The shards as a store on the disk."""
    for number, log in enumerate(band.logs):
        folder = division.place(store, number, band.count)
        kept = open_directory(folder, name="band", log_id=band.log_ids[number], shard=number, files=Quick())
        kept.append([kept.seal(frame) for frame in log.frames])
        kept.close()


def read(store: Path, shards: int, now: int) -> Shards:
    """The shards of a store, to be played."""
    logs, ids = [], []
    for number in range(shards):
        kept = read_log(str(store), number)
        frames = list(kept.frames())
        snapshot = kept.snapshot()
        assert snapshot is not None
        folded = State()
        for frame in frames:
            folded.apply(frame)
        if State.load(snapshot.state) != folded:
            raise Broken("fold: the snapshot of a new shard is not what its frames add up to")
        logs.append(Log(frames, len(frames)))
        ids.append(kept.id)
        kept.close()
    band = Shards(shards, HEARS, POLICIES, ["by", "none"], logs, ids)
    band.now = max(now, *(log.frames[-1].time_us for log in logs))
    return band


class Told:
    """What a band knows, by the ids of its events."""

    def __init__(self, band: Shards) -> None:
        self.events: dict[str, tuple[Any, ...]] = {}
        self.keys: dict[str, list[str]] = {}
        self.tables: dict[str, dict[str, bytes]] = {name: {} for name in HEARS}
        self.dead: set[tuple[str, str, bool]] = set()
        self.tries: dict[tuple[str, str], tuple[int, int]] = {}
        self.timers: Counter[tuple[Any, ...]] = Counter()
        self.ids: set[str] = set()
        self.counts: Counter[tuple[str, str]] = Counter()
        for number, broker in enumerate(band.brokers):
            log, state = band.logs[number], broker.state
            for event in band.said(number):
                self.events[event.id] = tuple(getattr(event, name) for name in SEEN)
                self.keys.setdefault(event.key, []).append(event.id)
            for name, section in state.sections.items():
                self.tables[name].update(section.table)
                self.dead |= {(name, log.event(at).id, at in section.held) for at in section.dead}
                self.tries.update({(name, log.event(at).id): tried for at, tried in section.attempts.items()})
                self.counts.update({(name, field): getattr(section, field) for field in carrying.COUNTS})
            self.ids |= set(state.seen)
            for timer in state.timers.values():
                refs = [ref if isinstance(ref, str) else f"{band.log_ids[number]}-{ref}" for ref in (timer.cause, timer.root)]
                self.timers[timer.due_us, timer.topic, timer.key, timer.data, *refs, timer.source] += 1
            for there, box in state.outbox.items():
                arrived = band.brokers[there].state.inbox.get(number, 0)
                for at, parcel in box.parcels.items():  # held, tried, or a dead letter, on the way to its lane
                    for extra in (parcel.extras or {}).values() if at >= arrived else ():
                        name = parcel.topics[0].rpartition(".")[2]
                        if "tried" in extra:
                            self.tries[name, extra["as"]] = tuple(extra["tried"])
                        if "letter" in extra:
                            self.dead.add((name, extra["as"], True))


def in_order(events: Sequence[Event]) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for event in events:
        keys.setdefault(event.key, []).append(event.id)
    return keys


class DividedAnew(Machine):
    """Cuts its history off, divides the store anew, and plays on."""

    @initialize(shards=st.integers(1, 3), into=st.integers(1, 4))
    def begin(self, shards: int, into: int) -> None:
        self.start(shards)
        self.into = into

    @rule(into=st.integers(1, 4), is_cut=st.sampled_from([False, False, False, False, True]))
    def divide(self, into: int, is_cut: bool) -> None:
        """A store may be divided anew again and again."""
        if is_cut:
            self.divide_anew(into)

    def teardown(self) -> None:
        if not self.is_broken and hasattr(self, "band"):
            self.divide_anew(self.into)
            super().teardown()

    def divide_anew(self, into: int) -> None:
        for number in range(self.band.count):
            self.band.crash(number)
        self.flights.clear()
        self.bags.clear()
        self.answers.clear()
        if into == self.band.count:
            into = into % 4 + 1
        store = Path(tempfile.mkdtemp(prefix="ensemble-", dir=IN_MEMORY))
        try:
            written(self.band, store)
            for number in range(self.band.count):
                for event in self.band.said(number):
                    what = self.name_of(event)
                    self.origins[what] = (*self.origins.get(what, ()), number)
            before, orders = Told(self.band), [in_order(self.band.said(number)) for number in range(self.band.count)]
            reshard(str(store), into, Quick())
            self.band = read(store, into, self.band.now)
        except Broken:
            self.is_broken = True
            raise
        finally:
            shutil.rmtree(store)
        self.is_the_same(before, Told(self.band))
        self.keys_are_in_order(orders)
        self.lanes.clear()  # what is heard from here on lies elsewhere
        self.heard_before = len(self.heard)

    heard_before = 0

    def is_the_same(self, before: Told, after: Told) -> None:
        kept = {id_: seen for id_, seen in after.events.items() if id_ in before.events}
        self.holds("events", kept == before.events, f"{kept}, not {before.events}")
        self.holds("tables", after.tables == before.tables, f"{after.tables}, not {before.tables}")
        self.holds("dead letters", after.dead == before.dead, f"{after.dead}, not {before.dead}")
        self.holds("attempts", after.tries == before.tries, f"{after.tries}, not {before.tries}")
        self.holds("timers", after.timers == before.timers, f"{after.timers}, not {before.timers}")
        self.holds("dedupe", after.ids >= before.ids, f"{after.ids}, not {before.ids}")
        self.holds("counts", after.counts == before.counts, f"{after.counts}, not {before.counts}")
        for number, broker in enumerate(self.band.brokers):
            state = broker.state
            self.holds("copies", not self.band.copies(number), f"shard {number} has copies")
            for name, section in state.sections.items():
                if name != "none":
                    strays = [lane for lane in section.table if shard_of(lane, self.band.count) != number]
                    self.holds("tables", not strays, f"{name} in shard {number} has the state of {strays}")
                told = lag(state, name)
                self.holds("lag", told >= len(state.sections[name].open), f"{name} in shard {number}: {told}")

    def keys_are_in_order(self, orders: Sequence[dict[str, list[str]]]) -> None:
        """What was one shard's order of a key is its order still."""
        after = {key: ids for number in range(self.band.count) for key, ids in in_order(self.band.said(number)).items()}
        for order in orders:
            for key, ids in order.items():
                left = [id_ for id_ in after[key] if id_ in set(ids)]
                self.holds("order", left == ids, f"{key}: {left}, not {ids}")

    def all_is_heard_in_order(self) -> None:
        heard, self.heard = self.heard, self.heard[self.heard_before :]
        super().all_is_heard_in_order()
        self.heard = heard
        places = {
            self.name_of(event): (number, event.offset)
            for number in range(self.band.count)
            for event in self.band.said(number)
        }
        keys: dict[tuple[int, str], list[int]] = {}
        for name, what in heard:
            if name == "key":
                number, offset = places[what]
                keys.setdefault((number, self.there[what].key), []).append(offset)
        for where, offsets in keys.items():
            self.holds("order", offsets == sorted(offsets), f"key {where}, before and after: {offsets}")


CHECKS = settings(max_examples=some(60), stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.patience(600)
def test_a_store_that_is_divided_anew_is_played_on_as_if_nothing_had_happened() -> None:
    run_state_machine_as_test(DividedAnew, settings=CHECKS)


# Planted bugs

Patch = pytest.MonkeyPatch


def standings(change: Callable[[list[Any]], None], called: str) -> Callable[[Patch], None]:
    """A bug in what one section is told in one of the new shards: position, passed, patterns, open, unasked, ..."""

    def plant(patch: Patch) -> None:
        def standings(self: Carrying, name: str) -> list[list[Any]]:
            made = original(self, name)
            for each in made:
                change(each)
            return made

        original = Carrying._standings
        patch.setattr(Carrying, "_standings", standings)

    plant.__name__ = called
    return plant


def clears(ix: int) -> Callable[[list[Any]], None]:
    return lambda standing: standing[ix].clear()


def goes_too_far(standing: list[Any]) -> None:
    standing[0] += 1


def passes_one_more(standing: list[Any]) -> None:
    standing[1] += 1


def counts_for_each_shard(patch: Patch) -> None:
    """What sections have counted is not lost, nor is it there once."""

    def standings(self: Carrying, name: str) -> list[list[Any]]:
        made = original(self, name)
        return [[*each[:8], *made[0][8:]] for each in made]

    original = Carrying._standings
    patch.setattr(Carrying, "_standings", standings)


def forgets_what_was_sent_away(patch: Patch) -> None:
    """An event counts as heard where a copy of it waits to be heard."""
    patch.setattr(Carrying, "look", lambda self, shard, frames: None)


def loses_what_is_on_its_way(patch: Patch) -> None:
    patch.setattr(Carrying, "_coming", lambda self: iter(()))


def loses_late_events(patch: Patch) -> None:
    patch.setattr(Carrying, "late", lambda self: iter(()))


def keeps_tables_in_one_shard(patch: Patch) -> None:
    def tables(self: Carrying) -> Iterator[tuple[int, dict[str, Any]]]:
        return ((0, marks) for _, marks in original(self))

    original = Carrying.tables
    patch.setattr(Carrying, "tables", tables)


def loses_a_timer(patch: Patch) -> None:
    def carried(self: Carrying) -> list[dict[str, Any]]:
        marks = original(self)
        for each in marks:
            del each.get("later", [])[:1]
        return marks

    original = Carrying.carried
    patch.setattr(Carrying, "carried", carried)


def gives_new_ids(patch: Patch) -> None:
    def renamed(self: Carrying, *given: Any) -> Rows:
        made = original(self, *given)
        made.extras = {row: {n: v for n, v in extra.items() if n != "as"} for row, extra in (made.extras or {}).items()}
        return made

    original = Carrying._renamed
    patch.setattr(Carrying, "_renamed", renamed)


def loses_ids(patch: Patch) -> None:
    """What a publisher called its event is a name like others: nobody asks for it again."""

    def renamed(self: Carrying, *given: Any) -> Rows:
        made = original(self, *given)
        for extra in (made.extras or {}).values():
            if "id" in extra:
                extra["as"] = extra.pop("id")
        return made

    original = Carrying._renamed
    patch.setattr(Carrying, "_renamed", renamed)


BUGS: list[tuple[Callable[[Patch], None], str]] = [
    (standings(goes_too_far, "goes_too_far"), "settled or heard or lag"),
    (standings(passes_one_more, "passes_one_more"), "settled or lag"),
    (standings(clears(3), "forgets_what_is_open"), "heard or settled"),
    (standings(clears(4), "hears_what_nobody_asked_about"), "heard"),
    (standings(clears(5), "gives_new_attempts"), "attempts"),
    (standings(clears(6), "loses_letters"), "dead letters"),
    (standings(clears(7), "lets_the_held_go"), "dead letters"),
    (counts_for_each_shard, "counts"),
    (forgets_what_was_sent_away, "heard"),
    (loses_what_is_on_its_way, "once or heard"),
    (loses_late_events, "once"),
    (keeps_tables_in_one_shard, "tables"),
    (loses_a_timer, "timers"),
    (gives_new_ids, "events"),
    (loses_ids, "dedupe or events"),
]

PLANTED = settings(
    CHECKS, max_examples=1000, database=None, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
)


@pytest.mark.patience(300)
@pytest.mark.parametrize(("bug", "name"), BUGS, ids=[bug.__name__ for bug, _ in BUGS])
def test_a_planted_bug_is_found_by_the_property_that_it_breaks(
    bug: Callable[[Patch], None], name: str, monkeypatch: Patch
) -> None:
    bug(monkeypatch)

    with pytest.raises(Broken) as found:
        run_state_machine_as_test(DividedAnew, settings=PLANTED)

    assert str(found.value).partition(":")[0] in name.split(" or ")
