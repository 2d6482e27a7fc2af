"""Small shards and sections to test the broker with, and the frames that its log would hold."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

from ensemble.broker import Batch, Broker, Failure, Listener, Opening, Outcome, Policy, Publication, Said, Section, State
from ensemble.broker.state import Patterns, SectionState
from ensemble.event import Frame, Rows, encode
from ensemble.score.model import RetryPolicy

ONCE = Policy(RetryPolicy(attempts=1))


def rows(first: int, keys: str | Sequence[str], topic: str = "said", data: Sequence[Any] | None = None) -> Rows:
    """Events of one topic; each letter of a text is a key."""
    payloads = [encode(None)] * len(keys) if data is None else [encode(each) for each in data]
    return Rows("log", 0, first, 1, [topic], 0, list(keys), payloads, ["/test"], 0)


def said(keys: str, topic: str = "said", **ids: str) -> Said:
    """Events to publish; `ids` gives the id of a row: `r0="a"`."""
    extras = {int(row[1:]): {"id": id_} for row, id_ in ids.items()}
    return Said([topic], 0, list(keys), [encode(None)] * len(keys), extras=extras or None)


def section(
    *looked: Rows, order: Literal["key", "none", "all"] = "key", overlapping: bool = True, topics: str = "said"
) -> Section:
    """A section that has looked at these events."""
    made = Section("play", SectionState(), Listener([(topics, None)], order=order), overlapping=overlapping)
    for each in looked:
        made.look(each, each.first + len(each))
    return made


def taken(section: Section, limit: int = 100) -> list[int]:
    """The offsets that are handed out now."""
    batch = section.take(limit, 0)
    return [] if batch is None else list(batch.offsets)


class Shard:
    """A broker with one section, `play`, which hears `said`, and the frames that it decided."""

    def __init__(
        self,
        policy: Policy = ONCE,
        frames: Sequence[Frame] = (),
        since: Callable[[Patterns, int], int] = lambda patterns, offset: 0,
        **opening: Any,
    ) -> None:
        state = State()
        for frame in frames:
            state.apply(frame)
        self.broker = Broker(
            state,
            log_id="log",
            name="band",
            listeners={"play": Listener([("said", None)])},
            policies={"play": policy},
        )
        self.frames = list(frames)
        self.keep(self.broker.open(Opening(**opening), 1, since))

    def keep(self, frame: Frame | None) -> Frame | None:
        if frame is not None:
            self.frames.append(frame)
        return frame

    def publish(self, words: Said, now_us: int = 1) -> Sequence[int]:
        frame, offsets = self.broker.publish([Publication(words, "/test")], now_us)
        self.keep(frame)
        return list(offsets[0])

    def take(self, now_us: int = 1, limit: int = 100) -> Batch:
        section = self.broker.sections["play"]
        for frame in self.frames:
            if frame.rows is not None and section.next < frame.end:
                section.look(frame.rows, frame.end)
        section.wake(now_us)
        batch = section.take(limit, now_us)
        assert batch is not None
        return batch

    def hear(self, batch: Batch, now_us: int = 1, *, fails: Sequence[int] = (), **more: Any) -> Frame | None:
        """Have a batch come back: all of it heard, but for the offsets in `fails`."""
        failures = [
            Failure(offset, lane, lane, "said", offset, offset, "E: no", "trace")
            for offset, lane in zip(batch.offsets, batch.keys, strict=True)
            if offset in fails
        ]
        heard = [offset for offset in batch.offsets if offset not in fails]
        more.setdefault("said", None)
        outcome = Outcome("play", len(batch), batch.keys, heard, began_us=now_us, failures=failures, **more)
        return self.keep(self.broker.hear(outcome, now_us))
