"""The way in for events from outside: read, checked, keyed and encoded, in the caller's own thread.

Owns what may be published and in which forms; InvalidEvent says what is wrong, before anything is written.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from ensemble.broker.words import Publication, Said
from ensemble.errors import InvalidEvent
from ensemble.event import is_utf8, microseconds
from ensemble.event import payload_of as written
from ensemble.motif import LONGEST_TOPIC, is_pattern, pattern_fault
from ensemble.score.finding import nearest
from ensemble.score.vocabulary import Vocabulary, Word

FIELDS = {"topic", "data", "key", "id", "time"}
LONGEST_KEY = 4096
"""Longest key and id, in characters."""

_read_json = msgspec.json.Decoder().decode


class Inlet:
    """What the score lets in. `source` is the CloudEvents source of what has none of its own; `log_ids` those of the logs."""

    def __init__(self, vocabulary: Vocabulary, source: str, *log_ids: str) -> None:
        self.vocabulary = vocabulary
        self.source = source
        self.log_ids = log_ids
        self.words: dict[str, Word] = {}

    def batch(self, topic: str | None = None) -> InletBatch:
        """Collects events to be published together; where `topic` is given, items are the data alone."""
        return InletBatch(self, topic)

    def publication(self, batch: InletBatch) -> Publication:
        return Publication(batch.said(), self.source)

    def word(self, topic: Any) -> Word:
        word = self.words.get(topic) if isinstance(topic, str) else None
        if word is None:
            check_topic(topic)
            word = self.words[topic] = self.vocabulary.word(topic)
        return word


def check_topic(topic: Any) -> None:
    """InvalidEvent unless events may be published under this topic."""
    if not isinstance(topic, str):
        raise InvalidEvent(f"topic: {topic!r:.80} is not text; write it as order.placed")
    if is_pattern(topic):
        raise InvalidEvent(f"topic: {topic!r:.80} is a pattern; an event has one topic, without '*' and '>'")
    if pattern_fault(topic) is not None:
        raise InvalidEvent(
            f"topic: {topic!r:.80} is not a topic; write tokens of letters, digits, '_' and '-' with single dots between them"
            f", at most {LONGEST_TOPIC} characters"
        )
    if topic.startswith("_band"):
        raise InvalidEvent(f"topic: {topic!r:.80} begins with _band, which only the band itself says; choose another topic")


class InletBatch:
    """Events on their way in, in columns."""

    def __init__(self, inlet: Inlet, topic: str | None) -> None:
        self._inlet = inlet
        self._topic = topic
        self._topics: dict[str, int] = {}
        self._topic_ix: list[int] = []
        self._keys: list[str] = []
        self._data: list[bytes] = []
        self._extras: dict[int, dict[str, Any]] = {}
        self.size = 0
        """Bytes of payload so far."""

    def __len__(self) -> int:
        return len(self._keys)

    def add_item(self, item: Any) -> None:
        """Add an item of `publish_many`: data alone where a topic was given, else an event or a CloudEvent."""
        if self._topic is not None and not (isinstance(item, Mapping) and "specversion" in item):
            self.add(self._topic, item)
        elif not isinstance(item, Mapping):
            raise InvalidEvent(f"an event is a mapping with topic and data; found {type(item).__name__}: {item!r:.80}")
        elif "specversion" in item:
            self._add_cloudevent(item)
        else:
            unknown = item.keys() - FIELDS
            if unknown:
                name = min(map(str, unknown))
                near = nearest(name, FIELDS)
                hint = f"did you mean {near!r}? " if near else ""
                raise InvalidEvent(f"unknown field {name!r}; {hint}an event has topic, data, key, id and time")
            if "topic" not in item:
                raise InvalidEvent('topic is missing; write it as {"topic": "order.placed", "data": ...}')
            self.add(item["topic"], item.get("data"), key=item.get("key"), id=item.get("id"), time=item.get("time"))

    def add_line(self, line: bytes) -> None:
        """Add a line of a file: JSON of what `add_item` takes."""
        try:
            item = _read_json(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidEvent(f"not JSON: {error}; a line is one JSON value, in UTF-8") from error
        except RecursionError as error:
            raise InvalidEvent("nested too deeply; flatten the data") from error
        self.add_item(item)

    def add(
        self,
        topic: str,
        data: Any = None,
        *,
        key: str | None = None,
        id: str | None = None,
        time: datetime | str | None = None,
    ) -> None:
        word = self._inlet.words.get(topic) if type(topic) is str else None
        if word is None:
            word = self._inlet.word(topic)
        if word.check is not None:
            word.check(data)
        if key is None:
            key = "" if word.key is None else word.key(data)
        elif type(key) is not str or len(key) > LONGEST_KEY or not is_utf8(key):
            raise InvalidEvent(f"{topic}: key {key!r:.80} is not text of at most {LONGEST_KEY} characters; write str(...)")
        self.add_raw(topic, key, _payload_of(topic, data))
        if id is not None or time is not None:
            self._add_extra(topic, id, time)

    def _add_extra(self, topic: str, id_: Any, time: Any) -> None:
        extra: dict[str, Any] = {}
        try:
            if id_ is not None:
                if not isinstance(id_, str) or not id_ or len(id_) > LONGEST_KEY or not is_utf8(id_):
                    raise InvalidEvent(f"{topic}: id {id_!r:.80} is not text of 1 to {LONGEST_KEY} characters")
                prefix, dash, number = id_.rpartition("-")
                if dash and prefix in self._inlet.log_ids and number.isdecimal():
                    raise InvalidEvent(f"{topic}: id {id_!r:.80} is one that this band itself gives; choose another")
                extra["id"] = id_
            if time is not None:
                if not isinstance(time, (str, datetime)):
                    raise InvalidEvent(f"{topic}: time {time!r:.80} is not RFC 3339; write it as 2011-11-01T08:16:00Z")
                extra["time_us"] = microseconds(time)
        except InvalidEvent:
            self._drop_last()
            raise
        self._extras[len(self._keys) - 1] = extra

    def _drop_last(self) -> None:
        self._keys.pop(), self._data.pop(), self._topic_ix.pop()

    def _add_cloudevent(self, item: Mapping[str, Any]) -> None:
        """A CloudEvent 1.0 in JSON: type, id and source are its own; subject or partitionkey is its key."""
        if item["specversion"] != "1.0":
            raise InvalidEvent(f"specversion {item['specversion']!r:.80} is not known; this is CloudEvents 1.0")
        for name in ("id", "source", "type"):
            if not isinstance(item.get(name), str) or not item[name] or not is_utf8(item[name]):
                raise InvalidEvent(f"a CloudEvent needs {name} as text that is not empty; found {item.get(name)!r:.80}")
        if "data_base64" in item:
            raise InvalidEvent("data_base64 is not read; give data as JSON")
        key = item.get("partitionkey", item.get("subject"))
        if key is None and self._inlet.word(item["type"]).key is None:
            key = ""
        before = len(self)
        self.add(item["type"], item.get("data"), key=key, id=item["id"], time=item.get("time"))
        extra = self._extras[before]
        for name in ("traceparent", "correlationid", "causationid"):
            value = item.get(name)
            if value is None:
                continue
            if (
                not isinstance(value, str)
                or not is_utf8(value)
                or (name == "traceparent" and not TRACEPARENT.fullmatch(value))
            ):
                self._drop_last()
                del self._extras[before]
                raise InvalidEvent(f"{name} {value!r:.80} is not valid; leave it out, or write it as its standard says")
            extra[name] = value
        extra["source"] = item["source"]

    def add_raw(self, topic: str, key: str, payload: bytes) -> None:
        """Add what is checked and encoded already."""
        self._topic_ix.append(self._topics.setdefault(topic, len(self._topics)))
        self._keys.append(key)
        self._data.append(payload)
        self.size += len(payload)

    def said(self) -> Said:
        """What was collected, as columns."""
        topics = list(self._topics)
        return Said(
            topics,
            0 if len(topics) <= 1 else self._topic_ix,
            self._keys,
            self._data,
            extras=self._extras or None,
            versions=self._versions(topics) if self._inlet.vocabulary.has_versions else None,
        )

    def _versions(self, topics: list[str]) -> dict[str, int] | None:
        versions = {topic: self._inlet.word(topic).version for topic in topics}
        return {topic: version for topic, version in versions.items() if version != 1} or None


TRACEPARENT = re.compile(r"[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def _payload_of(topic: str, data: Any) -> bytes:
    """Data as it goes to the log. InvalidEvent if it can't."""
    try:
        return written(data)
    except (TypeError, OverflowError, ValueError, RecursionError) as error:
        raise InvalidEvent(
            f"{topic}: data can't be written: {error}; use what MessagePack has: None, bool, int (64 bits), float, text, "
            "bytes, datetime, lists and mappings of these; or a dataclass, Struct or model"
        ) from error
