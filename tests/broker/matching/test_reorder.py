"""By event time a motif hears what it would have heard had all come in the order of their times, but for what came too late."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ensemble.broker.matching import Match, Pattern
from ensemble.broker.matching import reorder as reordering
from ensemble.broker.matching.reorder import Reordered
from ensemble.event import Rows, encode
from tests.broker.matching.histories import MINUTE, _told, documents, histories, read
from tests.broker.matching.oracle import Heard, Said, heard
from tests.broker.matching.test_matcher import composite
from tests.effort import some

Arrivals = list[Said]
"""Events in the order in which they were written; their times are their own."""


@st.composite
def arrivals(draw: st.DrawFn) -> Arrivals:
    """A history in some other order, more or less: each event comes up to so many places too late."""
    history = draw(histories())
    delays = [draw(st.sampled_from((0, 0, 0, 1, 2, 5))) for _ in history]
    order = sorted(range(len(history)), key=lambda at: (at + delays[at], at))
    return [placed(history[at], place) for place, at in enumerate(order)]


def placed(said: Said, at: int) -> Said:
    return Said(at, said.time_us, said.topic, said.key, said.data)


def rows_of(said: Said) -> Rows:
    """One event, written at a time that says nothing."""
    return Rows(
        "test", 0, said.at, 1_000_000 + said.at, [said.topic], 0, [said.key], [encode(said.data)], ["/test"], 0,
        extras={0: {"id": str(said.at), "time_us": said.time_us}},
    )  # fmt: skip


def by_event_time(document: Any, came: Arrivals, torn: int) -> tuple[list[Heard], int]:
    """What is heard, and how many were left out; before event `torn` all is written down, and read again."""
    pattern = Pattern(read(document), "_heard")
    matcher = Reordered(pattern)
    found: list[Match] = []
    for said in came:
        if said.at == torn:
            kept = msgspec.msgpack.decode(msgspec.msgpack.encode(matcher.dump()), strict=False)
            matcher = Reordered(pattern).load(kept)
        found += [match for _, match in matcher.hear(rows_of(said), 0, 0)]
    return [_told(match) for match in found], matcher.late


def slowly(plain: Any, lateness_us: int, came: Arrivals) -> tuple[list[Heard], int]:
    """The same: who is too late is left out, the others are put in order, and the definition is asked."""
    motif = read(plain)
    pattern = Pattern(motif, "_heard")
    in_time: Arrivals = []
    late, high_us = 0, None
    for said in came:
        if pattern.judge(said.topic) is None:
            continue
        if high_us is not None and said.time_us < high_us - lateness_us:
            late += 1
            continue
        in_time.append(said)
        high_us = said.time_us if high_us is None else max(high_us, said.time_us)
    if high_us is None:
        return [], late
    until_us = high_us - lateness_us
    passed = sorted((said for said in in_time if said.time_us <= until_us), key=lambda said: (said.time_us, said.at))
    history = [placed(said, at) for at, said in enumerate(passed)]
    where = [said.at for said in passed]

    def there(offsets: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(where[at] for at in offsets)

    def labels(each: Heard) -> tuple[tuple[str, tuple[int, ...]], ...]:
        return tuple((label, tuple(sorted(there(at)))) for label, at in each.labels)

    found = heard(motif, history, until_us)
    return [Heard(each.key, each.time_us, there(each.offsets), labels(each)) for each in found], late


def held_equal(document: Any, lateness: int, came: Arrivals, torn: int) -> None:
    timed = _timed(document, lateness)
    found, late = by_event_time(timed, came, torn)
    expected, expected_late = slowly(document, lateness * MINUTE, came)
    assert [_sorted(each) for each in found] == [_sorted(each) for each in expected]
    assert late == expected_late


def _timed(document: Any, lateness: int) -> Any:
    return {**document, "time": "event", **({"lateness": f"{lateness}m"} if lateness else {})}


def _sorted(each: Heard) -> Heard:
    return each._replace(offsets=tuple(sorted(each.offsets)))


@settings(max_examples=some(250), deadline=None, suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow])
@given(documents(), st.integers(0, 3), arrivals(), st.integers(-1, 8))
def test_by_event_time_is_heard_what_is_heard_in_order_without_what_is_late(
    document: Any, lateness: int, came: Arrivals, torn: int
) -> None:
    for each in (document, _timed(document, lateness)):  # both have to be right
        composite(each)
    held_equal(document, lateness, came, torn)


def said(*words: tuple[str, int]) -> Arrivals:
    return [Said(at, minute * MINUTE, topic, "k", {"x": 1}) for at, (topic, minute) in enumerate(words)]


def goes_by_arrival(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that waited are passed on as they came."""
    monkeypatch.setattr(reordering, "heappush", lambda heap, item: heap.append(item))
    monkeypatch.setattr(reordering, "heappop", lambda heap: heap.pop(0))


def takes_what_is_late(monkeypatch: pytest.MonkeyPatch) -> None:
    watermark_us = Reordered._watermark_us
    asked: list[int] = []

    def lenient(matcher: Reordered) -> int | None:
        asked.append(1)
        return None if len(asked) % 2 else watermark_us(matcher)

    monkeypatch.setattr(Reordered, "_watermark_us", lenient)


def forgets_who_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    dump = Reordered.dump
    monkeypatch.setattr(Reordered, "dump", lambda matcher: [*dump(matcher)[:2], [], dump(matcher)[3]])


BUGS: list[tuple[Callable[[pytest.MonkeyPatch], None], Arrivals, int]] = [
    (goes_by_arrival, said(("B", 2), ("A", 1), ("A", 9)), -1),
    (takes_what_is_late, said(("C", 5), ("A", 1), ("B", 6), ("C", 20)), -1),
    (forgets_who_waits, said(("A", 1), ("B", 2), ("A", 9)), 2),
]


@pytest.mark.parametrize(("bug", "came", "torn"), BUGS, ids=lambda each: getattr(each, "__name__", ""))
def test_a_planted_bug_is_found(
    bug: Callable[[pytest.MonkeyPatch], None], came: Arrivals, torn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = {"seq": ["A", "B"]} if bug is not takes_what_is_late else {"all": ["A", "B", {"optional": "C"}]}
    held_equal(document, 2, came, torn)
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        held_equal(document, 2, came, torn)
