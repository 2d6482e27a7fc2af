"""Takes and replays on random histories: a take is a copy that costs nothing, and a replay invents nothing.

Histories publish to a few keys, fail, are tried again, set timers and keep state; they are played by a clock that is moved by
hand, left by closing or by a crash, and cut anywhere. The oracle of a take is a log that has the same frames as its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ensemble
from ensemble import Event, Reject, emit, takes
from ensemble.broker.state import State
from ensemble.errors import Unavailable
from ensemble.log import memory
from ensemble.replay import promote, replay
from ensemble.replay.record import Record
from ensemble.stage.begin import recover
from ensemble.testing import ManualClock
from tests.effort import some
from tests.replay.sharded import audit, sums, tally

_numbers = count(1)
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {
        "price": {"on": "ordered", "emits": ["priced", "late"], "retry": {"attempts": 3, "first": "1s", "jitter": 0}},
        "tally": {"on": ["priced", "late"], "emits": ["tallied"], "section": {"batch": 3}},
        "audit": {"on": ["ordered", "tallied", "late"], "order": "all"},
        "sums": {"on": "priced", "order": "none", "emits": ["summed"], "section": {"batch": 4}},
    },
}


def price(event: Event, ctx: Any) -> Any:
    number = event.data["n"]
    if number % 7 == 6:
        raise Reject("never")
    if number % 5 == 4 and ctx.attempt < 3:
        raise ValueError("not yet")
    if number % 3 == 2:
        return [emit("priced", n=number), emit("late", n=1, after="3s")]
    return emit("priced", n=number)


PLAYERS: dict[str, Callable[..., Any]] = {"price": price, "tally": tally, "audit": audit, "sums": sums}

Step = tuple[str, int]
steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 30)),
        st.tuples(st.just("many"), st.integers(1, 6)),
        st.tuples(st.just("wait"), st.integers(1, 5)),
        st.tuples(st.sampled_from(["close", "crash"]), st.just(0)),
    ),
    min_size=1,
    max_size=12,
)
COPIED: dict[str, Any] = {"before": steps, "after": steps, "cut": st.floats(0, 1)}
UNCHANGED: dict[str, Any] = {"history": steps, "since": st.floats(0, 1)}
CHANGED: dict[str, Any] = {**UNCHANGED, "odd": st.integers(0, 3)}
PROMOTED: dict[str, Any] = {**CHANGED, "more": steps}
quick = settings(deadline=None, max_examples=some(60), suppress_health_check=[HealthCheck.too_slow])


class Played:
    """A store in memory that is played by a clock."""

    def __init__(self, name: str | None = None, at: int = 0) -> None:
        self.url = f"memory:{name or f'history-{next(_numbers)}'}"
        self.clock = ManualClock()
        self.clock.advance(seconds=at)
        self.band: ensemble.Band | None = None

    def play(self, history: Sequence[Step], players: Any = None) -> None:
        for what, number in history:
            band = self._open(players)
            if what == "say":
                band.publish("ordered", {"n": number}, key=f"k{number % 3}")
            elif what == "many":
                band.publish_many([{"n": 10 * number + each} for each in range(number)], topic="ordered")
            elif what == "wait":
                self.clock.advance(seconds=number)
            else:
                self.leave(crash=what == "crash")
        self._open(players)
        self.leave()

    def _open(self, players: Any) -> ensemble.Band:
        if self.band is None:
            self.band = ensemble.open(SCORE, store=self.url, players=players or PLAYERS, clock=self.clock)
        self.band.settle()
        return self.band

    def leave(self, *, crash: bool = False) -> None:
        assert self.band is not None
        if crash:  # nothing is written any more: no positions, no snapshot
            self.clock.leave(self.band._stage._play_due)  # type: ignore[attr-defined]
            store = memory.memory_store(self.url.partition(":")[2])
            assert store is not None
            store.writer = None
        else:
            self.band.close()
        self.band = None


def end(url: str) -> int:
    with ensemble.read(url) as reader:
        return reader._shards[0].log.end().offset


def told(url: str) -> list[Any]:
    """What was said, by topic, key and data, without what a log's id makes different."""
    with ensemble.read(url) as reader:
        return [
            (event.topic, event.key, {k: v for k, v in event.data.items() if k not in ("of", "token", "traceback")}, event.time)
            for pattern in (">", "_band.>")
            for event in reader.events(pattern)
        ]


def tables(url: str) -> Any:
    with ensemble.read(url) as reader:
        state = recover(reader._shards[0].log)
    return {name: dict(section.table) for name, section in state.sections.items()}


def folded(url: str) -> tuple[State, State]:
    """What a log adds up to from its first frame on, and from its snapshot on."""
    with ensemble.read(url) as reader:
        log = reader._shards[0].log
        state = State()
        for frame in log.frames():
            state.apply(frame)
        return state, recover(log)


@quick
@given(**COPIED)
def test_a_take_is_what_a_full_copy_would_be(before: list[Step], after: list[Step], cut: float) -> None:
    main = Played()
    main.play(before)
    made = takes.new(main.url, "take", round(cut * end(main.url)))
    copy = Played(at=1000)
    copied = memory.make_memory_store(copy.url.partition(":")[2], "copy", "shop")
    original = memory.memory_store(main.url.partition(":")[2])
    assert original is not None
    with ensemble.read(f"{main.url}#take") as reader:
        count = reader._shards[0].log.end().seq
    copied.id, of, to = original.id, original.held, copied.held
    to.data, to.ends = of.data[:count], of.ends[: count + 1]
    to.filled = [seq for seq in of.filled if seq < count]
    to.firsts = of.firsts[: len(to.filled)]
    take = Played(f"{main.url.partition(':')[2]}#take", at=1000)
    whole = told(main.url)

    take.play(after)
    copy.play(after)

    assert made.offset <= end(main.url)
    assert told(take.url) == told(copy.url)
    assert tables(take.url) == tables(copy.url)
    assert told(main.url) == whole
    fresh, kept = folded(take.url)
    assert fresh == kept


@quick
@given(**UNCHANGED)
@example(history=[("say", 4), ("say", 14), ("say", 2), ("say", 1), ("wait", 3)], since=0.0)  # parked keys come in their order
def test_unchanged_code_over_unchanged_events_differs_in_nothing(history: list[Step], since: float) -> None:
    main = Played()
    main.play(history)

    made = replay(SCORE, round(since * end(main.url)), store=main.url, calls=PLAYERS)

    assert not made.difference and made.take is None and not made.unsteady


def changed(odd: int) -> Any:
    def call(event: Event, ctx: Any) -> Any:
        if event.data["n"] % 4 == odd:
            return None if odd == 3 else emit("priced", n=1000)
        return price(event, ctx)

    return call


@quick
@given(**CHANGED)
def test_a_replay_of_changed_code_is_followed_by_one_that_differs_in_nothing(
    history: list[Step], since: float, odd: int
) -> None:
    main = Played()
    main.play(history)
    before = told(main.url)
    calls = {**PLAYERS, "price": changed(odd)}
    place = round(since * end(main.url))

    made = replay(SCORE, place, store=main.url, calls=calls)

    assert told(main.url) == before
    if made.take is None:
        return
    fresh, kept = folded(f"{main.url}#{made.take}")
    assert fresh == kept
    again = replay(SCORE, place, store=f"{main.url}#{made.take}", calls=calls)
    assert not again.difference, again.difference.events


@quick
@given(**PROMOTED)
def test_a_promotion_loses_no_event_and_makes_the_tables_right_or_changes_nothing(
    history: list[Step], since: float, odd: int, more: list[Step]
) -> None:
    main = Played()
    main.play(history)
    made = replay(SCORE, round(since * end(main.url)), store=main.url, calls={**PLAYERS, "price": changed(odd)})
    if made.take is None:
        return
    main.play(more)
    ids = list_of_ids(main.url)
    before, right = tables(main.url), {(each.player, each.key): each.now for each in made.difference.tables}

    try:
        promote(main.url, made.take)
    except Unavailable:
        assert (list_of_ids(main.url), tables(main.url)) == (ids, before)
        return

    assert list_of_ids(main.url)[: len(ids)] == ids
    with ensemble.read(main.url) as reader:
        for (player, key), state in right.items():
            assert reader.table(player).get(key) == state
    fresh, kept = folded(main.url)
    assert fresh == kept


def list_of_ids(url: str) -> list[str]:
    with ensemble.read(url) as reader:
        log = reader._shards[0].log
        return [frame.rows.id(ix) for frame in log.rows() if frame.rows is not None for ix in range(len(frame.rows))]


PROPERTIES: list[tuple[Any, dict[str, Any]]] = [
    (test_a_take_is_what_a_full_copy_would_be, COPIED),
    (test_unchanged_code_over_unchanged_events_differs_in_nothing, UNCHANGED),
    (test_a_replay_of_changed_code_is_followed_by_one_that_differs_in_nothing, CHANGED),
    (test_a_promotion_loses_no_event_and_makes_the_tables_right_or_changes_nothing, PROMOTED),
]


@pytest.mark.everywhere("the same as those before it, with more histories")
@pytest.mark.patience(600)
@pytest.mark.parametrize(("test", "histories"), PROPERTIES, ids=[test.__name__ for test, _ in PROPERTIES])
def test_it_holds_for_many_histories(test: Any, histories: dict[str, Any]) -> None:
    settings(quick, max_examples=500)(given(**histories)(test.hypothesis.inner_test))()


def test_a_replay_that_did_not_reuse_the_recorded_times_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Record._batch

    def by_another_clock(self: Any, *given: Any) -> Any:
        heard = plain(self, *given)
        heard.batch.began_us += 1
        return heard

    main = Played()
    main.play([("say", 1)])
    monkeypatch.setattr(Record, "_batch", by_another_clock)

    assert replay(SCORE, 0, store=main.url, calls=PLAYERS).difference
