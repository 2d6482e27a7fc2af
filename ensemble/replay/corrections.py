"""What is corrected in a log: by a promotion that is to be made, and by those that were.

Owns the correction as it stands in an event `_band.corrected`, and when two are of the same event. An event that was recorded
is known by its id. One that only takes have is known by what it answers, who says it, and which of these answers it is.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from ensemble.event import Event, Ref
from ensemble.log.base import LogReader
from ensemble.replay.difference import Change

CORRECTED = "_band.corrected"
"""The topic of the events that correct."""
RESTORED = "restored"
"""The kind of a correction that takes another one back: the event is as it was recorded after all."""


class Correction(msgspec.Struct, frozen=True):
    """One event, as it was and as it is."""

    key: str
    data: Mapping[str, Any]
    """`take`, `kind`, `player`, `was` and `now`: an event each (`id`, `topic`, `key`, `data`), or None."""
    cause: Ref
    """What it corrects, or, of an event that is new, what that answers."""
    root: Ref
    shard: int
    offset: int
    """Where the event lies that it corrects; of one that is new, where it lies in its take."""

    @property
    def about(self) -> str:
        """The id of what is corrected."""
        return str((self.data["was"] or self.data["now"])["id"])

    def without_data(self) -> dict[str, Any]:
        """What it says, but for the data of the events."""
        return {**self.data, "was": _bare(self.data["was"]), "now": _bare(self.data["now"])}

    def says_the_same(self, other: Correction) -> bool:
        """Whether the event is the same by both."""
        a, b = self.data["now"], other.data["now"]
        if a is None or b is None:
            return a is b
        return all(name in a and name in b and a[name] == b[name] for name in ("topic", "key", "data"))


def _bare(event: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if event is None else {name: value for name, value in event.items() if name != "data"}


def corrections_of(changes: Sequence[Change], take: str) -> list[Correction]:
    """What a take corrects by saying these events otherwise."""
    made = []
    for change in changes:
        one = change.was if change.was is not None else change.now
        assert one is not None
        cause: Ref = change.was.offset if change.was is not None else one.causationid or one.id
        told = {"take": take, "kind": change.kind, "player": change.player, "was": _told(change.was), "now": _told(change.now)}
        made.append(Correction(change.key, told, cause, one.correlationid, one.shard, one.offset))
    return made


def _told(event: Event | None) -> dict[str, Any] | None:
    return None if event is None else {"id": event.id, "topic": event.topic, "key": event.key, "data": event.data}


class Corrections:
    """What holds by the promotions that were read."""

    def __init__(self) -> None:
        self.takes: dict[str, None] = {}
        """Those that were promoted."""
        self.players: frozenset[str] = frozenset()
        """Of whom something was corrected: what they said, or remember."""
        self._said: list[Correction] = []

    def read(self, log: LogReader, since: int, upto: int) -> None:
        """Read on in a shard, from one frame to another."""
        for frame in log.frames(since):
            if frame.seq >= upto:
                return
            if "promoted" not in frame.marks:
                continue
            self.takes[frame.marks["promoted"][1]] = None
            self.players = self.players.union(frame.marks.get("wrote", ()))
            for ix in range(frame.count):
                assert frame.rows is not None
                event = frame.rows.event(ix)
                if event.topic == CORRECTED:
                    cause = event._rows.causes[ix] if event._rows.causes is not None else event.id
                    offset = cause if isinstance(cause, int) else -1
                    self._said.append(Correction(event.key, event.data, cause, event.correlationid, event.shard, offset))
                    self.players |= {event.data["player"]} - {""}

    def both(self, others: Sequence[Correction]) -> list[Correction]:
        """Those of these that are of events which were corrected."""
        known = _named(self._said)
        return [each for name, each in _named(others).items() if name in known]

    def still_to_say(self, wanted: Sequence[Correction], take: str, begins: Mapping[int, int]) -> list[Correction]:
        """What of this is to be said yet; and what is to be taken back, as it is not wanted any more.

        `begins` is the offset, by shard, from which on the events are all there: of those before nobody knows better.
        """
        holds = _named(self._said)
        told = _named(wanted)
        left = [each for name, each in told.items() if name not in holds or not holds[name].says_the_same(each)]
        back = [
            each for name, each in holds.items()
            if name not in told and each.data["kind"] != RESTORED and each.offset >= begins.get(each.shard, each.offset + 1)
        ]  # fmt: skip
        for each in back:
            data = {**each.data, "take": take, "kind": RESTORED, "was": each.data["now"], "now": each.data["was"]}
            left.append(msgspec.structs.replace(each, data=data))
        return left


def _named(corrections: Sequence[Correction]) -> dict[Any, Correction]:
    """These by what they correct; of the same event the last."""
    names: dict[str, Any] = {}
    counts: Counter[Any] = Counter()
    found: dict[Any, Correction] = {}
    for each in corrections:
        was, now = each.data["was"], each.data["now"]
        if each.data["kind"] == RESTORED:
            was, now = now, was
        if was is not None:
            name: Any = was["id"]
        else:
            answers = names.get(str(each.cause), str(each.cause)), each.data["player"]
            name = (*answers, counts[each.data["take"], answers])
            counts[each.data["take"], answers] += 1
        if now is not None:
            names[now["id"]] = name
        found[name] = each
    return found
