"""Promise 8. Retries hold back later events of the same key and nothing else; what can't be heard becomes a dead letter."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest

from ensemble import Event, Reject, Retry, emit
from ensemble.testing import ManualClock
from tests.conformance.home import at_home
from tests.conformance.stand import Stand, eventually, part

STEADY = {"attempts": 4, "first": "100ms", "factor": 2, "most": "1m", "jitter": 0}
SOON = {"attempts": 4, "first": "5ms", "factor": 1, "jitter": 0}
OFTEN = {**SOON, "attempts": 1000, "first": "20ms"}
ONCE = {"attempts": 1}


class Fragile:
    """Fails on events whose data says so, until it is mended; notes what it heard and when it tried."""

    def __init__(self) -> None:
        self.heard: list[Any] = at_home([])
        self.tried: list[tuple[Any, int, datetime]] = at_home([])
        self._mended = at_home(threading.Event())
        self.error: Callable[[], Exception] = lambda: ValueError("no such card")

    @property
    def is_mended(self) -> bool:
        return self._mended.is_set()

    def mend(self) -> None:
        self._mended.set()

    def hear(self, event: Event, ctx: Any) -> None:
        self.tried.append((event.data, ctx.attempt, ctx.now))
        if str(event.data).startswith("bad") and not self.is_mended:
            raise self.error()
        self.heard.append(event.data)

    async def hear_later(self, event: Event, ctx: Any) -> None:
        self.hear(event, ctx)

    def hear_all(self, events: list[Event]) -> None:
        bad = [event.data for event in events if str(event.data).startswith("bad")]
        if bad and not self.is_mended:
            raise self.error()
        self.heard += [event.data for event in events]


BY_HAND = pytest.mark.solo("a clock moved by hand: it is about exact moments")
HEARING = ["hear", "hear_later", "hear_all"]


@pytest.fixture
def fragile() -> Fragile:
    return Fragile()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@BY_HAND
def test_attempts_come_after_first_times_factor_and_no_later_than_most(
    stand: Stand, fragile: Fragile, clock: ManualClock
) -> None:
    policy = {"attempts": 6, "first": "100ms", "factor": 3, "most": "1s", "jitter": 0}
    band = stand.play({"hear": part(fragile.hear, "said", retry=policy)}, clock=clock)
    band.publish("said", "bad", key="a")
    band.settle()

    clock.advance(minutes=1)

    moments = [now for _, _, now in fragile.tried]
    waits = [later - earlier for earlier, later in pairwise(moments)]
    assert waits == [timedelta(milliseconds=ms) for ms in (100, 300, 900, 1000, 1000)]
    assert [attempt for _, attempt, _ in fragile.tried] == [1, 2, 3, 4, 5, 6]


@BY_HAND
def test_jitter_spreads_the_attempts_within_its_share(stand: Stand, fragile: Fragile, clock: ManualClock) -> None:
    policy = {"attempts": 2, "first": "1s", "jitter": 0.5}
    band = stand.play({"hear": part(fragile.hear, "said", retry=policy)}, clock=clock)
    began = clock.now()
    for number in range(40):
        band.publish("said", f"bad {number}", key=str(number))
    band.settle()

    clock.advance(minutes=1)

    waits = {now - began for _, attempt, now in fragile.tried if attempt == 2}
    assert len(waits) > 20
    assert timedelta(seconds=0.5) <= min(waits) < timedelta(seconds=0.75)
    assert timedelta(seconds=1.25) < max(waits) <= timedelta(seconds=1.5)


@pytest.mark.one_shard("events of different keys are heard in the order of the log")
@pytest.mark.parametrize("how", HEARING)
def test_later_events_of_the_key_wait_and_all_other_keys_go_on(stand: Stand, fragile: Fragile, how: str) -> None:
    band = stand.play({"hear": part(getattr(fragile, how), "said", retry=OFTEN)})

    band.publish_many({"topic": "said", "key": data[-1], "data": data} for data in ("bad a", "then a", "1 b", "2 c", "last a"))
    eventually(lambda: len(fragile.heard) == 2 and band.status().sections["hear"].waiting == 1, "the hearing of the other keys")
    assert fragile.heard == ["1 b", "2 c"]

    fragile.mend()
    band.settle(30)

    assert fragile.heard == ["1 b", "2 c", "bad a", "then a", "last a"]
    assert band.status().sections["hear"].lag == 0
    assert band.dead() == []


@pytest.mark.parametrize("how", HEARING)
def test_when_attempts_are_used_up_the_event_is_a_dead_letter_and_its_key_goes_on(
    stand: Stand, fragile: Fragile, how: str
) -> None:
    band = stand.play({"hear": part(getattr(fragile, how), "said", retry=SOON)})
    receipt = band.publish("said", "bad a", key="a")
    band.publish("said", "then a", key="a")

    band.settle(30)

    [letter] = band.dead()
    assert (letter.id, letter.player, letter.attempts, letter.held) == (receipt.id, "hear", 4, False)
    assert letter.event.data == "bad a"
    assert letter.error == "ValueError: no such card"
    assert "raise self.error()" in letter.traceback
    assert letter.traceback.rstrip().endswith("ValueError: no such card")
    assert letter.at - letter.event.written_at >= timedelta(milliseconds=15)
    assert fragile.heard == ["then a"]
    section = band.status().sections["hear"]
    assert (section.dead, section.failed, section.heard, section.lag) == (1, 4, 1, 0)


def test_a_dead_letter_is_told_as_an_event_caused_by_the_one_that_failed(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry={"attempts": 1})})
    receipt = band.publish("said", "bad", key="a")
    band.settle(30)

    [told] = band.events("_band.dead")

    assert (told.causationid, told.key, told.source) == (receipt.id, "a", "/test/hear")
    assert {name: told.data[name] for name in ("player", "offset", "topic", "attempts", "error")} == {
        "player": "hear",
        "offset": receipt.offset,
        "topic": "said",
        "attempts": 1,
        "error": "ValueError: no such card",
    }


@pytest.mark.one_shard("events of different keys are heard in the order of the log")
def test_in_a_batch_one_poison_event_does_not_spoil_the_others(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear_all, "said", retry=SOON)})
    data = [f"good {n}" if n not in (5, 38) else f"bad {n}" for n in range(60)]

    band.publish_many({"topic": "said", "key": each, "data": each} for each in data)
    band.settle(30)

    assert fragile.heard == [each for each in data if each.startswith("good")]
    assert {letter.event.data for letter in band.dead()} == {"bad 5", "bad 38"}
    assert [letter.attempts for letter in band.dead()] == [4, 4]


@pytest.mark.one_shard("events of different keys are heard in the order of the log")
def test_in_a_batch_the_key_of_the_poison_event_waits_for_it_and_stays_in_order(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear_all, "said", retry=OFTEN)})

    band.publish_many(
        {"topic": "said", "key": data[0], "data": data[2:]} for data in ("a 1", "a bad 2", "a 3", "b 1", "a 4", "b 2")
    )
    eventually(lambda: len(fragile.heard) >= 3, "the hearing of the others")
    assert fragile.heard == ["1", "1", "2"]

    fragile.mend()
    band.settle(30)

    assert fragile.heard == ["1", "1", "2", "bad 2", "3", "4"]


def test_what_a_batch_player_said_for_the_others_is_said_once(stand: Stand) -> None:
    def hear(events: list[Event]) -> Any:
        if any(event.data == "bad" for event in events):
            raise ValueError("no")
        return [emit("echoed", event.data) for event in events]

    band = stand.play({"hear": part(hear, "said", emits=["echoed"], retry={"attempts": 2})})

    band.publish_many({"topic": "said", "key": str(n), "data": "bad" if n == 3 else n} for n in range(10))
    band.settle(30)

    assert sorted(event.data for event in band.events("echoed")) == [n for n in range(10) if n != 3]
    assert {event.key: event.causationid for event in band.events("echoed")} == {
        event.key: event.id for event in band.events("said") if event.data != "bad"
    }


@pytest.mark.parametrize("how", HEARING)
def test_reject_makes_a_dead_letter_at_once(stand: Stand, fragile: Fragile, how: str) -> None:
    fragile.error = lambda: Reject("we do not serve Mars")
    band = stand.play({"hear": part(getattr(fragile, how), "said", retry=SOON)})

    band.publish("said", "bad", key="a")
    band.settle(30)

    [letter] = band.dead()
    assert letter.attempts == 1
    assert letter.error == "Reject: we do not serve Mars"


@BY_HAND
@pytest.mark.parametrize(("after", "seconds"), [("5s", 5.0), (2.5, 2.5), ("1m", 60.0), (0, 0.0)])
def test_retry_says_when_to_try_again(
    stand: Stand, fragile: Fragile, clock: ManualClock, after: Any, seconds: float
) -> None:
    fragile.error = lambda: Retry(after=after)
    band = stand.play({"hear": part(fragile.hear, "said", retry=STEADY)}, clock=clock)

    band.publish("said", "bad", key="a")
    band.settle()
    clock.advance(minutes=5)

    moments = [now for _, _, now in fragile.tried]
    assert [later - earlier for earlier, later in pairwise(moments)] == [timedelta(seconds=seconds)] * 3
    assert [letter.attempts for letter in band.dead()] == [4]


@BY_HAND
def test_retry_without_a_time_follows_the_policy(stand: Stand, fragile: Fragile, clock: ManualClock) -> None:
    fragile.error = lambda: Retry("the bank sleeps")
    band = stand.play({"hear": part(fragile.hear, "said", retry=STEADY)}, clock=clock)

    band.publish("said", "bad", key="a")
    band.settle()
    clock.advance(minutes=5)

    moments = [now for _, _, now in fragile.tried]
    assert moments[-1] - moments[0] == timedelta(milliseconds=700)
    assert "the bank sleeps" in band.dead()[0].error


def test_hold_keeps_the_key_waiting_and_nothing_else(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry={"attempts": 1}, on_failure="hold")})

    band.publish_many({"topic": "said", "key": data[-1], "data": data} for data in ("bad a", "then a", "1 b"))
    band.settle(30)

    assert fragile.heard == ["1 b"]
    [letter] = band.dead()
    assert letter.held
    section = band.status().sections["hear"]
    assert (section.held, section.dead, section.lag) == (1, 1, 2)


def test_a_held_key_is_held_after_the_band_is_opened_again_and_goes_on_in_order_when_retried(
    stand: Stand, fragile: Fragile
) -> None:
    parts = {"hear": part(fragile.hear, "said", retry={"attempts": 1}, on_failure="hold")}
    band = stand.play(parts)
    band.publish_many({"topic": "said", "key": data[-1], "data": data} for data in ("bad a", "then a", "1 b"))
    band.settle(30)

    band = stand.play(parts)
    band.publish("said", "last a", key="a")
    band.settle(30)
    assert fragile.heard == ["1 b"]

    fragile.mend()
    assert band.retry_dead("hear") == 1
    band.settle(30)

    assert fragile.heard == ["1 b", "bad a", "then a", "last a"]
    assert band.dead() == []
    assert band.status().sections["hear"].lag == 0


def test_a_dead_letter_can_be_heard_again_with_its_attempts_counted_anew(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry=SOON)})
    band.publish("said", "bad", key="a")
    band.settle(30)
    fragile.tried.clear()

    fragile.mend()
    assert band.retry_dead() == 1
    band.settle(30)

    assert [(data, attempt) for data, attempt, _ in fragile.tried] == [("bad", 1)]
    assert band.dead() == []
    assert band.status().sections["hear"].lag == 0
    assert band.retry_dead() == 0


def test_a_dead_letter_that_fails_again_is_a_dead_letter_again(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry={"attempts": 2})})
    band.publish("said", "bad", key="a")
    band.settle(30)

    band.retry_dead()
    band.settle(30)

    assert [letter.attempts for letter in band.dead()] == [2]
    assert [attempt for _, attempt, _ in fragile.tried] == [1, 2, 1, 2]


def test_dead_letters_are_retried_by_player_and_by_id(stand: Stand) -> None:
    one, two = Fragile(), Fragile()
    once = {"attempts": 1}
    band = stand.play({"one": part(one.hear, "said", retry=once), "two": part(two.hear, "said", retry=once)})
    receipts = [band.publish("said", f"bad {n}", key=str(n)) for n in range(3)]
    band.settle(30)
    assert len(band.dead()) == 6
    assert [letter.player for letter in band.dead("two")] == ["two"] * 3
    one.mend()
    two.mend()

    assert band.retry_dead("one", receipts[1].id) == 1
    band.settle(30)
    assert (one.heard, two.heard) == (["bad 1"], [])
    assert band.retry_dead(id=receipts[0].id) == 2
    band.settle(30)
    assert (one.heard, two.heard) == (["bad 1", "bad 0"], ["bad 0"])
    assert band.retry_dead("two") == 2
    band.settle(30)
    assert [(letter.player, letter.event.data) for letter in band.dead()] == [("one", "bad 2")]


def test_asking_for_the_dead_letters_of_nobody_says_who_there_is(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said")})

    with pytest.raises(KeyError, match=r"no player 'her'.*hear"):
        band.dead("her")
    with pytest.raises(KeyError, match=r"no player 'her'.*hear"):
        band.retry_dead("her")


def test_on_failure_can_say_an_event_instead(stand: Stand, fragile: Fragile) -> None:
    given_up: list[Event] = at_home([])

    def comfort(event: Event) -> None:
        given_up.append(event)

    band = stand.play(
        {
            "hear": part(fragile.hear, "said", retry=SOON, on_failure={"emit": "given.up"}),
            "comfort": part(comfort, "given.up"),
        },
    )
    receipt = band.publish("said", "bad", key="a")
    band.publish("said", "then", key="a")
    band.settle(30)

    [event] = given_up
    assert (event.key, event.causationid, event.correlationid) == ("a", receipt.id, receipt.id)
    assert (event.data["error"], event.data["attempts"], event.data["player"]) == ("ValueError: no such card", 4, "hear")
    assert fragile.heard == ["then"]
    assert band.dead() == []
    assert list(band.events("_band.dead")) == []


@BY_HAND
def test_attempts_and_their_moments_outlive_the_band(stand: Stand, fragile: Fragile, clock: ManualClock) -> None:
    parts = {"hear": part(fragile.hear, "said", retry={"attempts": 3, "first": "10s", "factor": 2, "jitter": 0})}
    began = clock.now()
    stand.play(parts, clock=clock).publish("said", "bad", key="a")

    for _ in range(8):
        band = stand.play(parts, clock=clock)
        band.settle()
        clock.advance(seconds=5)

    assert [(attempt, (now - began).seconds) for _, attempt, now in fragile.tried] == [(1, 0), (2, 10), (3, 30)]
    assert [letter.attempts for letter in band.dead()] == [3]


def test_dead_letters_outlive_the_band_and_can_be_read_without_it(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry={"attempts": 1})})
    band.publish("said", "bad", key="a")
    band.settle(30)
    told = band.dead()

    stand.leave()

    with stand.reader() as reader:
        assert reader.dead() == told
        assert reader.dead("hear") == told


def test_a_retry_in_real_time_happens_without_anything_else_happening(stand: Stand, fragile: Fragile) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry={"attempts": 3, "first": "20ms", "factor": 1})})

    band.publish("said", "bad", key="a")
    band.settle(30)

    assert [attempt for _, attempt, _ in fragile.tried] == [1, 2, 3]
    assert len(band.dead()) == 1


@pytest.mark.parametrize("order", ["none", "all"])
def test_failures_are_retried_whatever_the_order(stand: Stand, fragile: Fragile, order: str) -> None:
    band = stand.play({"hear": part(fragile.hear, "said", retry=OFTEN, order=order)})

    band.publish_many({"topic": "said", "key": data[-1], "data": data} for data in ("bad a", "then a", "1 b"))
    eventually(lambda: any(attempt == 3 for _, attempt, _ in fragile.tried), "the third attempt")
    assert fragile.heard == ([] if order == "all" else ["then a", "1 b"])
    fragile.mend()
    band.settle(30)

    assert fragile.heard == (["bad a", "then a", "1 b"] if order == "all" else ["then a", "1 b", "bad a"])
    assert band.dead() == []
