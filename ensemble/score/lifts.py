"""Lifting: events that were said in an older version of their schema, as the version that a score asks for now.

Owns the chain of upcasters of each topic, and how columns are lifted by it. Who plays lifts what comes off the log; the log
itself has what was said, for ever. Upcasters are pure functions of data: nobody knows when, where or how often they are called.

    lift(rows).version(i) = the score's version of rows.topic(i), unless row i can't be lifted
    a row that can't be lifted keeps its version, and has `unlifted(why)` for its data
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import copy
from typing import TYPE_CHECKING

import msgspec

from ensemble.errors import InvalidEvent
from ensemble.event import Frame, Rows, decode, payload_of, unlifted

if TYPE_CHECKING:
    from ensemble.score.vocabulary import Vocabulary, Word


class Lifts:
    """What brings events to the versions of a vocabulary's words."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.is_on = vocabulary.has_versions
        """Whether any word has another version than 1: else there is nothing to do."""

    def frame(self, frame: Frame) -> Frame:
        """The same frame, its events lifted; the very same where there is nothing to lift."""
        if not self.is_on or frame.rows is None:
            return frame
        rows = self.rows(frame.rows)
        if rows is frame.rows:
            return frame
        lifted = copy(frame)
        lifted.rows = rows
        return lifted

    def rows(self, rows: Rows) -> Rows:
        """The same rows, lifted."""
        old = [ix for ix in self._suspects(rows) if rows.version(ix) != self._vocabulary.word(rows.topic(ix)).version]
        if not old:
            return rows
        data, extras = list(rows.data), dict(rows.odd)
        for ix in old:
            word = self._vocabulary.word(rows.topic(ix))
            try:
                data[ix] = lifted(word, rows.data[ix], rows.version(ix))
            except InvalidEvent as error:
                data[ix] = unlifted(str(error))
            else:
                extras[ix] = {**extras.get(ix, {}), "version": word.version}
        return msgspec.structs.replace(rows, data=data, extras=rows.with_odd(extras))

    def data(self, topic: str, payload: bytes, version: int) -> tuple[bytes, int]:
        """Data that was kept somewhere, and its version, lifted."""
        word = self._vocabulary.word(topic)
        if version == word.version:
            return payload, version
        try:
            return lifted(word, payload, version), word.version
        except InvalidEvent as error:
            return unlifted(str(error)), version

    def _suspects(self, rows: Rows) -> Iterator[int]:
        """The rows that may be of another version."""
        word, versions, column = self._vocabulary.word, rows.versions or {}, rows.topic_ix
        differ = [versions.get(topic, 1) != word(topic).version for topic in rows.topics]
        if any(differ):
            yield from (ix for ix in range(len(rows)) if differ[column if isinstance(column, int) else column[ix]])
        if rows.odd:  # copies lie under another topic
            yield from (ix for ix, extra in rows.odd.items() if "version" in extra or "topic" in extra)


def lifted(word: Word, payload: bytes, version: int) -> bytes:
    """Data of an older version as that of its word.

    Errors: InvalidEvent, which names the upcaster that is missing, raises, or gives what breaks the schema.
    """
    if version > word.version:
        raise InvalidEvent(
            f"{word.topic}: it was said in version {version}, and the score knows version {word.version} at the most"
        )
    data = decode(payload)
    for step in range(version, word.version):
        upcast = word.upcasts.get(step)
        if upcast is None:
            raise InvalidEvent(f"{word.topic}: it was said in version {version}, and there is no upcast: from version {step}")
        name, call = upcast
        try:
            made = call(data)
        except Exception as error:
            raise InvalidEvent(
                f"{word.topic}: upcast from version {step}: {name} raised {type(error).__name__}: {error}"
            ) from error
        if made is None and data is not None:
            raise InvalidEvent(f"{word.topic}: upcast from version {step}: {name} gave None; let it return the data")
        data = made
    try:
        if word.check is not None:
            word.check(data)
        return payload_of(data)
    except (InvalidEvent, TypeError, OverflowError, ValueError, RecursionError) as error:
        last = word.upcasts[word.version - 1][0]
        raise InvalidEvent(f"{word.topic}: upcast to version {word.version}: {last} gave what it can't be: {error}") from error


def missing(word: Word, versions: Mapping[int, int]) -> Iterator[tuple[int, int]]:
    """The versions, of which a log has so many events each, that a word can't lift: with the step that is missing."""
    for version in sorted(versions):
        if version > word.version:
            yield version, version
        else:
            steps = [step for step in range(version, word.version) if step not in word.upcasts]
            if steps:
                yield version, steps[0]
