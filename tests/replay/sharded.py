"""Bands in several shards, played without Ray and by a clock that is moved by hand: their frames make a store to be replayed.

What happens is told step by step: who publishes, which shard works, which parcels arrive, who crashes. So what was on its way,
and what was heard in which order, differs from history to history, and is the same each time that one is played.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

import ensemble
from ensemble import Event, Reject, emit
from ensemble.broker import Batch, Opening
from ensemble.broker.outbox import shard_of
from ensemble.evolution import recorded
from ensemble.listening import listener, policy
from ensemble.log import open_log
from ensemble.ready import ready
from ensemble.replay.playing import Playing
from ensemble.score.vocabulary import Vocabulary
from ensemble.stage.begin import recover
from tests.broker.several import Shards, words

KEYS = ("k0", "k1", "k2", "k3", "k4")
SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {
        "price": {"on": "ordered", "emits": ["priced", "late"], "retry": {"attempts": 3, "first": "1s", "jitter": 0}},
        "tally": {"on": ["priced", "late"], "by": "data.to", "emits": ["tallied"], "section": {"batch": 3}},
        "audit": {"on": ["ordered", "tallied", "late"], "order": "all"},
        "sums": {"on": "priced", "order": "none", "emits": ["summed"], "section": {"batch": 4}},
        "held": {"on": "ordered", "on_failure": "hold", "retry": {"attempts": 1}},
    },
}


def to(number: int) -> str:
    return KEYS[number % len(KEYS)]


def price(event: Event, ctx: Any) -> Any:
    number = event.data["n"]
    if number % 7 == 6:
        raise Reject("never")
    if number % 5 == 4 and ctx.attempt < 3:
        raise ValueError("not yet")
    priced = emit("priced", n=number, to=to(number // 2), key=to(number // 3))
    if number % 3 == 2:
        return [priced, emit("late", n=1, to=to(number), key=to(number + 1), after="3s"), emit("late", n=2, to=event.key)]
    return priced


def tally(event: Event, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]
    return emit("tallied", sum=ctx.state["sum"], now=ctx.now.isoformat(), token=ctx.token, of=event.id)


def audit(event: Event, ctx: Any) -> None:
    ctx.state["seen"] = [*ctx.state.get("seen", []), event.topic][-5:]


def sums(events: list[Event]) -> Any:
    return [emit("summed", count=len(events), sum=sum(event.data["n"] for event in events))]


def held(event: Event, ctx: Any) -> None:
    if event.data["n"] == 13:
        raise Reject("thirteen")
    ctx.state["n"] = ctx.state.get("n", 0) + 1


PLAYERS: dict[str, Callable[..., Any]] = {"price": price, "tally": tally, "audit": audit, "sums": sums, "held": held}

Step = tuple[Any, ...]
SHARD = st.integers(0, 2)
STEPS: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.integers(0, 30), st.sampled_from(KEYS)),
        st.tuples(st.just("send"), st.integers(0, 30), st.sampled_from(KEYS), SHARD),
        st.tuples(st.just("work"), SHARD, st.integers(1, 4)),
        st.tuples(st.just("work"), SHARD, st.integers(1, 4)),
        st.tuples(st.just("bring"), SHARD, SHARD, st.integers(1, 3)),
        st.tuples(st.just("wait"), st.integers(1, 4)),
        st.tuples(st.just("crash"), SHARD),
        st.tuples(st.just("settle")),
    ),
    min_size=1,
    max_size=25,
)


class Sharded:
    """A store in so many shards that is being made."""

    def __init__(self, url: Path | str, shards: int, players: Mapping[str, Callable[..., Any]] = PLAYERS) -> None:
        self.url = str(url)
        prepared = ready(SCORE, dict(players), is_live=False)
        score, vocabulary = prepared.score, Vocabulary(prepared.score)
        self.playing = Playing(prepared.players)
        self.band = Shards(
            shards,
            {name: listener(spec) for name, spec in score.players.items()},
            {name: policy(spec, vocabulary) for name, spec in score.players.items()},
            overlapping=["tally"],
            opening=Opening(score=recorded(score, vocabulary)),
        )
        self.written = [0] * shards

    def play(self, steps: Sequence[Step]) -> None:
        """Play on, and write it."""
        band = self.band
        for what, *given in steps:
            if what == "say":
                number, key = given
                band.publish(shard_of(key, band.count), words(("ordered", key, {"n": number})))
            elif what == "send":  # as a source does, which speaks in one shard whatever the key
                number, key, shard = given
                band.publish(shard % band.count, words(("ordered", key, {"n": number}), ids={0: f"id-{number}-{key}"}))
            elif what == "work":
                self._work(given[0] % band.count, given[1])
            elif what == "bring":
                self._bring(given[0] % band.count, given[1] % band.count, given[2])
            elif what == "wait":
                band.now += 1_000_000 * given[0]
            elif what == "crash":
                self._crash(given[0] % band.count)
            else:
                band.settle(self._hear)
        self.write()

    def _crash(self, shard: int) -> None:
        self.band.crash(shard)

    def _work(self, shard: int, most: int) -> None:
        band = self.band
        band.flush(shard)
        band.look(shard)
        for name in band.hears:
            band.forward(shard, name, most)
            batch = band.take(shard, name, most)
            if batch is not None:
                self._hear(shard, batch)
        band.fire(shard)
        band.flush(shard)

    def _hear(self, shard: int, batch: Batch) -> None:
        band = self.band
        events = band.events(shard, batch)
        refs = [event._rows.ref(event._ix) for event in events]
        roots = [event._rows.root(event._ix) for event in events]
        for outcome in self.playing.hear(batch, events, refs, roots, band.brokers[shard].state):
            band.keep(shard, band.brokers[shard].hear(outcome, band.now))
        band.flush(shard)

    def _bring(self, here: int, there: int, most: int) -> None:
        band = self.band
        parcels = band.sendable(here, there)
        if here != there and parcels:
            first = max(min(parcels), band.brokers[there].state.inbox.get(here, 0))
            some = [parcels[number] for number in parcels if number >= first][:most]
            sender = band.brokers[here]
            band.deliver(here, there, first, some, lambda number: sender.arrived(there, number))
            band.flush(there)

    def write(self) -> None:
        """Have all that was decided in the store."""
        for shard, log in enumerate(self.band.logs):
            self.band.flush(shard)
            frames = log.frames[self.written[shard] :]
            kept = open_log(
                self.url, name="shop", durability="memory", id=self.band.log_ids[shard], shard=shard, shards=self.band.count
            )
            with closing(kept):
                kept.append([kept.seal(frame) for frame in frames])
            self.written[shard] = len(log.frames)

    def close(self) -> None:
        self.playing.close()


def ids(url: str) -> list[str]:
    """Of all events there are, in all shards."""
    with ensemble.read(url) as reader:
        frames = [frame for shard in reader._shards for frame in shard.log.rows()]
        return [id_ for frame in frames if frame.rows is not None for id_ in frame.rows.ids()]


def tables(url: str) -> dict[str, dict[str, bytes]]:
    with ensemble.read(url) as reader:
        states = [recover(shard.log) for shard in reader._shards]
    found: dict[str, dict[str, bytes]] = {}
    for state in states:
        for name, section in state.sections.items():
            found.setdefault(name, {}).update(section.table)
    return found
