"""Players: made ready once, built for each instance.

Owns what is known of a player's code: how it is called, which words it may say, how its data is read.
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import Any

import msgspec

from ensemble import whereabouts
from ensemble.broker.failure import one_line
from ensemble.broker.words import Outcome
from ensemble.errors import PlayerError
from ensemble.event import Emission, decode
from ensemble.motif import matches, pattern_fault
from ensemble.player.codec import StateCodec
from ensemble.player.hearing import Hearing, Misfit
from ensemble.player.work import Work
from ensemble.score.callable import Shape, shape
from ensemble.score.lifts import Lifts
from ensemble.score.model import PlayerSpec
from ensemble.score.vocabulary import Vocabulary


class Word(msgspec.Struct, gc=False):
    """A topic that a player may say, made ready."""

    ix: int
    check: Callable[[Any], None] | None
    key: Callable[[Any], str] | None
    tried: int = 0
    """How often what was said was looked at key by key."""


class Player:
    """A player made ready to be built: its callable, its shape, and the words that it may say."""

    def __init__(self, spec: PlayerSpec, call: Any, vocabulary: Vocabulary, *, is_live: bool = True) -> None:
        self.spec = spec
        self.is_live = is_live
        """Whether what it does outside counts."""
        self.name = spec.name
        self.call = call
        self.shape: Shape = shape(call)
        self.log = logging.getLogger(f"ensemble.player.{spec.name}")
        self.codec = StateCodec(spec.name, vocabulary.state(spec.name))
        self.lookups = {name: StateCodec(name, vocabulary.state(name)) for name in spec.reads}
        self.topics: list[str] = []
        self.versions: dict[str, int] = {}
        """Topic that it may say -> the version in which it says it, where that is not 1."""
        self.lifts = Lifts(vocabulary)
        """What brings events to the versions that its score asks for."""
        self._vocabulary = vocabulary
        self._words: dict[str, Word] = {}
        self._lock = threading.Lock()
        self._by_type: dict[type, str] = {}
        for topic in spec.emits:
            said = vocabulary.word(topic).type if "*" not in topic and ">" not in topic else None
            if said is not None:
                self._by_type[said] = topic
        self.decode: Callable[[bytes], Any] | None = _decoder(self.shape.hears) if self.shape.hears else None

    def word(self, topic: str) -> Word:
        """The word for a topic. PlayerError if the player has not declared it."""
        word = self._words.get(topic)
        return word or self._new_word(topic)

    def _new_word(self, topic: str) -> Word:
        with self._lock:  # several instances may come to a topic at a time
            word = self._words.get(topic)
            if word is not None:
                return word
            if not any(matches(pattern, topic) for pattern in self.spec.emits):
                declared = ", ".join(self.spec.emits) or "nothing"
                raise PlayerError(f"player {self.name} said {topic!r}, but its score lets it say {declared}; add it to emits:")
            fault = pattern_fault(topic, wildcards=False)
            if fault is not None:
                raise PlayerError(f"player {self.name} said {topic!r:.80}: {fault[0]:.200}; {fault[1]}")
            known = self._vocabulary.word(topic)
            self.topics.append(topic)
            if known.version != 1:
                self.versions[topic] = known.version
            word = self._words[topic] = Word(len(self.topics) - 1, known.check, known.key)
            return word

    def emission(self, answer: Any) -> Emission:
        """What a player gave, as an emission. PlayerError if it is none."""
        if isinstance(answer, Emission):
            return answer
        topic = self._by_type.get(type(answer))
        if topic is None and isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], str):
            return Emission(answer[0], answer[1])
        if topic is None and _is_data(answer) and len(self.spec.emits) == 1:
            topic = self.spec.emits[0]
        if topic is None:
            raise PlayerError(
                f"player {self.name} answered {_shown(answer)}, which is no event; "
                "answer with emit(topic, ...), a list of these, or None"
            )
        return Emission(topic, answer)

    def build(self) -> Instance:
        """One more instance. PlayerError if its class can't be built."""
        return Instance(self)


class Instance:
    """One running instance of a player; hears one batch at a time, unless it is asynchronous."""

    def __init__(self, player: Player) -> None:
        self.player = player
        self.settings: dict[str, Any] = deepcopy(dict(player.spec.settings))
        """Its own: what it makes of them is not what the score says."""
        settings = self.settings
        if player.shape.kind == "class":
            try:
                self.call: Callable[..., Any] = player.call(**settings)
            except Exception as error:
                place = whereabouts.of_error(error)
                raise PlayerError(
                    f"player {player.name} can't be built: {player.spec.play or player.call!r} raised {one_line(error)}"
                    + (f" at {place}" if place else "")
                ) from error
        else:
            self.call = partial(player.call, **settings) if settings else player.call

    def hear(self, work: Work) -> Outcome:
        return Hearing(self, work).hear()

    def close(self) -> None:
        """Let the instance free what it holds. What `close` raises is logged."""
        close = getattr(self.call, "close", None) if self.player.shape.kind == "class" else None
        if close is None:
            return
        try:
            close()
        except Exception:
            self.player.log.exception("player %s: close() failed", self.player.name)


def _decoder(hears: Any) -> Callable[[bytes], Any]:
    """Decode and check in one pass. Misfit where data is not of the type; its cause names what does not fit."""
    read: Callable[[bytes], Any]
    if hasattr(hears, "model_validate"):

        def read_model(payload: bytes) -> Any:
            return hears.model_validate(decode(payload))

        read = read_model
    else:
        read = msgspec.msgpack.Decoder(hears).decode

    def fitting(payload: bytes) -> Any:
        try:
            return read(payload)
        except (msgspec.ValidationError, ValueError) as error:  # pydantic's ValidationError is a ValueError
            raise Misfit from error

    return fitting


def _is_data(answer: Any) -> bool:
    """Whether this can be an event's data, without a topic."""
    return isinstance(answer, (Mapping, msgspec.Struct)) or dataclasses.is_dataclass(answer) or hasattr(answer, "model_dump")


def _shown(answer: Any) -> str:
    text = repr(answer)
    return text if len(text) <= 80 else text[:77] + "..."
