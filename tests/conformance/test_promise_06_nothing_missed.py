"""Promise 6. A section that was down, slow or new hears everything since its place in the log."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from ensemble import Event
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, eventually, part

WINDOW = 4096
"""What a stage takes off the log at once."""


def backlog(stand: Stand) -> int:
    """Far more than a window; where every hearing is told to another process, a little more."""
    return stand.size(5 * WINDOW, WINDOW + 500)


class Listener:
    def __init__(self) -> None:
        self.heard: list[Any] = at_home([])

    def hear(self, event: Event) -> None:
        self.heard.append(event.data)

    def hear_all(self, events: list[Event]) -> None:
        self.heard += [event.data for event in events]

    async def hear_later(self, event: Event) -> None:
        self.heard.append(event.data)


def test_a_new_section_hears_from_the_start(stand: Stand) -> None:
    listener = Listener()
    stand.play().publish_many(range(10), topic="said")

    band = stand.play({"late": part(listener.hear, "said")})
    band.publish("said", 10)
    band.settle(30)

    assert listener.heard == list(range(11))


def test_a_new_section_that_says_from_now_hears_what_comes_after_it(stand: Stand) -> None:
    listener = Listener()
    late = {"late": part(listener.hear, "said", from_="now")}
    stand.play().publish_many(range(10), topic="said")

    band = stand.play(late)
    band.publish("said", 10)
    band.settle(30)
    assert listener.heard == [10]
    assert band.status().sections["late"].lag == 0

    stand.leave()
    stand.play().publish("said", 11)  # said while it is away: it has its place now, and hears it
    stand.play(late).settle(30)
    assert listener.heard == [10, 11]


def test_a_section_that_was_away_goes_on_where_it_was(stand: Stand) -> None:
    listener = Listener()
    parts = {"hear": part(listener.hear, "said")}
    band = stand.play(parts)
    band.publish_many(range(5), topic="said")
    band.settle(30)

    stand.play().publish_many(range(5, 10), topic="said")
    band = stand.play(parts)
    band.settle(30)

    assert listener.heard == list(range(10))
    assert band.status().sections["hear"].heard == 10


@pytest.mark.parametrize("how", ["hear", "hear_all", "hear_later"])
def test_a_backlog_far_larger_than_a_window_is_heard_whole_and_in_order(stand: Stand, how: str) -> None:
    listener = Listener()
    count = backlog(stand)
    stand.play().publish_many(range(count), topic="said")

    band = stand.play({"late": part(getattr(listener, how), "said")})
    band.settle(60)

    assert listener.heard == list(range(count))


def test_a_slow_section_misses_nothing_while_others_run_ahead(stand: Stand) -> None:
    slow, fast = Listener(), Listener()
    go = at_home(threading.Event())
    count = backlog(stand)

    def hear_slowly(event: Event) -> None:
        go.wait(30)
        slow.hear(event)

    band = stand.play({"slow": part(hear_slowly, "said", section={"max": 2}), "fast": part(fast.hear, "said")})
    band.publish_many({"topic": "said", "key": "one", "data": n} for n in range(count))
    eventually(lambda: len(fast.heard) == count, "the fast section's end")
    assert slow.heard == []
    assert band.status().sections["slow"].lag == count

    go.set()
    band.settle(60)

    assert slow.heard == list(range(count))
    assert band.status().sections["slow"].lag == 0


def test_what_concerns_nobody_is_passed_over_and_counted_as_no_lag(stand: Stand) -> None:
    listener = Listener()
    band = stand.play({"hear": part(listener.hear, {"event": "said", "where": "data > 7"})})

    band.publish_many(range(10), topic="said")
    band.publish_many(range(10), topic="whispered")
    band.settle(30)

    assert listener.heard == [8, 9]
    assert band.status().sections["hear"].lag == 0
    stand.leave()
    with stand.reader() as reader:
        assert reader.status().sections["hear"].lag == 0


def test_a_condition_on_what_is_not_there_is_false_and_no_error(stand: Stand) -> None:
    listener = Listener()
    band = stand.play({"hear": part(listener.hear, {"event": "said", "where": "data.total > 7"})})

    band.publish("said", {"total": 8})
    band.publish("said", {})
    band.publish("said", "eight")
    band.publish("said", None)
    band.settle(30)

    assert listener.heard == [{"total": 8}]
    assert band.dead() == []


def test_every_listener_of_an_event_hears_it(stand: Stand) -> None:
    listeners = [Listener() for _ in range(5)]
    patterns: list[Any] = ["order.placed", "order.*", ">", ["user.>", "order.placed"], {"event": "order.placed"}]
    band = stand.play({f"p{n}": part(each.hear, patterns[n]) for n, each in enumerate(listeners)})

    band.publish("order.placed", 1)
    band.settle(30)

    assert [each.heard for each in listeners] == [[1]] * 5


def test_the_bands_own_events_are_heard_only_by_who_asks_for_them_by_name(stand: Stand) -> None:
    everything, own = Listener(), Listener()

    def fail(event: Event) -> None:
        raise ValueError("no")

    band = stand.play(
        {
            "fail": part(fail, "said", retry={"attempts": 1}),
            "everything": part(everything.hear, ">"),
            "own": part(own.hear, "_band.dead"),
        }
    )

    band.publish("said", 1)
    band.settle(30)

    assert everything.heard == [1]
    assert [letter["player"] for letter in own.heard] == ["fail"]
