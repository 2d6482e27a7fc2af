"""What starts the music: files, every so often, and players that only speak.

Owns how a source is read, and its place: how far it has been read, which is recorded in the same frame as the events that
were read. Killed and opened again, a source goes on where its place says. A pump calls `next` for the next publication; when
that is, and how much it may be, is the pump's.
"""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import inspect
import io
import sys
import time
import zlib
from collections.abc import AsyncIterable, Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import IO, Any, Protocol

import msgspec

from ensemble import whereabouts
from ensemble.broker.words import Publication
from ensemble.errors import EnsembleError, InvalidEvent, PlayerError, ScoreError, Unavailable
from ensemble.event import EPOCH, Emission, encode, rfc3339
from ensemble.motif import matches
from ensemble.score.callable import find
from ensemble.score.cron import Cron
from ensemble.score.model import SourceSpec
from ensemble.stage.inlet import Inlet, InletBatch
from ensemble.stage.live import FIRST_S, MOMENT_S, AsTheyCome, InTurn, Items, Pipe

REFUSED = "_band.refused"
"""The topic of the event that tells of a line that was refused."""
BOM = b"\xef\xbb\xbf"
LINE_MOST = 16 << 20
"""Bytes of the longest line that is read; longer ones are refused."""
SHOWN = 200
"""How much of a refused line is kept, in characters."""


class Place(msgspec.Struct, array_like=True):
    """How far a source has been read."""

    count: int = 0
    """Lines, ticks, or what the player said so far."""
    at: int = 0
    """Bytes of the file, after decompression; for `every:` and `cron:` the last tick in microseconds since 1970."""
    digest: bytes = b""
    """SHA-256 of these bytes."""
    refused: int = 0
    is_done: bool = False
    read: int = 0
    """Bytes of the file as it lies there, for a progress bar."""
    said: int = 0


class Source(Protocol):
    name: str
    place: Place
    total: int | None
    """Bytes of the file, where known."""
    is_endless: bool
    """Whether nobody should wait for its end."""
    rate: float | None
    """How many of what `place.count` counts may be read a second; None: as fast as they are heard."""

    def next(self, now_us: int, most: int) -> Publication | None:
        """The next events with their place, read from up to `most` lines or items.

        None: there are none now, and it has waited a little for them or `due_us` tells when; or ever, if `place.is_done`.
        """
        ...

    def due_us(self) -> int | None:
        """When there is something to ask for; None: perhaps now, or never when done."""
        ...

    def close(self) -> None: ...


class FileSource:
    """The lines of a file: events, CloudEvents, or the data alone where the source names a topic."""

    is_endless = False

    def __init__(self, spec: SourceSpec, inlet: Inlet, place: Place, *, is_strict: bool, is_live: bool) -> None:
        assert spec.file is not None
        self.name = spec.name
        self.place = place
        self.rate = spec.rate
        self._spec, self._inlet, self._is_strict = spec, inlet, is_strict
        self._hash = hashlib.sha256()
        self._pipe = _stdin_pipe() if is_live and spec.file == "-" else None
        """What is read without waiting for what has not come yet."""
        self._raw, self._lines = self._open(spec.file)
        self.total = Path(spec.file).stat().st_size if spec.file != "-" else None
        self._is_at_end = False
        self._was_done, place.is_done = place.is_done, False  # it may have grown
        self._left = place.at
        """How much that was read before is still to be passed over."""
        if self._pipe is None:
            try:
                self._go_on()
            except BaseException:
                self.close()
                raise

    def _open(self, file: str) -> tuple[IO[bytes], IO[bytes] | Pipe]:
        if file == "-":
            return sys.stdin.buffer, self._pipe or sys.stdin.buffer
        try:
            raw: IO[bytes] = Path(file).open("rb")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise ScoreError(
                f"sources.{self.name}.file: {file} can't be read: {error.strerror}; "
                "a path is relative to the score's own folder"
            ) from error
        return raw, io.BufferedReader(gzip.GzipFile(fileobj=raw)) if file.endswith(".gz") else raw

    def _go_on(self) -> bool:
        """Pass over what was read before, and see that it is still the same; False: it has not all come again yet."""
        until_s = time.monotonic() + FIRST_S
        while self._left:
            if self._pipe is not None and not self._pipe.is_ready(1, until_s):
                return False
            try:
                piece = self._lines.read(min(self._left, 1 << 20))
            except (OSError, EOFError, zlib.error) as error:
                raise InvalidEvent(
                    f"source {self.name}: {self._spec.file} can't be read: {error}; put the old file back"
                ) from error
            if not piece:
                break
            self._hash.update(piece)
            self._left -= len(piece)
        if self.place.at and (self._left or self._hash.digest() != self.place.digest):
            raise InvalidEvent(
                f"source {self.name}: {self._spec.file} has changed in the part that was read before (its first "
                f"{self.place.count} lines); put the old file back, give the changed one another name, or play it anew with "
                "--again"
            )
        return True

    def next(self, now_us: int, most: int) -> Publication | None:
        if self._left and not self._go_on():
            return None
        if self.place.is_done:
            return None
        place = msgspec.structs.replace(self.place)
        lines = self._read(place, most)
        if not lines and not self._is_at_end:
            return None
        self._was_done = self._was_done and not lines
        batch = self._inlet.batch(self._spec.topic)
        for number, line in enumerate(lines, place.count + 1):
            if not line.strip():
                continue
            try:
                if len(line) == LINE_MOST:
                    raise InvalidEvent(f"longer than {LINE_MOST >> 20} MiB; store big data elsewhere and say where")
                batch.add_line(line.removeprefix(BOM) if number == 1 else line)
                place.said += 1
            except InvalidEvent as error:
                if self._is_strict:
                    raise InvalidEvent(f"{self._spec.file}:{number}: {error}") from error
                place.refused += 1
                batch.add_raw(REFUSED, "", encode(self._refusal(number, line, error)))
        place.count += len(lines)
        place.is_done = not lines
        self.place = place
        if self._was_done:  # nothing new: nothing to record
            return None
        return Publication(batch.said(), self._inlet.source, _recorded(self.name, place))

    def _read(self, place: Place, most: int) -> list[bytes]:
        lines: list[bytes] = []
        until_s = time.monotonic() + FIRST_S
        try:
            while len(lines) < most:
                if self._pipe is not None and not self._pipe.is_ready(LINE_MOST, until_s):
                    break
                line = piece = self._lines.readline(LINE_MOST)
                if not line:
                    self._is_at_end = True
                    break
                if not lines:
                    until_s = time.monotonic() + MOMENT_S
                lines.append(line)
                while piece:
                    place.at += len(piece)
                    self._hash.update(piece)
                    piece = b"" if piece.endswith(b"\n") else self._lines.readline(LINE_MOST)
        except (OSError, EOFError, zlib.error) as error:
            raise InvalidEvent(
                f"source {self.name}: {self._spec.file} can't be read past line {place.count + len(lines)}: {error}"
            ) from error
        place.digest = self._hash.digest()
        if self.total is not None:
            place.read = min(self._raw.tell(), self.total) if lines else self.total
        return lines

    def _refusal(self, number: int, line: bytes, error: InvalidEvent) -> dict[str, Any]:
        text = line.decode("utf-8", "replace").strip()
        return {
            "source": self.name,
            "file": self._spec.file,
            "line": number,
            "reason": str(error),
            "text": text if len(text) <= SHOWN else text[:SHOWN] + "...",
        }

    def due_us(self) -> int | None:
        return None

    def close(self) -> None:
        if self._spec.file != "-":
            self._lines.close()
            self._raw.close()


class Every:
    """Whole multiples of a period since 1970."""

    def __init__(self, period_us: int) -> None:
        self._period_us = period_us

    def after(self, us: int) -> int:
        return self.latest(us) + self._period_us

    def latest(self, us: int) -> int:
        return us // self._period_us * self._period_us


class TickSource:
    """One event at each of certain moments. Those that were slept through are one, the last of them."""

    total: int | None = None
    rate: float | None = None
    is_endless = True

    def __init__(self, spec: SourceSpec, inlet: Inlet, place: Place, now_us: int) -> None:
        self.name = spec.name
        self.place = place
        self._spec, self._inlet = spec, inlet
        self._moments = Cron(spec.cron, spec.zone) if spec.cron is not None else Every(spec.every_us or 1)
        if not place.at:
            place.at = self._moments.latest(now_us)
        self._due_us = self._moments.after(place.at)

    def next(self, now_us: int, most: int) -> Publication | None:
        if now_us < self._due_us:
            return None
        at = self._moments.latest(now_us)
        self._due_us = self._moments.after(at)
        self.place = Place(count=self.place.count + 1, at=at, said=self.place.said + 1)
        batch = self._inlet.batch(self._spec.topic)
        data = self._spec.data
        if data is None:
            data = {"at": rfc3339(EPOCH + timedelta(microseconds=at))}
        batch.add(self._spec.topic or "", data, key=self._spec.key)
        return Publication(batch.said(), self._inlet.source, _recorded(self.name, self.place))

    def due_us(self) -> int:
        return self._due_us

    def close(self) -> None:
        pass


class SpeakingSource:
    """A player that only speaks: a callable that gives events, one after the other.

    Opened again, it is called anew and what it said before is passed over, unless it takes `place`, the number of events
    that it has said so far: then it is to go on from there itself.
    """

    total: int | None = None
    is_endless = False

    def __init__(
        self, spec: SourceSpec, inlet: Inlet, place: Place, *, folder: str, call: Any = None, is_live: bool = True
    ) -> None:
        self.name = spec.name
        self.place = place
        self.rate = spec.rate
        self._spec, self._inlet = spec, inlet
        self._call = call if call is not None else find(spec.play or "", folder)
        self._items: Items = AsTheyCome(self._begin, f"ensemble-{spec.name}-speaks") if is_live else InTurn(self._begin)
        self._error: EnsembleError | None = None
        """What is wrong with the next item."""
        self._made: Any = None
        """What the callable gave."""

    def _begin(self) -> Iterator[Any]:
        settings = dict(self._spec.settings)
        takes_place = "place" in inspect.signature(self._call).parameters
        if takes_place:
            settings["place"] = self.place.count
        made = self._call(**settings)
        if inspect.isclass(self._call) and callable(made) and not isinstance(made, Iterable):
            made = made()
        self._made = made
        if isinstance(made, AsyncIterable):
            made = _drained(made)
        if made is None:
            made = ()
        if isinstance(made, (Emission, Mapping)):
            made = (made,)
        items: Iterator[Any] = iter(made)
        if not takes_place:
            for _ in range(self.place.count):
                next(items, None)
        return items

    def next(self, now_us: int, most: int) -> Publication | None:
        if self._error is not None:
            raise self._error
        if self.place.is_done:
            return None
        place = msgspec.structs.replace(self.place)
        try:
            items = self._items.take(most)
        except (InvalidEvent, PlayerError) as error:
            raise self._located(error, place.said) from error
        except Exception as error:
            where = whereabouts.of_error(error)
            raise PlayerError(
                f"source {self.name}: {self._spec.play or self._call!r} raised {type(error).__name__}: {error}"
                f"{f' at {where}' if where else ''}, after it had said {_events(place.said)}; mend it and run again: it goes "
                "on where it was"
            ) from error
        place.is_done = self._items.is_over
        if not items and not place.is_done:
            return None
        batch = self._inlet.batch(self._spec.topic)
        for item in items:
            try:
                if item is not None:
                    self._add(batch, item)
                    place.said += 1
            except (InvalidEvent, PlayerError) as error:
                self._error = self._located(error, place.said)
                if place.count == self.place.count:
                    raise self._error from error
                place.is_done = False  # those before it are said first
                break
            place.count += 1
        self.place = place
        return Publication(batch.said(), self._inlet.source, _recorded(self.name, place))

    def _located(self, error: InvalidEvent | PlayerError, said: int) -> InvalidEvent | PlayerError:
        """The same, and which source it was, where its code is, and how far it came."""
        told = str(error) if str(error).startswith("source ") else f"source {self.name}: {error}"
        where = whereabouts.of_generator(self._made) or whereabouts.of_code(self._call)
        return type(error)(f"{told}; said{f' at {where}' if where else ''}, after {_events(said)}")

    def _add(self, batch: InletBatch, item: Any) -> None:
        if isinstance(item, Emission):
            self._check(item.topic)
            batch.add(item.topic, item.data, key=item.key)
        elif isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
            self._check(item[0])
            batch.add(item[0], item[1])
        elif self._spec.topic is not None:
            batch.add(self._spec.topic, item, key=self._spec.key)
        elif isinstance(item, Mapping) and "topic" in item:
            self._check(item["topic"])
            batch.add_item(item)
        else:
            raise PlayerError(
                f"source {self.name} gave {item!r:.80}, which is no event; give emit(topic, ...), or name a topic: in the score"
            )

    def _check(self, topic: Any) -> None:
        """PlayerError if the score names what it may say, and this is nothing of it."""
        spec = self._spec
        if spec.emits and topic != spec.topic and not any(matches(pattern, str(topic)) for pattern in spec.emits):
            declared = ", ".join(spec.emits)
            raise PlayerError(f"source {self.name} said {topic!r}, but its score lets it say {declared}; add it to emits:")

    def due_us(self) -> int | None:
        return None

    def close(self) -> None:
        self._items.close()


def open_source(
    spec: SourceSpec,
    inlet: Inlet,
    recorded: Any,
    *,
    folder: str,
    now_us: int,
    is_strict: bool,
    is_live: bool,
    call: Any = None,
) -> Source:
    """A source at the place that was recorded of it (None: at its beginning).

    `is_live` has what has come published though more is awaited; without it, publications do not depend on the time of day.
    """
    place = Place() if recorded is None else msgspec.convert(recorded, type=Place, builtin_types=(bytes,))
    if spec.file is not None:
        return FileSource(spec, inlet, place, is_strict=is_strict, is_live=is_live)
    if spec.every_us is not None or spec.cron is not None:
        return TickSource(spec, inlet, place, now_us)
    if spec.play is None and call is None:
        raise Unavailable(f"source {spec.name} has neither file:, every:, cron: nor play:")
    return SpeakingSource(spec, inlet, place, folder=folder, call=call, is_live=is_live)


def _stdin_pipe() -> Pipe | None:
    """Standard input, to be read as it comes; None where it is no file of the system's."""
    try:
        return Pipe(sys.stdin.fileno())
    except (OSError, ValueError, AttributeError):
        return None


def _events(count: int) -> str:
    return f"{count} event{'' if count == 1 else 's'}"


def _recorded(name: str, place: Place) -> tuple[str, Any]:
    return name, msgspec.to_builtins(place, builtin_types=(bytes,))


def _drained(items: AsyncIterable[Any]) -> Iterator[Any]:
    """The items of an asynchronous iterable, on an event loop of its own."""
    iterator = items.__aiter__()
    with asyncio.Runner() as runner:
        while True:
            try:
                yield runner.run(_one(iterator))
            except StopAsyncIteration:
                return


async def _one(iterator: Any) -> Any:
    return await iterator.__anext__()
