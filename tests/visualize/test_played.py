"""What was played, laid over what was declared: counts, failures, lag, and what is in one of them alone, at any moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import ensemble
from ensemble.history import hearings_by_place
from ensemble.testing import ManualClock
from tests.conformance.stand import eventually
from tests.visualize.geometry import faults
from visualize.graph import nodes, reaction_graph
from visualize.picture import Block, Stroke
from visualize.played import lay_over
from visualize.reaction import reaction_picture


def charge(order: ensemble.Event) -> Any:
    if order.data["total"] > 1000:
        raise ensemble.Reject("too much")
    return ensemble.emit("payment.captured", total=order.data["total"])


def ship(payment: ensemble.Event, ctx: ensemble.Context) -> Any:
    if ctx.attempt == 1:
        raise ValueError("not yet")
    return ensemble.emit("order.shipped")


def remind(event: ensemble.Event) -> Any:
    return ensemble.emit("order.reminded", after="1h")


PLAYERS: dict[str, Callable[..., Any]] = {"payment": charge, "shipping": ship, "late": remind, "great": lambda event: None}
SCORE = {
    "ensemble": 1,
    "name": "shop",
    "events": {"order.placed": {}, "order.never": {}},
    "motifs": {"done": {"all": ["payment.captured", "order.shipped"]}},
    "players": {
        "payment": {"on": "order.placed", "emits": ["payment.captured"]},
        "shipping": {"on": "payment.captured", "emits": ["order.shipped"], "retry": {"first": "20s", "jitter": 0}},
        "late": {"on": "done", "emits": ["order.reminded"]},
        "great": {"on": {"event": "order.placed", "where": "data.total > 10"}},
    },
}


@pytest.fixture
def band() -> Iterator[ensemble.Band]:
    """A shop that has played three orders: one of them a dead letter, the others shipped at the second attempt."""
    clock = ManualClock()
    with ensemble.open(SCORE, store="memory:", players=PLAYERS, clock=clock) as band:
        for total in (5, 50, 5000):
            band.publish("order.placed", {"total": total}, key=f"o-{total}")
            clock.advance(seconds=1)
        band.settle()
        clock.advance(minutes=2)
        band.settle()
        yield band


def test_hearings_tell_who_heard_what_and_how_it_ended(band: ensemble.Band) -> None:
    past = band.history()

    told = {
        (event.topic, event.key): [
            (each.player, each.attempt, each.outcome) for each in hearings_by_place(past).get((0, event.offset), [])
        ]
        for event in past.events
    }
    assert told["order.placed", "o-5"] == [("payment", 1, "heard")]
    assert sorted(told["order.placed", "o-50"]) == [("great", 1, "heard"), ("payment", 1, "heard")]
    assert ("payment", 1, "dead") in told["order.placed", "o-5000"]
    assert told["payment.captured", "o-5"] == [("shipping", 1, "failed"), ("shipping", 2, "heard")]


def test_waiting_lies_before_work_and_both_after_the_event(band: ensemble.Band) -> None:
    past = band.history()
    written = {(0, event.offset): event.written_at.timestamp() * 1e6 for event in past.events}

    for hearing in past.hearings:
        assert hearing.began_us is not None
        assert written[hearing.place] <= hearing.began_us <= hearing.ended_us


def test_history_agrees_with_status(band: ensemble.Band) -> None:
    past, status = band.history(), band.status()

    assert past.topics == status.topics
    for name, section in status.sections.items():
        heard = [hearing for hearing in past.hearings if hearing.player == name]
        assert sum(hearing.outcome == "heard" for hearing in heard) == section.heard == past.sections[name].heard
        assert sum(hearing.outcome != "heard" for hearing in heard) == section.failed == past.sections[name].failed


def test_edges_count_what_went_over_them(band: ensemble.Band) -> None:
    _, played = lay_over(reaction_graph(band.score, players=PLAYERS), band.history())

    assert played.count["event:order.placed", "player:payment"] == 3
    assert played.count["player:payment", "event:payment.captured"] == 2
    assert played.count["event:order.placed", "motif:@great"] == played.count["motif:@great", "player:great"] == 2
    assert played.count["event:order.shipped", "motif:done"] == 2
    assert played.count["motif:done", "player:late"] == 2


def test_failures_dead_letters_and_counts_are_told_by_player(band: ensemble.Band) -> None:
    _, played = lay_over(reaction_graph(band.score, players=PLAYERS), band.history())

    assert played.rate == {"player:payment": 1 / 3, "player:shipping": 1 / 2}
    assert played.dead["player:payment"] == 1
    assert played.badges["player:shipping"] == "2 heard · 2 failed"
    assert played.badges["event:order.placed"] == "3"


def test_what_was_never_seen_is_pale(band: ensemble.Band) -> None:
    graph, played = lay_over(reaction_graph(band.score, players=PLAYERS), band.history())

    assert {id for id, _ in nodes(graph)} - played.seen == {"event:order.never", "event:order.reminded"}
    fills = {
        part.id: mark.fill
        for part in reaction_picture(graph, played).parts
        for mark in part.marks[:1]
        if isinstance(mark, Block)
    }
    assert (fills["event:order.never"], fills["event:order.placed"]) == ("unseen.fill", "event.fill")


def test_what_was_never_declared_is_red(band: ensemble.Band) -> None:
    band.publish("order.unheard_of", {}, key="x")
    less = {**SCORE, "players": {"payment": SCORE["players"]["payment"]}}  # type: ignore[index]

    graph, played = lay_over(reaction_graph(ensemble.load(less)), band.history())

    assert played.undeclared == {
        "event:order.unheard_of", "player:shipping", "player:late", "player:great",
    }  # fmt: skip
    drawn = {part.id: part.marks[0] for part in reaction_picture(graph, played).parts}
    box, line = drawn["player:shipping"], drawn["event:payment.captured>player:shipping"]
    assert isinstance(box, Block) and box.line == "undeclared"
    assert isinstance(line, Stroke) and line.line == "undeclared"


def test_the_same_picture_is_drawn_of_any_moment(band: ensemble.Band) -> None:
    graph = reaction_graph(band.score, players=PLAYERS)
    end = band.status().events

    counts = []
    for until in range(end + 1):
        laid, played = lay_over(graph, band.history(until=until))
        assert faults(reaction_picture(laid, played)) == []
        counts.append(played.count.get(("event:order.placed", "player:payment"), 0))

    assert counts[0] == 0 and counts[-1] == 3
    assert counts == sorted(counts)


def test_a_moment_may_be_a_time(band: ensemble.Band) -> None:
    events = band.history().events

    past = band.history(until=events[1].written_at)

    assert [event.id for event in past.events] == [event.id for event in events if event.written_at < events[1].written_at]


def test_batches_that_end_out_of_order_are_counted_once() -> None:
    async def slow(event: ensemble.Event) -> Any:
        await asyncio.sleep(0.002 * (event.offset % 5))
        return ensemble.emit("payment.captured", total=1)

    with ensemble.open(SCORE, store="memory:", players={**PLAYERS, "payment": slow}) as band:
        band.publish_many({"topic": "order.placed", "key": f"o-{i}", "data": {"total": i}} for i in range(200))
        until_heard(band, "payment", 200)
        past = band.history()

    heard = [each for each in past.hearings if each.player in ("payment", "great")]
    assert len({(each.player, each.place) for each in heard}) == len(heard) == 200 + 189


def until_heard(band: ensemble.Band, player: str, count: int) -> None:
    eventually(lambda: band.status().sections[player].heard == count and band.status().sections["great"].lag == 0)
