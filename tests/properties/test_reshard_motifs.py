"""Motifs of several events outlive a store's being divided anew: random motifs and histories, held against the slow oracle.

A history is said in some shards. Between two of its frames the store is divided anew, again and again. What was heard in all is
what there is to hear in the whole history: each match once, of the same events, under the same labels, at the same moment.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

from ensemble.broker import Broker, Opening, Publication, Said, State
from ensemble.broker.carrying import Carrying
from ensemble.broker.matching import Matcher, listening
from ensemble.broker.matching.runs import Run
from ensemble.broker.outbox import shard_of
from ensemble.broker.words import Motive
from ensemble.event import Event, Frame, decode, encode
from ensemble.log import division, read_log
from ensemble.log.directory import open_directory
from ensemble.motif import Motif, leaves
from ensemble.motif import document as written
from ensemble.resharding import reshard
from tests.broker.matching.histories import MINUTE, documents, frames, histories, read
from tests.broker.matching.oracle import Heard, heard
from tests.broker.matching.oracle import Said as Word
from tests.effort import some
from tests.log.log_samples import Quick
from tests.properties.test_reshard import IN_MEMORY

LATER = 60 * MINUTE
TOPIC = "_band.motif.m"


class Shard:
    """A shard without a stage: what it decides is its log at once."""

    def __init__(self, number: int, count: int, log_id: str, log: Sequence[Frame] = ()) -> None:
        self.number, self.count, self.log_id = number, count, log_id
        self.log = list(log)
        self.broker: Broker = None  # type: ignore[assignment]

    def open(self, motives: Mapping[str, Motive], now_us: int, steps: int = 1000) -> None:
        """Begin to play, from the frames; a motif that trails catches up so many steps far."""
        state = State()
        for frame in self.log:
            state.apply(frame)
        self.broker = Broker(
            state, log_id=self.log_id, name="test", shard=self.number, shards=self.count, listeners={}, policies={}
        )
        self.keep(self.broker.open(Opening(motives=motives), now_us, lambda patterns, offset: 0, self.rows))
        while (offset := self.broker.listening.behind()) is not None and steps:
            steps -= 1
            self.keep(self.broker.catch_up(self.rows(offset), now_us))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        return (frame for frame in list(self.log) if frame.rows is not None and frame.end > offset)

    def keep(self, frame: Frame | None) -> None:
        if frame is not None:
            self.log.append(frame)

    def events(self) -> Iterator[Event]:
        for frame in self.rows():
            assert frame.rows is not None
            yield from (frame.rows.event(ix) for ix in range(len(frame.rows)))


class Band:
    """A band of some shards that listens for motifs."""

    def __init__(self, count: int, motives: Mapping[str, Motive]) -> None:
        self.motives = motives
        self.shards = [Shard(number, count, f"log{number}") for number in range(count)]
        self.open(0)

    def open(self, now_us: int, steps: int = 1000) -> None:
        for shard in self.shards:
            shard.open(self.motives, now_us, steps)

    def say(self, words: Sequence[Word]) -> None:
        for shard in self.shards:
            ours = [word for word in words if shard_of(word.key, shard.count) == shard.number]
            if ours:
                topics = list(dict.fromkeys(word.topic for word in ours))
                said = Said(
                    topics, [topics.index(word.topic) for word in ours], [word.key for word in ours],
                    [encode({**word.data, "at": word.at}) for word in ours],
                )  # fmt: skip
                shard.keep(shard.broker.publish([Publication(said, "/test")], ours[0].time_us)[0])

    def wake(self, now_us: int) -> None:
        for shard in self.shards:
            while (due_us := shard.broker.due_us()) is not None and due_us <= now_us:
                frame = shard.broker.fire(due_us)
                if frame is None and shard.broker.due_us() == due_us:
                    break
                shard.keep(frame)

    def divide(self, into: int, now_us: int, steps: int = 1000) -> None:
        """Divide the band's store anew, and play it on."""
        if into == len(self.shards):
            into = into % 4 + 1
        store = Path(tempfile.mkdtemp(prefix="ensemble-", dir=IN_MEMORY))
        try:
            for shard in self.shards:
                folder = division.place(store, shard.number, shard.count)
                kept = open_directory(folder, name="test", log_id=shard.log_id, shard=shard.number, files=Quick())
                kept.append([kept.seal(frame) for frame in shard.log])
                kept.close()
            reshard(str(store), into, Quick())
            self.shards = []
            for number in range(into):
                log = read_log(str(store), number)
                self.shards.append(Shard(number, into, log.id, list(log.frames())))
                snapshot, state = log.snapshot(), State()
                for frame in self.shards[-1].log:
                    state.apply(frame)
                assert snapshot is not None
                assert State.load(snapshot.state) == state, "the snapshot is what the frames add up to"
                log.close()
        finally:
            shutil.rmtree(store)
        self.open(now_us, steps)

    def heard(self) -> list[Heard]:
        """The matches in all logs, their events by their numbers in the history."""
        told = []
        for shard in self.shards:
            numbers: dict[int, int] = {}
            for event in shard.events():
                parts = event._rows.parts(event._ix)
                if not parts:
                    numbers[event.offset] = decode(event.payload).get("at", -1)
                    continue
                assert shard_of(event.key, shard.count) == shard.number
                labels = decode(event.payload).get("labels", {})
                named = {
                    label: tuple(sorted(numbers[each] for each in at)) if isinstance(at, list) else (numbers[at],)
                    for label, at in labels.items()
                }
                own_us = event._rows.extra(event._ix, "time_us")
                at_us = event._rows.time_us if own_us is None else own_us
                made_of = tuple(sorted(numbers[part] for part in parts))
                told.append(Heard(event.key, at_us, made_of, tuple(sorted(named.items()))))
        return sorted(told)


def composite(document: Any) -> Motif:
    """A motif whose matches have events of one key."""
    document.pop("by", None)
    try:
        motif = read(document)
        read(written(motif))  # some are not taken in the form in which they are kept
    except ValueError:
        assume(False)
        raise
    assume(leaves(motif) is None)
    return motif


def check(document: Any, history: list[Word], shards: int, divided: Mapping[int, int], sleeps: set[int]) -> None:
    motif = composite(document)
    band = Band(shards, {"m": Motive(motif, TOPIC)})

    for number, words in enumerate(frames(history)):
        if number not in sleeps:  # else what falls due comes with these events
            band.wake(words[0].time_us)
        if number in divided:
            band.divide(divided[number], words[0].time_us)
        band.say(words)
    now_us = (history[-1].time_us if history else 0) + LATER
    band.divide(divided.get(-1, 1), now_us)
    band.wake(now_us)

    assert band.heard() == sorted(heard(motif, history, now_us))


CHECKS = settings(max_examples=some(200), deadline=None, suppress_health_check=list(HealthCheck))
DIVIDED = st.dictionaries(st.integers(-1, 9), st.integers(1, 4), max_size=3)


@pytest.mark.patience(300)
@CHECKS
@given(documents(), histories(), st.integers(1, 3), DIVIDED, st.sets(st.integers(0, 9)))
def test_each_match_is_heard_once_however_often_the_store_is_divided_anew(
    document: Any, history: list[Word], shards: int, divided: Mapping[int, int], sleeps: set[int]
) -> None:
    check(document, history, shards, divided, sleeps)


@pytest.mark.patience(300)
@settings(CHECKS, max_examples=some(60))
@given(documents(), histories(), st.integers(2, 4), st.integers(0, 4), st.integers(0, 9))
def test_a_motif_that_has_not_come_to_the_end_of_an_undivided_store_goes_on_where_it_was_in_each_shard(
    document: Any, history: list[Word], into: int, steps: int, begun: int
) -> None:
    check_trailing(document, history, into, steps, begun)


def check_trailing(document: Any, history: list[Word], into: int, steps: int, begun: int) -> None:
    motif = composite(document)
    band = Band(1, {})
    words = frames(history)
    now_us = (history[-1].time_us if history else 0) + LATER
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "CAUGHT_UP_MOST", 1)  # a frame a step
        for number, each in enumerate(words):
            if number == begun:
                band.motives = {"m": Motive(motif, TOPIC)}
                band.open(each[0].time_us, steps)
            band.say(each)
        band.motives = {"m": Motive(motif, TOPIC)}
        band.open(now_us, steps)

        band.divide(into, now_us)
    band.wake(now_us)

    assert band.heard() == sorted(heard(motif, history, now_us))


def test_a_motif_by_something_else_than_the_key_goes_on_in_one_shard_with_what_each_of_several_had() -> None:
    motif = read({"seq": ["A", "B"], "by": "card"})
    keys = [next(f"k-{n}" for n in range(99) if shard_of(f"k-{n}", 3) == shard) for shard in range(3)]
    band = Band(3, {"m": Motive(motif, TOPIC)})
    band.say([Word(0, MINUTE, "A", keys[0], {"card": 7})])
    band.say([Word(1, 2 * MINUTE, "A", keys[1], {"card": 7}), Word(2, 2 * MINUTE, "A", keys[1], {"card": 8})])
    assert band.heard() == []

    band.divide(1, 3 * MINUTE)
    band.say([Word(3, 4 * MINUTE, "B", keys[2], {"card": 7}), Word(4, 4 * MINUTE, "B", keys[2], {"card": 7})])
    band.say([Word(5, 5 * MINUTE, "B", keys[0], {"card": 8})])

    assert band.heard() == [Heard("7", 4 * MINUTE, (0, 3), ()), Heard("8", 5 * MINUTE, (2, 5), ())]


# Planted bugs

Patch = pytest.MonkeyPatch


def forgets_partial_matches(patch: Patch) -> None:
    patch.setattr(Matcher, "take_over", lambda self, key, runs: None)


def forgets_what_lies_inside(patch: Patch) -> None:
    """The runs of inner patterns keep their old offsets."""

    def move(self: Run, lies: Callable[[int], int], named: Any) -> None:
        width = self.node.width
        self.took = [lies(each // width) * width + each % width for each in self.took]
        self.offset, self.root = lies(self.offset), named(self.root)

    patch.setattr(Run, "move", move)


def keeps_old_places(patch: Patch) -> None:
    original = Carrying._match

    def match(self: Carrying, shard: int, home: int, extra: dict[str, Any], data: bytes) -> bytes:
        before = extra["causes"]
        made = original(self, shard, home, extra, data)
        extra["causes"] = before
        return made

    patch.setattr(Carrying, "_match", match)


def keeps_old_labels(patch: Patch) -> None:
    patch.setattr("ensemble.broker.carrying.moved_labels", lambda labels, lies: dict(labels))


def begins_anew(patch: Patch) -> None:
    """Events that a match has used are heard again."""
    patch.setattr(Carrying, "reached", lambda self, shard, milestone, home: 0)


PLANTED = settings(
    CHECKS, max_examples=2000, database=None, derandomize=True, phases=[Phase.generate], report_multiple_bugs=False
)


@pytest.mark.patience(300)
@pytest.mark.parametrize("bug", [forgets_partial_matches, forgets_what_lies_inside, keeps_old_places, keeps_old_labels])
def test_a_planted_bug_is_found(bug: Callable[[Patch], None], monkeypatch: Patch) -> None:
    bug(monkeypatch)
    found = settings(PLANTED)(
        given(documents(), histories(), st.integers(1, 3), DIVIDED, st.sets(st.integers(0, 9)))(check)
    )

    with pytest.raises((AssertionError, KeyError)):
        found()


def test_a_planted_bug_in_where_a_motif_goes_on_is_found(monkeypatch: Patch) -> None:
    begins_anew(monkeypatch)
    ways = given(documents(), histories(), st.integers(2, 4), st.integers(0, 4), st.integers(0, 9))

    with pytest.raises((AssertionError, KeyError)):
        settings(PLANTED)(ways(check_trailing))()
