"""Auditing what lies beside a log: data that events name by its hash (docs/size.md, "Large data").

Owns which data events name, found without decoding the frames that name none, and what is wrong with it. Where it lies is the
store's: `Beside`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256

from ensemble.errors import LogCorrupt, OffsetError
from ensemble.event import Frame, encode
from ensemble.log.audit import Audited, Finding
from ensemble.log.blobs import EXTRA, Beside, claims_of
from ensemble.log.frame import decode
from ensemble.log.group import MARKER, RECORD_BYTES
from ensemble.log.remnant import decode_remnant, is_remnant

TRACE = encode(EXTRA)
"""What stands in every frame that names data: the name of the extra; data that has the same name costs its decoding."""


class Named:
    """What the events of a log name, as one frame after the other is met."""

    def __init__(self, log_id: str, shard: int) -> None:
        self._of = log_id, shard
        self._events: dict[bytes, int] = {}
        """SHA-256 of the data -> the offset of the first event that names it."""

    def note(self, data: bytes, begin: int = 0, end: int | None = None) -> None:
        """Take in frames that stand one behind the other, or what is left of frames, or groups. They were checked."""
        found = data.find(TRACE, begin, end)
        while found >= 0:
            while (after := _after(data, begin)) <= found:
                begin = after
            self._note(data[begin:after])
            begin, found = after, data.find(TRACE, after, end)

    def _note(self, data: bytes) -> None:
        rows = (decode_remnant(data, *self._of) if is_remnant(data) else decode(data, *self._of, is_checked=True)).rows
        if rows is not None:
            for row, digest in claims_of(rows).items():
                self._events.setdefault(digest, rows.first + row)

    def judge(self, blobs: Beside, frame_at: Callable[[int], Frame], found: Audited) -> None:
        """Hold what lies beside the log against what is named. What comes of it goes to `found`. Unavailable."""
        missing = dict(self._events)
        others: list[str] = []
        for digest, where, data in blobs.lying():
            offset = self._events.get(digest)
            missing.pop(digest, None)
            if offset is None:
                others.append(where)
            if sha256(data).digest() != digest:
                whose = "no event has it" if offset is None else f"the event with offset {offset} has it"
                found.findings.append(Finding(where, 0, f"this data was changed, and {whose}"))
        for digest, offset in missing.items():
            if _is_there(frame_at, offset):
                wrong = f"this data is missing, and the event with offset {offset} has it"
                found.findings.append(Finding(blobs.where(digest), 0, wrong))
        if others:
            more = f", and {len(others) - 1} more" if len(others) > 1 else ""
            found.notes.append(
                f"{others[0]}{more}: no event has this data; a writer left it that died before its event was durable, or that "
                "is writing. It goes when retention takes something"
            )


def _after(data: bytes, place: int) -> int:
    """Where the frame ends that begins here; of a group's record, where that ends."""
    if data.startswith(MARKER, place):
        return place + RECORD_BYTES
    return place + int.from_bytes(data[place + 2 : place + 6], "big")


def _is_there(frame_at: Callable[[int], Frame], offset: int) -> bool:
    """Whether an event is still there: what retention took while this audit read needs no data any more."""
    with suppress(LogCorrupt):  # that is told elsewhere
        try:
            frame_at(offset)
        except OffsetError:
            return False
    return True
