"""Replays, differences and promotions of stores in several shards: as of one."""

from __future__ import annotations

from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import ensemble
from ensemble import Event, emit, takes
from ensemble.broker.state import State
from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import Frame
from ensemble.log import open_log, pending
from ensemble.log.directory import DirectoryLog
from ensemble.log.objects.log import let_go
from ensemble.log.own import own_at
from ensemble.replay import difference_of, promote, promoting, replay
from ensemble.replay.following import Following
from ensemble.replay.identities import Identities
from ensemble.replay.together import Together
from ensemble.stage.begin import recover
from tests.effort import some
from tests.replay.sharded import PLAYERS, SCORE, STEPS, Sharded, Step, ids, price, tables

_numbers = count(1)
quick = settings(deadline=None, max_examples=some(15), suppress_health_check=list(HealthCheck))
PLAYED: dict[str, Any] = {"history": STEPS, "shards": st.sampled_from([2, 3])}
CHANGED: dict[str, Any] = {**PLAYED, "odd": st.integers(0, 3)}
ALL: list[Step] = [
    *(
        step
        for number in range(16)
        for step in (("say", number, f"k{number % 5}"), ("work", number % 3, 2), ("wait", number % 2))
    ),
    ("send", 21, "k4", 0), ("wait", 4), ("settle",),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sharded")


@pytest.fixture
def store(folder: Path) -> str:
    """A store in three shards, in which all was heard."""
    return made_of(folder, 3, ALL)


def made_of(folder: Path, shards: int, *histories: list[Step], kind: str = "") -> str:
    made = Sharded(f"{kind}{folder}/store-{next(_numbers)}", shards)
    for steps in histories:
        made.play(steps)
    made.close()
    return made.url


def kept(found: dict[str, dict[str, bytes]]) -> dict[str, dict[str, bytes]]:
    """The tables that have anything."""
    return {name: table for name, table in found.items() if table}


def changed(odd: int) -> Any:
    def call(event: Event, ctx: Any) -> Any:
        number = event.data["n"]
        if number % 4 == odd:
            return None if odd == 3 else emit("priced", n=1000 + number, to="k0", key="k1")
        return price(event, ctx)

    return call


def check_folds(url: str) -> None:
    with ensemble.read(url) as reader:
        for shard in reader._shards:
            state = State()
            for frame in shard.log.frames():
                state.apply(frame)
            assert state == recover(shard.log)


@quick
@given(**PLAYED)
def test_unchanged_code_over_unchanged_events_differs_in_nothing(folder: Path, history: list[Step], shards: int) -> None:
    made = replay(SCORE, 0, store=made_of(folder, shards, history), calls=PLAYERS)

    assert not made.difference, made.difference.events
    assert made.take is None and not made.unsteady
    assert made.difference.same == made.events


@quick
@given(**CHANGED)
def test_a_replay_of_changed_code_is_followed_by_one_that_differs_in_nothing(
    folder: Path, history: list[Step], shards: int, odd: int
) -> None:
    store = made_of(folder, shards, history)
    before = ids(store)
    calls = {**PLAYERS, "price": changed(odd)}

    made = replay(SCORE, 0, store=store, calls=calls)

    assert ids(store) == before
    if made.take is not None:
        check_folds(f"{store}#{made.take}")
        again = replay(SCORE, 0, store=f"{store}#{made.take}", calls=calls)
        assert not again.difference, again.difference.events


@quick
@given(**CHANGED)
def test_a_promotion_makes_all_tables_right_and_loses_no_event(
    folder: Path, history: list[Step], shards: int, odd: int
) -> None:
    store = made_of(folder, shards, history)
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(odd)})
    if made.take is None or not made.difference:
        return
    before, right = ids(store), tables(f"{store}#{made.take}")

    done = promote(store, made.take)

    assert [each for each in ids(store) if each in set(before)] == before
    assert kept(tables(store)) == kept(right)
    assert (done.corrections, done.states) == (len(made.difference.events), len(made.difference.tables))
    check_folds(store)


PROPERTIES: list[tuple[Any, dict[str, Any]]] = [
    (test_unchanged_code_over_unchanged_events_differs_in_nothing, PLAYED),
    (test_a_replay_of_changed_code_is_followed_by_one_that_differs_in_nothing, CHANGED),
    (test_a_promotion_makes_all_tables_right_and_loses_no_event, CHANGED),
]


@pytest.mark.everywhere("the same as those before it, with more histories")
@pytest.mark.patience(900)
@pytest.mark.parametrize(("test", "histories"), PROPERTIES, ids=[test.__name__ for test, _ in PROPERTIES])
def test_it_holds_for_many_histories(folder: Path, test: Any, histories: dict[str, Any]) -> None:
    settings(quick, max_examples=300)(given(**histories)(test.hypothesis.inner_test))(folder=folder)


def test_what_differs_is_told_over_all_shards_and_again_by_take_diff(store: str) -> None:
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(0)})

    assert made.take is not None and made.shards == 3
    counts = made.difference.counts()
    assert counts["price"]["different"] >= 4
    shards = {event.shard for each in made.difference.events for event in (each.was, each.now) if event is not None}
    assert len(shards) == 3
    assert difference_of(store, "main", made.take).counts() == counts
    with ensemble.read(store, take=made.take) as reader:
        told = [event for event in reader.events("priced") if event.data["n"] >= 1000]
    assert {event.data["n"] for event in told} >= {1000, 1004, 1008, 1012}


def test_a_replay_begins_at_a_time_or_an_event_in_all_shards_and_at_no_offset(store: str) -> None:
    with ensemble.read(store) as reader:
        middle = list(reader.events("ordered"))[8]

    for since in (middle.id, middle.written_at):
        made = replay(SCORE, since, store=store, calls=PLAYERS)
        assert not made and 0 < made.events < len(ids(store))
    with pytest.raises(OffsetError, match=r"it has 3 shards, each with offsets of its own; name a time"):
        replay(SCORE, 4, store=store, calls=PLAYERS)


def test_only_some_players_play_anew_and_what_others_said_goes_its_ways_again(store: str) -> None:
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "audit": lambda event, ctx: None}, players=["audit"])

    assert made.take is not None
    assert not made.difference.events
    assert {each.player for each in made.difference.tables} == {"audit"}
    promote(store, made.take)
    assert not tables(store)["audit"]


def test_a_promotion_is_in_all_shards_or_in_none_whenever_it_ends(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(1)})
    assert made.take is not None
    before, was, right = ids(store), tables(store), tables(f"{store}#{made.take}")
    plain, left = DirectoryLog.append, 0

    def append(self: DirectoryLog, sealed: Any) -> None:
        nonlocal left
        left -= 1
        if left < 0 and sealed:
            raise Unavailable("the machine stops here")
        plain(self, sealed)

    def put(*given: Any) -> None:
        raise Unavailable("the machine stops here")

    with monkeypatch.context() as patch:
        patch.setattr(pending, "decide", put)
        with pytest.raises(Unavailable, match="stops here"):
            promote(store, made.take)
    assert (ids(store), tables(store)) == (before, was)

    monkeypatch.setattr(DirectoryLog, "append", append)
    left = 1  # the first shard has it, and no other
    with pytest.raises(Unavailable, match="stops here; the promotion holds all the same: each shard gets its part when"):
        promote(store, made.take)
    left = 1000
    with pytest.raises(Unavailable, match="was promoted already"):  # by who opened it next
        promote(store, made.take)

    assert tables(store) == right
    assert len(ids(store)) == len(before) + len(made.difference.events)
    check_folds(store)
    takes.drop(store, made.take)


def test_a_promotion_whose_file_can_not_be_removed_is_done(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(1)})
    assert made.take is not None

    def clear(*given: Any) -> None:
        raise Unavailable("it can't be removed")

    monkeypatch.setattr(pending, "clear", clear)
    done = promote(store, made.take)

    assert done.corrections == len(made.difference.events)
    assert tables(store) == tables(f"{store}#{made.take}")


def test_what_somebody_has_taken_over_and_played_on_meanwhile_is_not_corrected(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made_of(folder, 3, ALL, kind="objects:")
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(1)})
    assert made.take is not None
    append = promoting._append

    def late(place: str, logs: Any, frames: Any) -> None:
        let_go(f"{place}/generation-0/1")  # as of another process
        with closing(open_log(store, name="shop", shard=1, shards=3)) as other:
            end = other.end()
            other.append([other.seal(Frame(end.offset, end.time_us + 1, None, {}))])
        append(place, logs, frames)

    monkeypatch.setattr(promoting, "_append", late)
    with pytest.raises(Unavailable, match=r"its shard 1 was opened by somebody else meanwhile, and nothing was changed"):
        promote(store, made.take)
    for shard in range(3):
        open_log(store, name="shop", shard=shard, shards=3).close()

    with ensemble.read(store) as reader:
        assert not list(reader.events("_band.corrected"))


@pytest.mark.parametrize("done", [0, 1, 3])
@pytest.mark.parametrize("kind", ["", "objects:"], ids=["directory", "objects"])
def test_who_opens_a_shard_of_any_store_next_appends_its_part(
    folder: Path, kind: str, done: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = made_of(folder, 3, ALL, kind=kind)
    made = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(1)})
    assert made.take is not None
    right = tables(f"{store}#{made.take}")

    def append(place: str, logs: Any, frames: Any) -> None:
        pending.decide(own_at(place).board(), logs, frames)
        for log, each in list(zip(logs, frames, strict=True))[:done]:
            log.append([log.seal(frame) for frame in each])
        raise Unavailable("the machine stops here")

    with monkeypatch.context() as patch:
        patch.setattr("ensemble.replay.promoting._append", append)
        with pytest.raises(Unavailable, match="stops here"):
            promote(store, made.take)
    for _ in range(2):  # what is there already is not appended once more
        for shard in range(3):
            open_log(store, name="shop", shard=shard, shards=3).close()

    assert tables(store) == right
    with ensemble.read(store) as reader:
        assert len(list(reader.events("_band.corrected"))) == len(made.difference.events)
    play_on = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": changed(2)})
    assert play_on.take is not None
    promote(store, play_on.take)
    assert tables(store) == tables(f"{store}#{play_on.take}")


def test_what_shards_are_to_get_and_can_not_be_read_is_said(store: str) -> None:
    (Path(store) / pending.PENDING).write_bytes(b"\x92\x07\x90")

    with pytest.raises(LogCorrupt, match="this should be what the shards are to get"):
        open_log(store, name="shop", shard=1, shards=3)


# Planted bugs


def early(self: Together, a: int, b: int, end: int) -> Any:
    """All that was sent arrives at once."""
    box = self._shards[a].broker.state.outbox.get(b)
    return unbrought(self, a, b, end if box is None else box.next)


unbrought = Together._unbrought


@pytest.mark.parametrize(
    ("place", "name", "bug"),
    [
        (Identities, "keep_of_parcels", lambda self, parcels, then: list(parcels)),
        (Following, "_forward_again", lambda self, name, offsets, now_us: None),
        (Together, "_unbrought", early),
        (Following, "_was_late", lambda self, due_us: False),
    ],
    ids=["parcels keep no ids", "nothing is sent away again", "all arrives at once", "timers are never late"],
)
def test_a_bug_that_is_planted_is_found(store: str, monkeypatch: pytest.MonkeyPatch, place: Any, name: str, bug: Any) -> None:
    def is_as_it_was() -> bool:
        calls = {**PLAYERS, "audit": lambda event, ctx: None}
        made = replay(SCORE, 0, store=store, calls=calls, players=["audit"], take=f"take-{next(_numbers)}")
        with ensemble.read(store) as main, ensemble.read(store, take=made.take) as take:
            then, now = ({event.id for event in each.events()} for each in (main, take))
        return not made.difference.events and now == then

    assert is_as_it_was()
    monkeypatch.setattr(place, name, bug)

    assert not is_as_it_was()

