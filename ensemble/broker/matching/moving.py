"""The partial matches of a band's motifs, carried over into another number of shards.

Owns how the motifs of the old shards are brought to where they were, and what each new shard begins from: the mark `motif` with
its partial matches. All events of a match have one key, and so one shard, before and after; where `by:` makes a match of
several keys that holds in one shard only.

Invariant, for a motif and a key k:  the partial matches of k  =  those that its old shard had, and nobody else has them
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ensemble.broker.matching.listening import Ear, Listening
from ensemble.broker.matching.matcher import Matcher
from ensemble.broker.matching.pattern import Pattern
from ensemble.broker.matching.reorder import Reordered
from ensemble.broker.matching.runs import Run
from ensemble.broker.outbox import shard_of
from ensemble.broker.state import MotifState, State
from ensemble.broker.words import Motive
from ensemble.errors import Unavailable
from ensemble.event import Frame, Ref, encode
from ensemble.motif import Motif

Rows = Callable[[int], Iterable[Frame]]
"""The frames of a log that hold events, from an offset on."""


class Moving:
    """The motifs of some shards on their way into `shards` others.

    Shapes: `rows` and `log_ids` are the old shards' logs. `read` makes a motif of what a score writes. `wanted` are the motifs
            that the score listens for; None: all that are known.
    Errors: Unavailable where they can't be carried over.
    """

    def __init__(
        self,
        states: Sequence[State],
        log_ids: Sequence[str],
        rows: Sequence[Rows],
        read: Callable[[Any], Motif],
        shards: int,
        wanted: Iterable[str] | None = None,
    ) -> None:
        self._states, self._log_ids, self._shards = states, log_ids, shards
        self.known: dict[str, MotifState] = {}
        for state in states:
            for name, motif in state.motifs.items():
                self.known.setdefault(name, motif)
        self._motives = {name: Motive(read(motif.document), motif.topic) for name, motif in self.known.items()}
        self._played = {name for name in self.known if (name in wanted if wanted is not None else self._is_live_anywhere(name))}
        self._check()
        said = frozenset(motive.topic for name, motive in self._motives.items() if name in self._played)
        self._patterns = {name: Pattern(each.motif, each.topic, said) for name, each in self._motives.items()}
        self._heard = [self._brought(shard, rows[shard]) for shard in range(len(states))]

    def _is_live_anywhere(self, name: str) -> bool:
        return any(name in state.motifs and state.motifs[name].is_live for state in self._states)

    def _check(self) -> None:
        for name, motif in self.known.items():
            by = getattr(self._motives[name].motif, "by", None)
            if by is not None and self._shards > 1:
                raise Unavailable(
                    f"the motif {motif.topic} is listened for by {by}: a match of it has events of several keys, which would "
                    "lie in several shards; such a store can be divided into one shard only"
                )
            if name in self._played and len(self._states) > 1 and not all(self._has_heard(s, name) for s in self._states):
                raise Unavailable(
                    f"the motif {motif.topic} has not heard what is in each of the shards yet; play the band until it has "
                    "(it is settled then), and divide the store after that"
                )

    def _has_heard(self, state: State, name: str) -> bool:
        """Whether a motif hears each frame of an old shard as it is made; one in which nothing was ever said says nothing."""
        motif = state.motifs.get(name)
        return state.end == 0 if motif is None else motif.is_live and motif.document == self.known[name].document

    def _brought(self, shard: int, rows: Rows) -> dict[str, Ear]:
        """The motifs of an old shard as they were when it was left."""
        state, ears = self._states[shard], {}
        for is_played in (True, False):  # those that nobody listens for any more are unknown to the others
            motives = {
                name: motive
                for name, motive in self._motives.items()
                if name in state.motifs and (name in self._played) == is_played
            }
            listening = Listening(state, self._log_ids[shard], shard, "")
            listening.want(motives, rows, state.end)
            ears.update({name: listening.ear(name) for name in motives})
        return ears

    def live(self) -> dict[str, Motive]:
        """Those that hear each frame as it is made."""
        return {
            name: motive
            for name, motive in self._motives.items()
            if name in self._played and all(s.motifs[name].is_live for s in self._states if name in s.motifs)
        }

    def wanted(self, shard: int) -> Iterator[int]:
        """The offsets in an old shard of which it has to be known where they come to lie."""
        for ear in self._heard[shard].values():
            for _, runs in _matcher(ear).by_key():
                for run in runs:
                    yield from run.offsets()
            if isinstance(ear.matcher, Reordered):
                yield from (offset for _, offset, *_ in ear.matcher.waiting)

    def positions(self, shard: int) -> Iterator[int]:
        """Where the motifs go on in an old shard that do not hear each frame as it is made."""
        return (motif.position for motif in self._states[shard].motifs.values() if not motif.is_live)

    def marks(
        self, ends: Sequence[int], lies: Callable[[int, int], tuple[int, int]], reached: Callable[[int, int, int], int]
    ) -> Iterator[dict[str, Any]]:
        """What each new shard begins from, in the order of the shards.

        `ends` are the new shards' ends; `lies` tells the new shard and offset of what lay in an old shard at an offset;
        `reached` how many of a new shard's events lay before an old shard's offset, in the order in which they came.
        """
        marks: list[dict[str, Any]] = [{} for _ in range(self._shards)]
        live = self.live()
        for name, motif in self.known.items():
            matchers = self._divided(name, lies)
            for home, matcher in enumerate(matchers):
                is_live, position = name in live, ends[home]
                if not is_live:
                    position = max(
                        reached(shard, _place(state, name), home)
                        for shard, state in enumerate(self._states)
                        if name in state.motifs
                    )
                told, told_late = self._told(name) if home == 0 else (0, 0)
                partial = encode([told, told_late, matcher.dump()])
                marks[home][name] = [motif.document, motif.topic, position, is_live, partial]
        return ({"motif": each} if each else {} for each in marks)

    def _told(self, name: str) -> tuple[int, int]:
        ears = [heard[name] for heard in self._heard if name in heard]
        return sum(ear.told for ear in ears), sum(ear.told_late for ear in ears)

    def _divided(self, name: str, lies: Callable[[int, int], tuple[int, int]]) -> list[Matcher | Reordered]:
        """The matchers of a motif in the new shards."""
        pattern = self._patterns[name]
        made: list[Matcher | Reordered] = [
            Reordered(pattern) if pattern.how.time == "event" else Matcher(pattern) for _ in range(self._shards)
        ]
        groups: list[tuple[int, int, str, Sequence[Run]]] = []
        for shard, heard in enumerate(self._heard):
            if name not in heard:
                continue
            ear, named = heard[name], _naming(self._log_ids[shard])
            for key, runs in _matcher(ear).by_key():
                home = shard_of(key, self._shards)
                for run in runs:
                    run.move(lambda offset, shard=shard, home=home: _at_home(lies(shard, offset), home), named)  # type: ignore[misc]
                groups.append((runs[0].offset, home, key, runs))
            _inner(made[0]).given_up += _matcher(ear).given_up
            if isinstance(ear.matcher, Reordered):
                self._divide_waiting(ear.matcher, shard, made, lies)
        for _, home, key, runs in sorted(groups, key=lambda each: each[0]):
            _inner(made[home]).take_over(key, runs)
        return made

    def _divide_waiting(
        self, old: Reordered, shard: int, made: Sequence[Matcher | Reordered], lies: Callable[[int, int], tuple[int, int]]
    ) -> None:
        named = _naming(self._log_ids[shard])
        for home, new in enumerate(made):
            assert isinstance(new, Reordered)
            theirs = [each for each in old.waiting if shard_of(each[3], self._shards) == home]
            new.take_over(
                [(each[0], lies(shard, each[1])[1], *each[2:5], named(each[5]), each[6]) for each in theirs],
                old.high_us,
                old.late if home == 0 else 0,
            )


def moved_labels(labels: Mapping[str, Any], lies: Callable[[int], int]) -> dict[str, Any]:
    """The labels of a match, as its data has them, where its events lie elsewhere."""
    return {label: [lies(each) for each in at] if isinstance(at, list) else lies(at) for label, at in labels.items()}


def _place(state: State, name: str) -> int:
    """The offset up to which a motif has heard an old shard."""
    return state.end if state.motifs[name].is_live else state.motifs[name].position


def _matcher(ear: Ear) -> Matcher:
    return _inner(ear.matcher)


def _inner(matcher: Matcher | Reordered) -> Matcher:
    return matcher.matcher if isinstance(matcher, Reordered) else matcher


def _at_home(place: tuple[int, int], home: int) -> int:
    assert place[0] == home, "what has one key lies in one shard"
    return place[1]


def _naming(log_id: str) -> Callable[[Ref], Ref]:
    return lambda ref: ref if isinstance(ref, str) else f"{log_id}-{ref}"
