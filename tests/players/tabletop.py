"""A band on a table top: plays a score's players by calling them, in an order of keys drawn by chance, with no engine.

It keeps the engine's promise, a lane's events one at a time and in order, and nothing more: which lane comes next is
`random`'s choice. So it finds what a player owes to an order that is not promised. Topic patterns only, no `where`; of
motifs with a name those that are `all:` of several topics, and what others would hear is not played.
"""

from __future__ import annotations

import inspect
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any, get_type_hints

import msgspec
import yaml

from ensemble import Event, Match, testing
from ensemble.event import Emission
from ensemble.motif import matches


def context(state: dict[str, Any] | None = None, **given: Any) -> Any:
    """`ensemble.testing.context`, of a type that fits where a player's annotation wants the engine's own."""
    return testing.context(dict(state or {}), **given)


class Seat:
    """One player of the score: what it hears, in which lane, and how it is called."""

    def __init__(self, spec: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
        self.on: list[str] = [spec["on"]] if isinstance(spec["on"], str) else spec["on"]
        self.by: str | None = spec.get("by")
        self.emits: list[str] = spec.get("emits", [])
        module, name = spec["play"].split(":")
        made: Any = getattr(import_module(module), name)
        self.call: Any = made(**settings) if inspect.isclass(made) else made
        self.settings = {} if inspect.isclass(made) else settings
        call: Any = made.__call__ if inspect.isclass(made) else made
        hears = next((hint for name, hint in get_type_hints(call).items() if name not in ("ctx", "return")), Event)
        self.hears = None if hears in (Event, Match) else hears

    def lane(self, heard: Event) -> str:
        return str(heard.data[self.by]) if self.by else heard.key

    def answers(self, heard: Event, ctx: Any) -> Iterable[Any]:
        argument = heard if self.hears is None else msgspec.convert(heard.data, self.hears)
        answer = self.call(argument, ctx, **self.settings)
        if inspect.iscoroutine(answer):
            answer = finish(answer)
        if answer is None:
            return ()
        return answer if isinstance(answer, (list, tuple, Iterator)) else (answer,)


class Both:
    """A motif `all:` of several topics: what each key has of them so far."""

    def __init__(self, name: str, spec: Mapping[str, Any]) -> None:
        parts = [{"event": part} if isinstance(part, str) else part for part in spec["all"]]
        self._name = name
        self._labels: dict[str, str | None] = {part["event"]: part.get("as") for part in parts}
        self._came: defaultdict[str, dict[str, Event]] = defaultdict(dict)

    def hear(self, said: Event) -> Match | None:
        if said.topic not in self._labels:
            return None
        came = self._came[said.key]
        came.setdefault(said.topic, said)
        if len(came) < len(self._labels):
            return None
        del self._came[said.key]
        labels = {label: at for at, topic in enumerate(came) if (label := self._labels[topic])}
        return testing.match(self._name, *came.values(), labels=labels)


class TableTop:
    def __init__(self, score: Path, settings: Mapping[str, Mapping[str, Any]], random: Random) -> None:
        # All scalars as text: to YAML 1.1 the key `on` would be true.
        spec = yaml.load(score.read_text(encoding="utf-8"), yaml.BaseLoader)
        self._keys = {topic: about.get("key") for topic, about in spec["events"].items()}
        self._types = {about["type"].split(":")[1]: topic for topic, about in spec["events"].items() if "type" in about}
        self._seats = {name: Seat(player, settings.get(name, {})) for name, player in spec["players"].items()}
        motifs = spec.get("motifs", {}).items()
        self._motifs = [Both(name, motif) for name, motif in motifs if "all" in motif]
        self._tables: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._queues: dict[tuple[str, str], deque[Event]] = {}
        self._random = random
        self.log: list[Event] = []

    def say(self, topic: str, data: Any, key: str | None = None) -> None:
        path = self._keys.get(topic)
        data = msgspec.to_builtins(data)
        key = data[path] if path else (key or "")
        said = testing.event(topic, data, key=key, offset=len(self.log))
        self._hand_out(said)
        for match in filter(None, [motif.hear(said) for motif in self._motifs]):
            self._hand_out(match)

    def _hand_out(self, said: Event) -> None:
        self.log.append(said)
        for name, seat in self._seats.items():
            if any(matches(pattern, said.topic) for pattern in seat.on):
                self._queues.setdefault((name, seat.lane(said)), deque()).append(said)

    def settle(self) -> None:
        while self._queues:
            lane = self._random.choice(list(self._queues))
            heard = self._queues[lane].popleft()
            if not self._queues[lane]:
                del self._queues[lane]
            self._hear(*lane, heard)

    def _hear(self, name: str, lane: str, heard: Event) -> None:
        seat = self._seats[name]
        ctx = context(self._tables[name].get(lane), token=f"{heard.id}/{name}")
        for answer in list(seat.answers(heard, ctx)):
            if isinstance(answer, Emission):
                topic, data, key = answer.topic, answer.data, answer.key
            else:
                same = [topic for topic in seat.emits if self._types.get(type(answer).__name__) == topic]
                topic, data, key = same[0], answer, None
            assert topic in seat.emits, f"{name} said {topic}, which its score does not let it say"
            self.say(topic, data, key or heard.key)
        state = msgspec.msgpack.decode(msgspec.msgpack.encode(ctx.state))  # only what the broker could keep
        self._tables[name].pop(lane, None)
        if state:
            self._tables[name][lane] = state

    # Read like a band

    def events(self, pattern: str = ">") -> Iterator[Event]:
        return (said for said in self.log if matches(pattern, said.topic))

    def table(self, name: str) -> Mapping[str, dict[str, Any]]:
        return self._tables[name]


def finish(coroutine: Any) -> Any:
    """The result of a coroutine that waits for nothing."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something; the table top plays only what answers at once")
