"""A shard that listens for motifs: what it records is what is to be heard, each match once, wherever it crashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from ensemble.broker import Broker, Opening, Publication, Said, State
from ensemble.broker.matching import listening
from ensemble.broker.words import Motive
from ensemble.event import Frame, encode
from ensemble.motif import Motif, leaves
from tests.broker.matching.histories import MINUTE, documents, frames, hear, histories, read
from tests.broker.matching.oracle import Heard
from tests.broker.matching.oracle import Said as Word
from tests.effort import some

NO_CHECKS = list(HealthCheck)
LATER = 60 * MINUTE


class Shard:
    """A shard without a stage: what it decides is its log at once."""

    def __init__(self, motives: dict[str, Motive]) -> None:
        self.log: list[Frame] = []
        self.motives = motives
        self._snapshot: tuple[bytes, int] | None = None
        self.open(0)

    def open(self, now_us: int, steps: int = 1000) -> None:
        """Begin to play, from the snapshot and the frames since; a motif that trails catches up so many steps far."""
        state, number = State(), 0
        if self._snapshot is not None:
            data, number = self._snapshot
            state = State.load(data)
        for frame in self.log[number:]:
            state.apply(frame)
        self.broker = Broker(state, log_id="test", name="test", listeners={}, policies={})
        self._keep(self.broker.open(Opening(motives=self.motives), now_us, lambda patterns, offset: 0, self.rows))
        while (offset := self.broker.listening.behind()) is not None and steps:
            steps -= 1
            self._keep(self.broker.catch_up(self.rows(offset), now_us))

    def rows(self, offset: int = 0) -> Iterator[Frame]:
        return (frame for frame in list(self.log) if frame.rows is not None and frame.end > offset)

    def say(self, words: Sequence[Word]) -> None:
        topics = list(dict.fromkeys(word.topic for word in words))
        data = [encode(word.data) for word in words]
        said = Said(topics, [topics.index(word.topic) for word in words], [word.key for word in words], data)
        self._keep(self.broker.publish([Publication(said, "/test")], words[0].time_us)[0])

    def wake(self, now_us: int) -> None:
        """Let what is due by now come, each at its own moment, as a stage that sleeps in between does."""
        while (due_us := self.broker.due_us()) is not None and due_us <= now_us:
            frame = self.broker.fire(due_us)
            if frame is None and self.broker.due_us() == due_us:
                break
            self._keep(frame)

    def save(self) -> None:
        self._snapshot = self.broker.dump(), len(self.log)

    def _keep(self, frame: Frame | None) -> None:
        if frame is not None:
            self.log.append(frame)

    def heard(self) -> list[Heard]:
        """The matches in the log, their events by number."""
        numbers: dict[int, int] = {}
        told = []
        for frame in self.log:
            for ix in range(frame.count):
                assert frame.rows is not None
                parts = frame.rows.parts(ix)
                if parts:
                    own_us = frame.rows.extra(ix, "time_us")
                    at_us = frame.time_us if own_us is None else own_us
                    told.append(Heard(frame.rows.keys[ix], at_us, tuple(numbers[part] for part in parts), ()))
                else:
                    numbers[frame.first + ix] = len(numbers)
        return told


def told(motif: Motif, history: list[Word], now_us: int) -> list[Heard]:
    return sorted(each._replace(labels=()) for each in hear(motif, history, now_us))


def composite(document: Any) -> Motif:
    try:
        motif = read(document)
    except ValueError:
        assume(False)
        raise
    assume(leaves(motif) is None)
    return motif


def test_a_timer_is_set_again_after_nothing_was_due_for_a_while() -> None:
    """What was due falls away when its part is complete; the next part sets a later moment."""
    motif = read({"all": [{"every": "1m", "of": "A"}, {"seq": ["B", "C"], "within": "1m"}]})
    history = [Word(at, minute * MINUTE, topic, "k", {}) for at, (topic, minute) in enumerate([("B", 0), ("C", 0), ("A", 1)])]
    shard = Shard({"m": Motive(motif, "_band.motif.m")})

    for words in frames(history):
        shard.wake(words[0].time_us)
        shard.say(words)
    shard.wake(LATER)

    assert sorted(shard.heard()) == told(motif, history, LATER) != []


@settings(max_examples=some(250), deadline=None, suppress_health_check=NO_CHECKS)
@given(documents(), histories(), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9)))
def test_each_match_is_recorded_once_wherever_it_crashes(
    document: Any, history: list[Word], saves: set[int], crashes: set[int], sleeps: set[int]
) -> None:
    motif = composite(document)
    shard = Shard({"m": Motive(motif, "_band.motif.m")})

    for number, words in enumerate(frames(history)):
        if number in saves:
            shard.save()
        if number in crashes:
            shard.open(words[0].time_us)
        if number not in sleeps:  # else what falls due comes with these events
            shard.wake(words[0].time_us)
        shard.say(words)
    now_us = (history[-1].time_us if history else 0) + LATER
    shard.open(now_us)
    shard.wake(now_us)

    assert sorted(shard.heard()) == told(motif, history, now_us)


@settings(max_examples=some(150), deadline=None, suppress_health_check=NO_CHECKS)
@given(documents(), histories(), st.integers(0, 9), st.sets(st.integers(0, 9)))
def test_a_motif_that_comes_late_or_was_away_hears_what_it_would_have_heard(
    document: Any, history: list[Word], joins: int, away: set[int]
) -> None:
    motif = composite(document)
    motives = {"m": Motive(motif, "_band.motif.m")}
    shard = Shard({})

    for number, words in enumerate(frames(history)):
        shard.motives = motives if number >= joins and number not in away else {}
        shard.open(words[0].time_us)
        shard.say(words)
    now_us = (history[-1].time_us if history else 0) + LATER
    shard.motives = motives
    shard.open(now_us)
    shard.wake(now_us)

    assert sorted(shard.heard()) == told(motif, history, now_us)


@settings(max_examples=some(150), deadline=None, suppress_health_check=NO_CHECKS)
@given(documents(), histories(), st.lists(st.integers(0, 4), max_size=5), st.integers(0, 5))
def test_a_motif_that_is_stopped_while_it_catches_up_goes_on_where_it_was(
    document: Any, history: list[Word], steps: list[int], saved: int
) -> None:
    motif = composite(document)
    shard = Shard({})
    for words in frames(history):
        shard.say(words)
    now_us = (history[-1].time_us if history else 0) + LATER
    shard.motives = {"m": Motive(motif, "_band.motif.m")}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listening, "CAUGHT_UP_MOST", 1)  # a frame a step
        for number, count in enumerate([*steps, 1000]):
            shard.open(now_us, count)
            if number == saved:
                shard.save()
    shard.wake(now_us)

    assert sorted(shard.heard()) == told(motif, history, now_us)
