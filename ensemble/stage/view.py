"""What can be asked of a shard's state, answered from the state itself.

Owns the questions; `ask` owns when they may be put: a reader folds the log first, a loop answers in its own thread and once
all that it could have seen is durable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import msgspec

from ensemble.broker.outbox import FORWARDED
from ensemble.broker.state import State, lag
from ensemble.stage.sources import Place
from ensemble.status import SectionStatus, SourceStatus, Standing

Question = Callable[[State], Any]


class StateView:
    """A `View` over one state."""

    def __init__(self, ask: Callable[[Question], Any]) -> None:
        self._ask = ask

    def sections(self) -> list[str]:
        names: list[str] = self._ask(lambda state: list(state.sections))
        return names

    def seen(self, id: str) -> int | None:
        known = self._ask(lambda state: state.seen.get(id))
        return None if known is None else int(known[0])

    def dead(self) -> list[tuple[int, int, str]]:
        letters: list[tuple[int, int, str]] = self._ask(
            lambda state: sorted(
                (letter, offset, name) for name, section in state.sections.items() for offset, letter in section.dead.items()
            )
        )
        return letters

    def table_keys(self, name: str) -> list[str]:
        keys: list[str] = self._ask(lambda state: list(state.sections[name].table))
        return keys

    def table_value(self, name: str, key: str) -> bytes | None:
        value: bytes | None = self._ask(lambda state: state.sections[name].table.get(key))
        return value

    def table_items(self, name: str, prefix: str = "") -> Mapping[str, bytes]:
        def chosen(state: State) -> dict[str, bytes]:
            table = state.sections[name].table
            return {key: table[key] for key in table if key.startswith(prefix)} if prefix else dict(table)

        items: dict[str, bytes] = self._ask(chosen)
        return items

    def digests(self) -> tuple[int, dict[str, str]]:
        digests: tuple[int, dict[str, str]] = self._ask(
            lambda state: (state.frames, {name: table_digest(section.table) for name, section in state.sections.items()})
        )
        return digests

    def standing(self) -> Standing:
        standing: Standing = self._ask(self._standing)
        return standing

    def _standing(self, state: State) -> Standing:
        """How the shard stands by its state alone: nobody plays."""
        return standing_of(state, {name: self._section(state, name) for name in state.sections}, {})

    def _section(self, state: State, name: str) -> SectionStatus:
        section = state.sections[name]
        return SectionStatus(
            lag(state, name), section.heard, section.emitted, section.failed, len(section.dead), 0,
            len(section.attempts), len(section.held),
        )  # fmt: skip


def table_digest(table: Mapping[str, bytes]) -> str:
    """What two tables share that are the same, key by key and byte for byte: SHA-256, in hexadecimal digits."""
    digest = sha256()
    for key in sorted(table):
        for part in (key.encode(), table[key]):
            digest.update(len(part).to_bytes(8, "big"))
            digest.update(part)
    return digest.hexdigest()


def standing_of(state: State, sections: Mapping[str, SectionStatus], totals: Mapping[str, int | None]) -> Standing:
    """A standing from a state, of these sections; `totals` are the bytes of each source's file, where known."""
    sources = {}
    for name in {**state.places, **totals}:
        recorded = state.places.get(name)
        place = Place() if recorded is None else msgspec.convert(recorded, type=Place, builtin_types=(bytes,))
        sources[name] = SourceStatus(place.read, totals.get(name), place.said, place.refused, place.is_done)
    costs = (state.score or {}).get("costs", {})
    return Standing(state.end, state.frames, dict(state.topics), dict(sections), sources, len(state.timers), costs)


def merged(standings: Sequence[Standing]) -> Standing:
    """How a band stands, by how its shards do. What one shard has only to hear it for another is not counted twice."""
    if len(standings) == 1:
        return standings[0]
    topics: dict[str, int] = {}
    sections: dict[str, SectionStatus] = {}
    for standing in standings:
        for topic, count in standing.topics.items():
            topics[topic] = topics.get(topic, 0) + count
        for name, section in standing.sections.items():
            known = sections.get(name)
            sections[name] = section if known is None else _together(known, section)
    copies = [topic for topic in topics if topic.startswith(FORWARDED)]
    events = sum(standing.events for standing in standings) - sum(topics.pop(topic) for topic in copies)
    return Standing(
        events,
        sum(standing.frames for standing in standings),
        topics,
        sections,
        {name: source for standing in standings for name, source in standing.sources.items()},
        sum(standing.timers for standing in standings),
        standings[0].costs,
    )


def _together(a: SectionStatus, b: SectionStatus) -> SectionStatus:
    """One section in two shards. Its instances serve both."""
    counted = {name: getattr(a, name) + getattr(b, name) for name in SectionStatus.__struct_fields__}
    return SectionStatus(**{**counted, "instances": max(a.instances, b.instances)})
