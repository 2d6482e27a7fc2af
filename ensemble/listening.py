"""What a player's part of the score comes to at the broker: its `on:`, `order:` and `by:`, its `retry:` and `on_failure:`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import msgspec

from ensemble.broker.outbox import forwarded_topic
from ensemble.broker.routing import Listener, crosses
from ensemble.broker.words import Motive, Policy
from ensemble.errors import InvalidEvent
from ensemble.event import Event, Frame, encode
from ensemble.motif import Motif, Topic, alternatives, document, leaves, matches, parse, walk
from ensemble.score.condition import condition
from ensemble.score.condition import parse as check_where
from ensemble.score.model import NOW, Emit, PlayerSpec, Score
from ensemble.score.units import duration_us
from ensemble.score.vocabulary import Vocabulary, key_text


def listener(spec: PlayerSpec, shards: int = 1) -> Listener:
    """What a player listens for, made ready. In several shards also what the others send its section."""
    by = None if spec.by is None else _path(spec.by)
    heard: list[tuple[str, Callable[[Event], bool] | None]] = []
    for motif in alternatives(spec.on):
        if isinstance(motif, Topic):
            heard.append((motif.pattern, None if motif.where is None else condition(motif.where)))
        elif (motif_topic(spec.name), None) not in heard:
            heard.append((motif_topic(spec.name), None))
    if shards > 1 and crosses(spec.order, by, [pattern for pattern, _ in heard]):
        heard.append((forwarded_topic(spec.name), None))
    return Listener(heard, order=spec.order, by=by)


def lookups(spec: PlayerSpec) -> dict[str, tuple[str, Callable[[Event], str | None]]]:
    """Field of what a player hears -> whose table the broker looks into for it, and the key of an event there.

    The key is None where nothing stands at the path: what is kept for the empty key is another's.
    """
    return {field: (each.player, _own_key if each.path is None else _text(each.path)) for field, each in spec.enrich.items()}


def motif_topic(player: str) -> str:
    """The topic of the matches of a player's own motif, one that has no name."""
    return f"_band.motif.{player}"


def motives(score: Score, at: Callable[[int], int | None] = lambda us: 0 if us == 0 else None) -> dict[str, Motive]:
    """The motifs of several events that are listened for: those of players, and those with a name that somebody hears.

    A list of several is as many motifs, each under a name of its own, with one topic. `at` tells the offset at which a time
    begins in the log; None: at its end.
    """
    found: dict[str, Motive] = {}
    patterns: list[tuple[str, int]] = []
    """What is heard, and from when on."""
    for name, player in score.players.items():
        own = [motif for motif in alternatives(player.on) if not isinstance(motif, Topic)]
        _add(found, motif_topic(name), own, at(player.from_us))
        patterns += [(motif.pattern, player.from_us) for motif in alternatives(player.on) if isinstance(motif, Topic)]
        patterns += [(leaf.pattern, player.from_us) for motif in own for leaf in walk(motif) if leaf.pattern in score.motifs]
    composite = {name: motif for name, motif in score.motifs.items() if leaves(motif) is None}
    waiting = dict.fromkeys(composite)
    while heard := [name for name in waiting if any(matches(pattern, name) for pattern, _ in patterns)]:
        for name in heard:
            del waiting[name]
            from_us = min(us for pattern, us in patterns if matches(pattern, name))
            parts = alternatives(composite[name])
            if any(isinstance(part, Topic) for part in parts):
                parts = (composite[name],)
            _add(found, name, parts, at(from_us))
            patterns += [(leaf.pattern, from_us) for leaf in walk(composite[name]) if leaf.pattern in composite]
    return found


def motif_reader(known: Iterable[Motive]) -> Callable[[Any], Motif]:
    """What makes a motif of what a log has of it. `known` are those of the score that is played."""
    made = {encode(document(each.motif)): each.motif for each in known}

    def read(written: Any) -> Motif:
        """ValueError if it can't be read any more."""
        motif = made.get(encode(written))
        return parse(written, duration_us=duration_us, check_where=check_where) if motif is None else motif

    return read


def _add(found: dict[str, Motive], topic: str, parts: Sequence[Motif], begin: int | None) -> None:
    for number, motif in enumerate(parts, 1):
        found[topic if number == 1 else f"{topic}/{number}"] = Motive(motif, topic, begin)


class _Place(Protocol):
    @property
    def offset(self) -> int: ...


class Frames(Protocol):
    """A log, as far as its frames are read."""

    def begin(self) -> _Place: ...

    def rows(self, offset: int = 0) -> Iterator[Frame]: ...


def offset_at(log: Frames, from_us: int) -> int | None:
    """The offset of the first event that is there and was written at a time or later; None: there is none yet."""
    if from_us in (0, NOW):
        return log.begin().offset if from_us == 0 else None
    return next((frame.first for frame in log.rows() if frame.time_us >= from_us), None)


def policy(spec: PlayerSpec, vocabulary: Vocabulary) -> Policy:
    """What becomes of a player's failures, and how long its state is kept, made ready."""
    emit = spec.on_failure
    word = vocabulary.word(emit.topic) if isinstance(emit, Emit) else None
    check, version = (None, 1) if word is None else (word.check, word.version)
    return Policy(spec.retry, emit, check, spec.state.expire_us or 0, version)


def _own_key(event: Event) -> str:
    return event.key


def _path(path: str) -> Callable[[Event], str]:
    """The lane of an event by a path into its data; the empty lane where there is nothing."""
    text = _text(path)
    return lambda event: text(event) or ""


def _text(path: str) -> Callable[[Event], str | None]:
    """What stands at a path into an event's data, written as a key would be; None where there is nothing."""
    names = path.removeprefix("data.").split(".")

    def at(event: Event) -> str | None:
        try:
            value = event.data
        except (msgspec.DecodeError, ValueError, RecursionError, InvalidEvent):  # as if there were nothing: a player's to fail
            return None
        for name in names:
            value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            return None
        text = key_text(value)
        return str(value) if text is None else text

    return at
