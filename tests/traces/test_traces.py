"""Whole histories as text: a script is played under a manual clock, and its log must read as the file beside it says.

`pytest tests/traces --regenerate` writes the files anew; commit a difference only if you can explain it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, Reject, emit
from ensemble.event import Frame
from ensemble.log import read_log
from ensemble.testing import ManualClock

HERE = Path(__file__).parent
Players = dict[str, Callable[..., Any]]
Script = Callable[[ManualClock], tuple[dict[str, Any], Players, Callable[[ensemble.Band], None]]]


def a_chain_of_two(clock: ManualClock) -> Any:
    """Two players, one after the other; the second keeps a table."""

    def charge(order: Event) -> Any:
        return emit("payment.captured", amount=order.data["total"])

    def tally(paid: Event, ctx: Any) -> None:
        ctx.state["paid"] = ctx.state.get("paid", 0) + paid.data["amount"]

    def play(band: ensemble.Band) -> None:
        band.publish("order.placed", {"total": 30}, key="ann")
        band.publish_many([{"total": 5}, {"total": 7}], topic="order.placed")
        band.settle()

    score = {
        "charge": {"on": "order.placed", "emits": ["payment.captured"]},
        "tally": {"on": "payment.*"},
    }
    return score, {"charge": charge, "tally": tally}, play


def a_key_waits_for_its_failing_event(clock: ManualClock) -> Any:
    """The second attempt is made a second later, and only then is the next event of the key heard; another key goes on."""

    def fragile(event: Event, ctx: Any) -> None:
        if event.data == "hot" and ctx.attempt == 1:
            raise ValueError("too hot")

    def play(band: ensemble.Band) -> None:
        band.publish("cup", "hot", key="ann")
        band.publish("cup", "warm", key="ann")
        band.publish("cup", "warm", key="bob")
        band.settle()
        clock.advance(seconds=2)

    return {"fragile": {"on": "cup", "retry": {"first": "1s", "jitter": 0}}}, {"fragile": fragile}, play


def a_dead_letter_is_heard_again(clock: ManualClock) -> Any:
    """Attempts are used up; after the fault is mended the dead letter is heard."""
    broken = [True]

    def sign(event: Event) -> Any:
        if broken[0]:
            raise RuntimeError("no ink")
        return emit("letter.signed")

    def play(band: ensemble.Band) -> None:
        band.publish("letter", key="ann")
        clock.advance(seconds=10)
        broken[0] = False
        band.retry_dead()
        band.settle()

    score = {"sign": {"on": "letter", "emits": ["letter.signed"], "retry": {"attempts": 2, "first": "1s", "jitter": 0}}}
    return score, {"sign": sign}, play


def a_held_key_waits(clock: ManualClock) -> Any:
    """`on_failure: hold`: nothing of the key is heard until somebody says so."""
    refused = ["first"]

    def judge(event: Event) -> None:
        if event.data in refused:
            raise Reject("not yet")

    def play(band: ensemble.Band) -> None:
        band.publish("case", "first", key="ann")
        band.publish("case", "second", key="ann")
        band.settle()
        refused.clear()
        band.retry_dead("judge")
        band.settle()

    return {"judge": {"on": "case", "on_failure": "hold"}}, {"judge": judge}, play


def a_failure_that_is_answered(clock: ManualClock) -> Any:
    """`on_failure: {emit: ...}`: the end of an event is an event of the score's own."""

    def pay(event: Event) -> None:
        raise Reject("no funds")

    def play(band: ensemble.Band) -> None:
        band.publish("bill", 12, key="ann")
        band.settle()

    score = {"pay": {"on": "bill", "on_failure": {"emit": "bill.bounced"}}, "collect": {"on": "bill.bounced"}}
    return score, {"pay": pay, "collect": lambda event: None}, play


def one_event_published_twice(clock: ManualClock) -> Any:
    """The same id is the same event."""

    def play(band: ensemble.Band) -> None:
        assert band.publish("said", 1, id="a") == band.publish("said", 2, id="a")
        band.publish_many([{"topic": "said", "data": 3, "id": "a"}, {"topic": "said", "data": 4, "id": "b"}])
        band.settle()

    return {"hear": {"on": "said"}}, {"hear": lambda event: None}, play


def an_event_said_later(clock: ManualClock) -> Any:
    """`emit(after=)` sets a timer, which is recorded when it is set and when it fires."""

    def remind(event: Event) -> Any:
        return emit("reminder", after="5m")

    def play(band: ensemble.Band) -> None:
        band.publish("meeting", key="ann")
        band.settle()
        clock.advance(minutes=10)

    return {"remind": {"on": "meeting", "emits": ["reminder"]}}, {"remind": remind}, play


WORD = re.compile(r"(?P<topic>[a-z]+)(?:@(?P<key>\w+))?(?:~(?P<minute>\d+))?(?::(?P<data>.+))?")


def hears(motif: Any, *said: str) -> Script:
    """What a player with this motif hears of events a minute apart; of `-` a minute passes.

    Shapes: `a@bob~3:5` is an event a of the key bob (else ann), which its publisher says was in minute 3, with the data 5.
    """

    def script(clock: ManualClock) -> Any:
        def play(band: ensemble.Band) -> None:
            for word in said:
                if (found := WORD.fullmatch(word)) is not None:
                    time = f"2026-01-01T00:{int(found['minute']):02}:00Z" if found["minute"] else None
                    data = json.loads(found["data"]) if found["data"] else None
                    band.publish(found["topic"], data, key=found["key"] or "ann", time=time)
                clock.advance(minutes=1)

        return {"ear": {"on": motif}}, {"ear": lambda match: None}, play

    return script


def named(name: str, motif: Any, *said: str, motifs: dict[str, Any] | None = None) -> Script:
    script = hears(motif, *said)
    script.__name__ = name
    MOTIFS[name] = motifs or {}
    return script


MOTIFS: dict[str, dict[str, Any]] = {}
"""The motifs with a name, by script."""


OPERATORS: list[Script] = [
    named("motif_seq_within", {"seq": ["a", "b"], "within": "3m"}, "a", "c", "b", "a", "-", "-", "b"),
    named("motif_not_between", {"seq": ["a", {"not": "b"}, "c"]}, "a", "b", "c", "a", "c"),
    named("motif_absence", {"seq": ["a", {"not": "b"}], "within": "2m"}, "a", "b", "a", "-", "-"),
    named("motif_next", {"seq": ["a", {"next": "b"}]}, "a", "a", "b", "a", "b"),
    named("motif_optional", {"seq": ["a", {"optional": "b"}, "c"]}, "a", "b", "c", "a", "c"),
    named("motif_range", {"seq": [{"count": {"event": "a", "as": "all"}, "times": "2..3"}, "b"]}, "a", "b", "a", "b"),
    named("motif_all", {"all": ["a", "b"], "within": "5m"}, "b", "a", "a", "b"),
    named("motif_any", {"any": [{"seq": ["a", "b"]}, {"count": "c", "times": 2}]}, "c", "a", "b", "c", "c"),
    named("motif_count", {"count": "a", "times": 3, "within": "4m"}, "a", "-", "-", "a", "a", "a"),
    named("motif_no_skip", {"seq": ["a", "b"], "after": "no-skip"}, "a", "a", "b"),
    named("motif_tumbling", {"every": "2m", "of": "a"}, "a", "a", "a", "-", "-"),
    named("motif_sliding", {"every": "1m", "sliding": "2m", "of": "a"}, "a", "a", "-", "-"),
    named("motif_session", {"gap": "2m", "of": "a"}, "a", "a", "-", "-", "a", "-", "-"),
    named(
        "motif_where_between_events",
        {"seq": [{"event": "a", "as": "low"}, {"event": "a", "as": "high", "where": "high.data > 2 * low.data"}]},
        "a:2", "a:3", "a:5",
    ),
    named("motif_where_of_all", {"all": ["a", {"event": "b", "where": "data > 3"}]}, "b:2", "a", "b:5"),
    named("motif_count_range", {"count": "a", "times": "2..3", "within": "3m"}, "a", "a", "-", "-", "a", "a", "a"),
    named("motif_next_is_broken", {"seq": ["a", {"next": {"event": "a", "where": "data > 3"}}]}, "a:1", "a:2", "a:5"),
    named("motif_key", {"count": "a", "times": 2}, "a", "a@bob", "a"),
    named("motif_by", {"count": "a", "times": 2, "by": "card"}, 'a:{"card":7}', 'a:{"card":8}', 'a@bob:{"card":7}'),
    named("motif_of_a_motif", {"seq": ["pair", "c"]}, "b", "c", "a", "c", motifs={"pair": {"all": ["a", "b"]}}),
    named(
        "motif_event_time",
        {"seq": ["a", "b"], "within": "10m", "time": "event", "lateness": "5m"},
        "b~8", "a~3", "b~20", "a~14", "b~40",
    ),
    named("motif_absence_in_event_time", {"seq": ["a", {"not": "b"}], "within": "9m", "time": "event"}, "a~1", "-", "a@bob~12"),
    named("motif_overflow", {"seq": ["a", "b"], "most": 1}, "a", "a@bob", "b", "b@bob"),
]  # fmt: skip


SCRIPTS: list[Script] = [
    a_chain_of_two,
    a_key_waits_for_its_failing_event,
    a_dead_letter_is_heard_again,
    a_held_key_waits,
    a_failure_that_is_answered,
    one_event_published_twice,
    an_event_said_later,
    *OPERATORS,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_log_reads_as_it_is_written_down(script: Script, request: pytest.FixtureRequest) -> None:
    clock = ManualClock()
    players, calls, play = script(clock)
    url = f"memory:trace-{script.__name__}"
    document = {"ensemble": 1, "name": "trace", "players": players, "motifs": MOTIFS.get(script.__name__, {})}

    with ensemble.open(document, store=url, players=calls, clock=clock) as band:
        play(band)
    log = read_log(url)
    text = "\n".join(line for frame in log.frames() for line in told(frame, clock)) + "\n"

    file = HERE / f"{script.__name__}.txt"
    if request.config.getoption("--regenerate"):
        file.write_text(text)
    assert text == file.read_text()


def told(frame: Frame, clock: ManualClock) -> Iterator[str]:
    """A frame as lines: its events, then its marks."""
    seconds = frame.time_us / 1e6 - ManualClock().now_us() / 1e6
    yield f"frame {frame.seq} at {seconds:g} s"
    for ix in range(frame.count):
        assert frame.rows is not None
        event = frame.rows.event(ix)
        parts = frame.rows.parts(ix)
        if parts:
            made_of = ", ".join(map(str, parts))
            yield f"    {event.offset} {event.topic} [{event.key}] {json.dumps(event.data)} made of {made_of}"
            continue
        cause = "" if event.causationid is None else f" because of {event.causationid.rpartition('-')[2]}"
        data = event.data
        if isinstance(data, dict) and "traceback" in data:  # which names files of this machine
            data = {**data, "traceback": "..."}
        own = event.time - event.written_at
        of = f" of {seconds + own.total_seconds():g} s" if own and event.causationid is None else ""
        yield f"    {event.offset} {event.topic} [{event.key}] {json.dumps(data)} by {event.source}{cause}{of}"
    for name, mark in frame.marks.items():
        if name != "score":
            yield f"    {name}: {json.dumps(mark, default=str)}"
