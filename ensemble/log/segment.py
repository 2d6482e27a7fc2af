"""One file of groups, and where in it a frame stands.

Owns walking a segment and the sparse index of it. Must not know what comes of damage: it raises `Damage` with a place.

    place of entry i < place of entry i+1 < whole          (each is where a record or a frame begins)
    [0, whole) are groups, one after another; past `whole` nothing is known
    end_seq = seq of the segment after it, None if there is none; what stands behind the group before that is no part of
              the log: a writer that was replaced may have left it there
    [0, gap) is taken for whole without having been looked at; it has one entry, at 0
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Self
from zlib import crc32

from ensemble.errors import LogCorrupt
from ensemble.log.files import Gone, corrupt, refusal
from ensemble.log.frame import CHECKED_FROM, HEADER_BYTES, Header, check, peek
from ensemble.log.group import RECORD_BYTES, Record, peek_record

SPACING_BYTES = 32 * 1024
"""Between two entries of the index: what is walked at most to find a frame."""

READ_BYTES_MIN = 16 * 1024
READ_BYTES_MAX = 1024 * 1024


class Damage(Exception):
    """What stands at `place` of a segment is not what should: a finding, which the caller makes LogCorrupt or a cut."""

    def __init__(self, path: Path | str, place: int, why: object) -> None:
        super().__init__(f"{path}: byte {place}: {why}")
        self.path = path
        self.place = place
        self.why = why


@contextmanager
def corrupt_if_damaged() -> Iterator[None]:
    """Damage that is found inside is raised as LogCorrupt: for who can't cut it off."""
    try:
        yield
    except Damage as damage:
        raise corrupt(damage.path, damage.place, damage.why) from damage


class Window:
    """A segment's bytes up to `stop`, read ahead in growing pieces. Used by one thread."""

    def __init__(self, path: Path, stop: int | None = None) -> None:
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise Gone(str(refusal(f"{path}: can't be read", error))) from error
        except OSError as error:
            raise refusal(f"{path}: can't be read", error) from error
        self.stop = os.fstat(self._fd).st_size if stop is None else stop
        self.bytes = b""
        self._from = 0
        self._ahead = READ_BYTES_MIN

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        os.close(self._fd)

    def at(self, place: int, size: int, *, ahead: bool = True) -> int:
        """The index in `bytes` of this place, with `size` bytes from there on, or fewer where the segment stops."""
        size = min(size, self.stop - place)
        if place < self._from or place + size > self._from + len(self.bytes):
            if ahead:
                wanted = max(size, self._ahead)
                self._ahead = min(2 * self._ahead, READ_BYTES_MAX)
            else:
                wanted = size
            try:
                self.bytes = os.pread(self._fd, min(wanted, self.stop - place), place)
            except OSError as error:
                raise refusal(f"{self.path}: byte {place} can't be read", error) from error
            self._from = place
        return place - self._from

    def again(self) -> None:
        """Forget what was read: the file may have changed."""
        self.bytes = b""

    def record(self, place: int, *, ahead: bool = True) -> Record | None:
        """The group record that begins here; None if no whole one does."""
        at = self.at(place, RECORD_BYTES, ahead=ahead)
        return peek_record(self.bytes, at)

    def is_record(self, place: int, *, ahead: bool = True) -> bool:
        """Whether a record, not a frame, seems to begin here."""
        at = self.at(place, HEADER_BYTES, ahead=ahead)
        return self.bytes[at : at + 1] == b"\x95"

    def header(self, place: int, *, ahead: bool = True) -> Header:
        """The header of the frame that begins here; nothing is checked but its markers and that it ends within `stop`."""
        at = self.at(place, HEADER_BYTES, ahead=ahead)
        try:
            header = peek(self.bytes, at)
        except LogCorrupt as error:
            raise Damage(self.path, place, error) from error
        if header.length < HEADER_BYTES or place + header.length > self.stop:
            why = f"a frame of {header.length:,} bytes begins here, {self.stop - place:,} are there"
            raise Damage(self.path, place, why)
        return header

    def frame(self, place: int, header: Header) -> bytes:
        """The bytes of a frame, its checksum checked."""
        at = self.at(place, header.length)
        data = self.bytes[at : at + header.length]
        if len(data) == header.length and crc32(memoryview(data)[CHECKED_FROM:]) == header.crc:
            return data
        try:
            check(data)  # for what to say of it
        except LogCorrupt as error:
            raise Damage(self.path, place, error) from error
        return data


class Segment:
    """What is known of one file. Any thread may look things up while one other notes what it appends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.seq = int(path.stem)
        self.end_seq: int | None = None
        self.whole = 0
        """Bytes of groups known to be whole."""
        self.gap = 0
        self._seqs: list[int] = []
        self._firsts: list[int] = []
        self._places: list[int] = []
        self._lock = Lock()

    @property
    def first(self) -> int:
        """The offset with which it begins. It must hold a group."""
        return self._firsts[0]

    @property
    def is_empty(self) -> bool:
        return not self._places

    def note(self, seq: int, first: int, place: int) -> None:
        """A record or frame begins here; kept if the last one that was kept is far enough behind."""
        if not self._places or place >= self._places[-1] + SPACING_BYTES:
            with self._lock:
                self._seqs.append(seq)
                self._firsts.append(first)
                self._places.append(place)

    def note_frame(self, data: bytes, place: int) -> None:
        """This frame was appended at this place."""
        if place >= self._places[-1] + SPACING_BYTES:
            header = peek(data)
            self.note(header.seq, header.first, place)

    def note_group(self, record: Record, place: int, window: Window) -> None:
        """A whole group begins here. The frames of a long one are noted, too."""
        self.note(record.seq, record.first, place)
        if record.length > SPACING_BYTES:
            for at, header in walk_headers(window, place + RECORD_BYTES, place + RECORD_BYTES + record.length):
                self.note(header.seq, header.first, at)

    def trust(self, place: int) -> None:
        """Take it that everything before this place is whole groups, unseen. For a new segment that holds one."""
        with Window(self.path) as window:
            head = window.record(0)
        if head is None or head.seq != self.seq:
            raise Damage(self.path, 0, "the segment does not begin with the group of its name")
        self.note(head.seq, head.first, 0)
        self.whole = self.gap = place

    def fill(self) -> None:
        """Look at the groups that were taken for whole unseen."""
        gap, found = self.gap, Segment(self.path)  # another thread may close the gap meanwhile
        with Window(self.path, gap) as window:
            place, seq = 0, self.seq
            while place < gap and seq != self.end_seq:
                record = window.record(place)
                if record is None or place + RECORD_BYTES + record.length > gap:
                    raise Damage(self.path, place, "a group's record is damaged")
                found.note_group(record, place, window)
                place += RECORD_BYTES + record.length
                seq = record.end_seq
        with self._lock:
            if self.gap:
                self._seqs[:1] = found._seqs
                self._firsts[:1] = found._firsts
                self._places[:1] = found._places
                self.gap = 0

    def place_of_seq(self, seq: int) -> tuple[int, int]:
        """Where to begin to walk for a frame, and the frame that stands there."""
        return self._lookup(self._seqs, seq)

    def place_of_offset(self, offset: int) -> tuple[int, int]:
        return self._lookup(self._firsts, offset)

    def group_of_seq(self, seq: int) -> tuple[int, Record]:
        """Where the group begins that holds a frame, and its record."""
        place, _ = self.place_of_seq(seq)
        with Window(self.path, self.whole) as window:
            while not window.is_record(place):  # an entry inside of a long group
                place = self._places[bisect_right(self._places, place) - 2]
            while True:
                record = window.record(place)
                if record is None:
                    raise Damage(self.path, place, "a group's record is damaged")
                if record.end_seq > seq:
                    return place, record
                place += RECORD_BYTES + record.length

    def _lookup(self, column: list[int], value: int) -> tuple[int, int]:
        with self._lock:
            i = bisect_right(column, value) - 1
            if i or not self.gap:
                return self._places[i], self._seqs[i]
        self.fill()
        return self._lookup(column, value)


def walk_headers(window: Window, place: int, stop: int, end_seq: int | None = None) -> Iterator[tuple[int, Header]]:
    """Places and headers of the frames from a record or frame on, to `stop` or frame `end_seq`. None may be missing.

    Errors: Damage.
    """
    expected: int | None = None
    length = 0
    while place < stop and (expected is None or expected != end_seq):
        ahead = length < READ_BYTES_MIN
        if window.is_record(place, ahead=ahead):
            record = window.record(place, ahead=ahead)
            if record is None:
                raise Damage(window.path, place, "a group's record is damaged")
            if expected is not None and record.seq != expected:
                raise Damage(window.path, place, f"the group of frame {expected} should be here, that of {record.seq} is")
            expected = record.seq
            place += RECORD_BYTES
            continue
        header = window.header(place, ahead=ahead)
        if expected is not None and header.seq != expected:
            raise Damage(window.path, place, f"frame {expected} should be here, frame {header.seq} is")
        expected = header.seq + 1
        yield place, header
        length = header.length
        place += length
