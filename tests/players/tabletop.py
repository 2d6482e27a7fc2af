"""A band on a table top: plays a score's players by calling them, in an order of keys drawn by chance, with no engine.

It keeps the engine's promise, a lane's events one at a time and in order, and nothing more: which lane comes next is
`random`'s choice. So it finds what a player owes to an order that is not promised. Topic patterns only, no `where`.
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

from ensemble import Event, testing
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
        self.hears = None if hears is Event else hears

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


class TableTop:
    def __init__(self, score: Path, settings: Mapping[str, Mapping[str, Any]], random: Random) -> None:
        # All scalars as text: to YAML 1.1 the key `on` would be true.
        spec = yaml.load(score.read_text(encoding="utf-8"), yaml.BaseLoader)
        self._keys = {topic: about.get("key") for topic, about in spec["events"].items()}
        self._types = {about["type"].split(":")[1]: topic for topic, about in spec["events"].items() if "type" in about}
        self._seats = {name: Seat(player, settings.get(name, {})) for name, player in spec["players"].items()}
        self._tables: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        self._queues: dict[tuple[str, str], deque[Event]] = {}
        self._random = random
        self.log: list[Event] = []

    def say(self, topic: str, data: Any, key: str | None = None) -> None:
        path = self._keys.get(topic)
        data = msgspec.to_builtins(data)
        key = data[path] if path else (key or "")
        said = testing.event(topic, data, key=key, offset=len(self.log))
        self.log.append(said)
        for name, seat in self._seats.items():
            if any(matches(pattern, topic) for pattern in seat.on):
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
