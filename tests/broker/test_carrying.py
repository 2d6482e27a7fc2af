"""What the shards of a band know is carried over into another number of shards."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.broker import Listener, Policy, State
from ensemble.broker.carrying import TABLE_BYTES, Carrying
from ensemble.errors import Unavailable
from ensemble.event import Frame, encode
from ensemble.score.model import RetryPolicy
from tests.broker.several import Log, Shards, words
from tests.broker.test_outbox import HERE, HOLD, THERE, TWICE, by_lane

DEAD = Policy(RetryPolicy(attempts=1))


def carried(band: Shards, into: int) -> Shards:
    """The band in another number of shards, not yet played."""
    states = [broker.state for broker in band.brokers]
    carrying = Carrying(states, band.log_ids, [f"new{number}" for number in range(into)])
    logs = [Log() for _ in range(into)]
    for shard, log in enumerate(band.logs):
        carrying.look(shard, [frame for frame in log.frames if frame.rows is not None])
    carrying.begin()
    frames = [(frame.time_us, shard, frame) for shard, log in enumerate(band.logs) for frame in log.frames if frame.count]
    for _, shard, frame in sorted(frames, key=lambda each: each[:2]):
        for moved in carrying.move(shard, frame):
            logs[moved.shard].frames.append(Frame(moved.rows.first, frame.time_us, moved.rows, {}))
    ends = [log.frames[-1].end if log.frames else 0 for log in logs]
    for shard, marks in enumerate(carrying.carried()):
        logs[shard].frames.append(Frame(ends[shard], band.now, None, marks))
    for shard, marks in carrying.tables():
        logs[shard].frames.append(Frame(ends[shard], band.now, None, marks))
    for log in logs:
        log.durable = len(log.frames)
    made = Shards(into, band.given, band.policies, band.overlapping, logs, carrying.new_ids)
    made.now = band.now
    return made


def sent(policy: Policy, fails: int) -> Shards:
    """An event whose lane lies elsewhere was sent there, and its section has failed at the copy so often."""
    band = Shards(2, {"by": Listener([("said", None)], by=by_lane)}, {"by": policy})
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    band.look(0)
    band.forward(0, "by")
    band.flush(0)
    band.exchange()
    for _ in range(fails):
        batch = band.take(1, "by")
        assert batch is not None
        band.hear(1, batch, fails=list(batch.offsets))
        band.flush(1)
    return band


def test_an_event_is_unheard_where_its_copy_is() -> None:
    section = carried(sent(TWICE, 0), 1).brokers[0].state.sections["by"]

    assert (section.position, section.open, section.unasked) == (1, {0}, set())


def test_attempts_at_a_copy_are_attempts_at_the_event() -> None:
    section = carried(sent(TWICE, 1), 1).brokers[0].state.sections["by"]

    assert section.attempts == {0: (1, 1_001_000)}
    assert section.open == {0}


@pytest.mark.parametrize(("policy", "held"), [(DEAD, set()), (HOLD, {0})])
def test_a_copy_that_died_is_the_event_that_died(policy: Policy, held: set[int]) -> None:
    band = carried(sent(policy, 1), 1)
    section = band.brokers[0].state.sections["by"]

    assert (section.dead, section.held, section.open) == ({0: 1}, held, held)
    assert band.logs[0].event(1).topic == "_band.dead"


def turned(policy: Policy, *, arrives: bool) -> Shards:
    """An event that its section had failed at, which then came to hear it elsewhere."""
    band = Shards(2, {"by": Listener([("said", None)])}, {"by": policy})
    band.publish(0, words(("said", HERE, {"lane": THERE})))
    band.flush(0)
    batch = band.take(0, "by")
    assert batch is not None
    band.hear(0, batch, fails=[0])
    band.flush(0)
    band = Shards(2, {"by": Listener([("said", None)], by=by_lane)}, {"by": policy}, logs=band.logs)
    band.look(0)
    band.forward(0, "by")
    band.flush(0)
    if arrives:
        band.exchange()
    return band


@pytest.mark.parametrize("arrives", [False, True])
def test_what_a_copy_brought_along_is_carried_over_on_its_way_and_where_it_arrived(arrives: bool) -> None:
    tried = carried(turned(TWICE, arrives=arrives), 1).brokers[0].state.sections["by"]
    held = carried(turned(HOLD, arrives=arrives), 1).brokers[0].state.sections["by"]

    assert (tried.attempts, tried.open) == ({0: (1, 1_001_000)}, {0})
    assert (held.dead, held.held, held.open) == ({0: 1}, {0}, {0})


def test_what_nobody_had_come_to_is_asked_about_where_others_had_gone_further() -> None:
    """One shard was behind: its events lie before those of the other that were heard."""
    hears = {"picky": Listener([("said", lambda event: event.data != "no")])}
    band = Shards(2, hears)
    band.publish(0, words(("said", HERE, "no"), ("said", HERE, "yes")))
    band.now += 1
    band.publish(1, words(("said", THERE, "heard")))
    for number in (0, 1):
        band.flush(number)
    batch = band.take(1, "picky")
    assert batch is not None
    band.hear(1, batch)
    band.flush(1)

    band = carried(band, 1)
    section = band.brokers[0].state.sections["picky"]
    before = (section.position, set(section.open), set(section.unasked))
    heard: list[Any] = []

    def play(number: int, batch: Any) -> None:
        heard.extend(event.data for event in band.events(number, batch))
        band.hear(number, batch)

    band.settle(play)
    band.keep(0, band.brokers[0].rest(band.now))

    assert before == (3, {0, 1}, {0, 1})
    assert heard == ["yes"]
    assert (section.open, section.unasked, band.brokers[0].lag("picky")) == (set(), set(), 0)


def test_tables_go_where_their_keys_belong_in_pieces() -> None:
    band = Shards(1, {"play": Listener([("said", None)])})
    band.publish(0, words(*[("said", key, 1) for key in (HERE, THERE)]))
    band.flush(0)
    batch = band.take(0, "play")
    assert batch is not None
    large = encode(b"x" * TABLE_BYTES)
    band.hear(0, batch, wrote={HERE: large, THERE: encode(2)})
    band.flush(0)

    tables = [broker.state.sections["play"].table for broker in carried(band, 2).brokers]

    assert tables == [{HERE: large}, {THERE: encode(2)}]


def test_score_plan_and_places_are_the_first_shards() -> None:
    states = [
        State(score={"name": "shop"}, plan=b"plan", places={"orders": [1]}),
        State(places={"orders": [0], "more": [2]}),
    ]
    carrying = Carrying(states, ["a", "b"], ["c", "d", "e"])
    carrying.begin()

    marks = carrying.carried()

    assert [each["score"] for each in marks] == [{"name": "shop"}] * 3
    assert [each["plan"] for each in marks] == [b"plan"] * 3
    assert [each.get("place") for each in marks] == [{"orders": [1], "more": [2]}, None, None]


@pytest.mark.parametrize(("begins", "position"), [("now", 1), ("start", 0)])
def test_a_section_that_one_shard_does_not_know_yet_begins_there_as_the_score_says(begins: str, position: int) -> None:
    """It was killed before it had opened all of its shards."""
    band = Shards(2, {})
    band.publish(1, words(("said", THERE, 1)))
    band.flush(1)
    known, unknown = (broker.state for broker in band.brokers)
    known.sections["new"] = State().section("new")
    known.sections["new"].patterns = ("said",)
    known.score = {"players": {"new": {"on": "said", "from": begins}}}

    section = carried(band, 1).brokers[0].state.sections["new"]

    assert section.position == position
    assert "new" not in unknown.sections or unknown.sections["new"].position == 0


def test_a_shard_whose_log_has_lost_its_end_is_not_carried_over() -> None:
    band = Shards(2, {})
    for n in range(2):
        band.publish(0, words(("said", THERE, n)))
    band.flush(0)
    band.exchange()
    band.logs[1] = Log()
    band.open(1)

    with pytest.raises(Unavailable) as refused:
        carried(band, 3)

    assert str(refused.value) == (
        "shard 1 has taken 0 parcels of shard 0, which has made 2 and knows that 2 have arrived: one of their logs has lost "
        "its end; restore it from a copy of the store"
    )
