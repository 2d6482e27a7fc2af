"""The band: a score being played, as its user holds it.

Owns the public face of what plays. Must not know how a stage plays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec

from ensemble.broker.state import State
from ensemble.errors import InvalidEvent
from ensemble.event import Receipt, decode
from ensemble.reader import FOLLOW_S, Reader
from ensemble.score.model import Score
from ensemble.stage.door import Door, store_folder
from ensemble.stage.inbox import Reply
from ensemble.stage.inlet import Inlet
from ensemble.stage.solo import Solo
from ensemble.status import SectionStatus, Status

CHUNK = 500
"""How many events `publish_many` sends at a time."""
CHUNK_BYTES = 4 << 20


class Table(Mapping[str, Any]):
    """A player's state by key, as of each look. What is seen is durable."""

    def __init__(self, name: str, ask: Callable[[Callable[[], Any]], Any], table: dict[str, bytes]) -> None:
        self.name = name
        self._ask = ask
        self._table = table

    def __getitem__(self, key: str) -> Any:
        return decode(self._ask(lambda: self._table[key]))

    def __iter__(self) -> Iterator[str]:
        return iter(self._ask(lambda: list(self._table)))

    def __len__(self) -> int:
        return int(self._ask(lambda: len(self._table)))

    def items(self) -> Any:
        """All of it at one moment."""
        return {key: decode(value) for key, value in self._ask(lambda: dict(self._table)).items()}.items()

    def values(self) -> Any:
        return dict(self.items()).values()

    def __repr__(self) -> str:
        return f"Table({self.name!r}, {dict(self.items())!r})"


class Band(Reader):
    """A score being played. Made by `ensemble.open`; any thread may use it."""

    def __init__(self, score: Score, stage: Solo, inlet: Inlet, url: str, notes: Sequence[str]) -> None:
        super().__init__(stage.log, url)
        self.score = score
        self._stage = stage
        self._inlet = inlet
        self._noted = tuple(notes)
        self._closed = False
        self._door: Any = None

    def publish(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
        wait: bool = True,
    ) -> Receipt:
        """Say one event; returns once it is durable.

        Shapes: the same `id` within the dedupe window is the same event and gives the same receipt.
        Errors: InvalidEvent, and nothing is written; Overloaded if too much waits and `wait` is False; Unavailable.
        """
        batch = self._inlet.batch()
        batch.add(topic, data, key=key, id=id, time=time)
        offset = self._stage.publish(self._inlet.publication(batch), wait=wait).wait()[0]
        return Receipt(id or f"{self.id}-{offset}", 0, offset)

    def publish_many(self, items: Iterable[Any], *, topic: str | None = None, wait: bool = True) -> int:
        """Say many events, in batches; returns how many, once all are durable.

        Shapes: each item is the data alone where `topic` is given, else a mapping with topic, data, key, id, time, or a
                CloudEvent.
        Errors: as `publish`; those before the one that is wrong are said, and the error says how many.
        """
        count = 0
        replies: list[Reply] = []
        batch = self._inlet.batch(topic)
        try:
            for item in items:
                batch.add_item(item)
                if len(batch) >= CHUNK or batch.size > CHUNK_BYTES:
                    replies.append(self._stage.publish(self._inlet.publication(batch), wait=wait))
                    count += len(batch)
                    batch = self._inlet.batch(topic)
                    while len(replies) > 8:
                        replies.pop(0).wait()
        except InvalidEvent as error:
            said = count + len(batch)
            self._finish(batch, replies, wait)
            raise InvalidEvent(f"item {said + 1}: {error} ({said} before it were published)") from error
        count += len(batch)
        self._finish(batch, replies, wait)
        return count

    def _finish(self, batch: Any, replies: list[Reply], wait: bool) -> None:
        if len(batch):
            replies.append(self._stage.publish(self._inlet.publication(batch), wait=wait))
        for reply in replies:
            reply.wait()

    def settle(self, timeout: float | None = None) -> None:
        """Wait until nothing is left to react to: sources that end have ended, all is heard, no retry is pending.

        Held events, timers and `every:` sources are not waited for. Under a manual clock: play all that is due now.
        Units:  `timeout` in seconds.
        Errors: TimeoutError, which says what is left; Unavailable; what a source raised.
        """
        try:
            self._stage.settle(timeout)
        except TimeoutError:
            raise TimeoutError(f"band {self.name} did not settle in {timeout} s: {self._left()}") from None

    def _left(self) -> str:
        status = self.status()
        left = [
            f"{name} has {section.lag} to hear" + (f", {section.waiting} of them between attempts" * bool(section.waiting))
            for name, section in status.sections.items()
            if section.lag - section.held > 0
        ]
        left += [f"source {name} is not done" for name, source in status.sources.items() if not source.done]
        return "; ".join(left) or "events are on their way"

    def table(self, name: str) -> Mapping[str, Any]:
        sections = self._stage.broker.state.sections
        if name not in sections:
            raise KeyError(f"no player {name!r} in this band; there are {', '.join(sections) or 'none'}")
        return Table(name, self._ask, sections[name].table)

    def retry_dead(self, player: str | None = None, id: str | None = None) -> int:
        """Have dead letters heard again, their attempts counted anew: all, those of a player, or one. How many.

        Errors: KeyError if there is no such player.
        """
        broker = self._stage.broker
        if player is not None and player not in broker.state.sections:
            raise KeyError(f"no player {player!r} in this band; there are {', '.join(broker.state.sections)}")
        wanted = None if id is None else self.event(id).offset

        def again() -> int:
            count = 0
            for name, section in broker.state.sections.items():
                offsets = [offset for offset in section.dead if wanted in (None, offset)]
                if offsets and player in (None, name):
                    self._stage.seal(broker.again(name, offsets, self._stage.now_us()))
                    count += len(offsets)
            return count

        return int(self._ask(again))

    def status(self) -> Status:
        return self._ask(self._status_now)  # type: ignore[no-any-return]

    def _status_now(self) -> Status:
        stage, state = self._stage, self._stage.broker.state
        sections = {}
        for name, section in state.sections.items():
            seat = stage.broker.sections.get(name)
            sections[name] = SectionStatus(
                lag=stage.broker.lag(name) if seat is not None else len(section.open),
                heard=section.heard,
                emitted=section.emitted,
                failed=section.failed,
                dead=len(section.dead),
                instances=stage.seats[name].workers.count if seat is not None else 0,
                waiting=seat.waiting if seat is not None else len(section.attempts),
                held=len(section.held),
            )
        totals: dict[str, int | None] = dict.fromkeys(state.places)
        totals.update(stage.totals())
        return self._status(state, sections, totals)

    def _notes(self) -> tuple[str, ...]:
        return self._noted

    def _follow(self, offset: int) -> bool:
        return self._stage.wait_beyond(offset, FOLLOW_S)

    def _ask(self, question: Callable[[], Any]) -> Any:
        return question() if self._closed else self._stage.ask(question)

    def _state(self) -> State:
        self._ask(lambda: None)
        return self._stage.broker.state

    def close(self) -> None:
        """Finish what is in flight; the rest is heard when the band is opened again."""
        if self._closed:
            return
        if self._door is not None:
            self._door.close()
        self._stage.close()
        self._closed = True

    def _open_door(self) -> None:
        """Let other processes speak to this band."""
        folder = store_folder(self.url)
        if folder is not None:
            self._door = Door(
                folder,
                {
                    "publish": lambda **given: msgspec.structs.astuple(self.publish(**given)),
                    "publish_many": self.publish_many,
                    "retry_dead": self.retry_dead,
                },
            )
