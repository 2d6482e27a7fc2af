"""A table is made anew from the log by other code, beside the one that plays, and takes its place (docs/rebuild.md)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Context, EnsembleError, Event, PlayerError, Reject, ScoreError, Unavailable, emit
from ensemble.rebuilding import Rebuilding
from ensemble.testing import FaultyLog, ManualClock
from tests.conformance.stand import Publishing, Stand, eventually, part

pytestmark = pytest.mark.solo("a band on Ray is ended before its tables are rebuilt")


def count(event: Event, ctx: Context) -> Any:
    """The old code: it counts by one."""
    ctx.state["n"] = ctx.state.get("n", 0) + 1
    return emit("counted", ctx.state["n"])


def count_tens(event: Event, ctx: Context) -> Any:
    """The new one: by ten."""
    ctx.state["n"] = ctx.state.get("n", 0) + 10
    return emit("counted", ctx.state["n"] // 10)


PARTS = {"count": part(count, "said", emits=["counted"])}


def say(band: ensemble.Band, numbers: range) -> None:
    band.publish_many({"topic": "said", "key": f"k-{n % 3}", "data": n} for n in numbers)
    band.settle(30)


def test_a_table_is_rebuilt_beside_the_live_one_and_takes_its_place(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(6))

    rebuilding = band.rebuild("count", count_tens)
    compared = rebuilding.compare()

    assert compared.heard == 6
    assert compared.changes == {f"k-{n}": ({"n": 2}, {"n": 20}) for n in range(3)}
    assert (compared.answered, compared.differing) == (6, 0), "it says the same"
    assert dict(band.table("count").items()) == {f"k-{n}": {"n": 2} for n in range(3)}, "nothing is changed yet"

    rebuilding.switch()
    assert dict(band.table("count").items()) == {f"k-{n}": {"n": 20} for n in range(3)}
    say(band, range(3))
    assert dict(band.table("count").items()) == {f"k-{n}": {"n": 30} for n in range(3)}, "the new code plays on"
    assert band.status().sections["count"].heard == 9


def test_what_the_switch_writes_is_one_frame_with_the_score(stand: Stand) -> None:
    band = stand.play({"count": part(None, "said", emits=["counted"], play=f"{__name__}:count")})
    say(band, range(6))
    before = len(stand.frames())

    band.rebuild("count", play=f"{__name__}:count_tens").switch()

    [frame] = [frame for frame in stand.frames()[before:] if "wrote" in frame.marks]
    assert set(frame.marks) == {"wrote", "score"}
    assert frame.marks["score"]["players"]["count"]["play"] == f"{__name__}:count_tens"
    assert set(frame.marks["wrote"]["count"]) == {"k-0", "k-1", "k-2"}
    assert band.score.players["count"].play == f"{__name__}:count_tens"


def test_no_event_is_lost_or_heard_twice_while_others_publish(stand: Stand) -> None:
    band = stand.play(PARTS)
    with Publishing(band) as publishing:
        for number in range(4):
            more = publishing.said + 100
            eventually(lambda: publishing.said >= more, "more events")  # noqa: B023 - it is asked here only
            band.rebuild("count", count_tens if number % 2 == 0 else count).switch()
    band.rebuild("count", count_tens).switch()
    band.settle(30)

    assert sum(state["n"] for state in band.table("count").values()) == 10 * publishing.said
    assert band.status().sections["count"].heard == publishing.said
    answers = [event.data for event in band.events("counted", key="k-1")]
    assert len(answers) == sum(event.key == "k-1" for event in band.events("said"))


def test_a_shadow_that_hears_the_same_code_differs_in_nothing(stand: Stand) -> None:
    clock = ManualClock()
    failed: list[int] = []

    def hard(event: Event, ctx: Context) -> Any:
        if event.topic == "reminded":
            return
        if event.data % 5 == 0:
            raise Reject("a five")
        if event.data % 3 == 0 and ctx.attempt == 1:
            failed.append(event.offset)
            raise ValueError("not at first")
        ctx.state["seen"] = [*ctx.state.get("seen", []), event.data, ctx.attempt, str(ctx.now)]
        if event.data == 8:
            ctx.state = None
        yield emit("heard", event.data)
        yield emit("reminded", after="10s")

    on = [{"event": "said", "where": "data != 7"}, "reminded"]
    retry = {"attempts": 3, "first": "2s"}
    hears = part(hard, on, emits=["heard", "reminded"], retry=retry, state={"expire": "1m"})
    band = stand.play({"hard": hears}, clock=clock)
    for number in range(12):
        band.publish("said", number, key=f"k-{number % 2}")
        band.settle()
        clock.advance(seconds=1)
    clock.advance(seconds=30)
    band.retry_dead()
    band.settle()
    assert failed
    assert band.dead()

    with band.rebuild("hard") as rebuilding:
        assert rebuilding.compare().is_same
        clock.advance(minutes=2)
        assert not band.table("hard"), "all of it has expired"
        assert rebuilding.compare().is_same


@pytest.mark.parametrize("kind", ["async", "typed", "several", "reads"])
def test_every_kind_of_player_that_keeps_state_can_be_rebuilt(stand: Stand, kind: str) -> None:
    async def later(event: Event, ctx: Context) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + event.data

    def typed(number: int, ctx: Context) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + number

    def reads(event: Event, ctx: Context) -> None:
        ctx.state["last"] = ctx.tables["base"].get("seen", 0)

    def base(event: Event, ctx: Context) -> None:
        ctx.state["seen"] = event.data

    def plain(event: Event, ctx: Context) -> None:
        ctx.state["n"] = ctx.state.get("n", 0) + event.data

    calls: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
        "async": (later, {}),
        "typed": (typed, {}),
        "several": (plain, {"section": {"max": 4}}),
        "reads": (reads, {"reads": ["base"]}),
    }
    call, says = calls[kind]
    band = stand.play({"base": part(base, "noted"), "it": part(call, "said", **says)})
    band.publish_many({"topic": "noted", "key": f"k-{n}", "data": n} for n in range(5))
    band.settle(30)
    band.publish_many({"topic": "said", "key": f"k-{n % 5}", "data": n} for n in range(200))
    band.settle(30)

    with band.rebuild("it") as rebuilding:
        compared = rebuilding.compare()

    assert compared.is_same, compared
    assert (compared.heard, compared.keys) == (200, 5)


def test_what_is_said_otherwise_now_is_told_and_goes_nowhere(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(4))
    before = band.status().events

    def doubled(event: Event, ctx: Context) -> Any:
        assert ctx.live is False
        ctx.state["n"] = ctx.state.get("n", 0) + 1
        return [emit("counted", ctx.state["n"])] * (2 if event.data == 3 else 1)

    with band.rebuild("count", doubled) as rebuilding:
        compared = rebuilding.compare()

    [saying] = compared.sayings
    assert (compared.differing, len(compared.changes)) == (1, 0)
    assert band.event(saying.event).data == 3
    assert saying.then == (("counted", "k-0", 2),)
    assert saying.now == (("counted", "k-0", 2), ("counted", "k-0", 2))
    assert "was answered counted 2; now counted 2, counted 2" in str(compared)
    assert band.status().events == before


def test_an_event_that_the_new_code_can_not_hear_is_told_and_holds_the_switch_back(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(6))

    def picky(event: Event, ctx: Context) -> None:
        if event.data == 1:
            raise ValueError("one")
        ctx.state["n"] = ctx.state.get("n", 0) + 10

    rebuilding = band.rebuild("count", picky)
    [unheard] = rebuilding.compare().unheard
    assert (unheard.key, unheard.error) == ("k-1", "ValueError: one")
    with pytest.raises(EnsembleError, match="can't hear 1 of the events that it heard before") as refused:
        rebuilding.switch()
    assert "--skip-unheard" in str(refused.value)
    assert band.table("count")["k-1"] == {"n": 2}

    rebuilding.switch(skip_unheard=True)
    assert dict(band.table("count").items()) == {"k-0": {"n": 20}, "k-1": {"n": 10}, "k-2": {"n": 20}}


def test_dead_letters_stay_out_of_the_table_until_they_are_heard_again(stand: Stand) -> None:
    def broken(event: Event, ctx: Context) -> None:
        if event.data == 2:
            raise Reject("two")
        ctx.state["n"] = ctx.state.get("n", 0) + 1

    band = stand.play({"count": part(broken, "said", emits=["counted"])})
    say(band, range(6))

    band.rebuild("count", count_tens).switch()
    assert band.table("count")["k-2"] == {"n": 10}
    band.retry_dead()
    band.settle(30)

    assert band.table("count")["k-2"] == {"n": 20}
    assert band.dead() == []


def test_a_switch_that_can_not_be_written_leaves_all_as_it_was(log_of: Callable[[], FaultyLog], stand_on_disk: Stand) -> None:
    band = stand_on_disk.play(PARTS)
    say(band, range(6))
    rebuilding = band.rebuild("count", count_tens).wait(30)
    log_of().fail_append()

    with pytest.raises(Unavailable, match="No space left"):
        rebuilding.switch()
    band = stand_on_disk.play(PARTS)
    assert dict(band.table("count").items()) == {f"k-{n}": {"n": 2} for n in range(3)}


def test_a_kill_before_the_switch_leaves_the_old_table_and_one_after_it_the_new(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play(PARTS)
    say(band, range(6))
    rebuilding = band.rebuild("count", count_tens).wait(30)

    before = stand_on_disk.as_if_killed()
    rebuilding.switch()
    after = stand_on_disk.as_if_killed()

    assert dict(before.play(PARTS).table("count").items()) == {f"k-{n}": {"n": 2} for n in range(3)}
    before.leave()
    new = {"count": part(count_tens, "said", emits=["counted"])}
    assert dict(after.play(new).table("count").items()) == {f"k-{n}": {"n": 20} for n in range(3)}
    after.leave()


class NeverBuilt:
    def __init__(self) -> None:
        raise ValueError("no model there")

    def __call__(self, event: Event, ctx: Context) -> None: ...


def test_code_that_can_not_be_built_is_refused_and_the_old_plays_on(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(3))

    with pytest.raises(PlayerError, match="no model there"):
        band.rebuild("count", NeverBuilt)

    say(band, range(3))
    assert band.table("count")["k-0"] == {"n": 2}


def all_at_once(events: list[Event]) -> None: ...


def test_what_can_not_be_rebuilt_is_refused_with_what_to_do(stand: Stand) -> None:
    band = stand.play({**PARTS, "whole": part(all_at_once, "said"), "free": part(lambda event: None, "said", order="none")})

    with pytest.raises(KeyError, match="no player 'cuont' plays here; there are count, whole, free"):
        band.rebuild("cuont", count)
    with pytest.raises(ScoreError, match=r"players\.count\.on: a table is rebuilt from what its player has heard"):
        band.rebuild("count", count, on="other")
    with pytest.raises(PlayerError, match="whole hears whole batches, so it keeps no state"):
        band.rebuild("whole")
    with pytest.raises(PlayerError, match="free has order: none, so it keeps no state"):
        band.rebuild("free")


def test_a_closed_rebuilding_and_a_closed_band_say_so(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(3))
    rebuilding = band.rebuild("count", count_tens).wait(30)
    other = band.rebuild("count", count_tens)

    rebuilding.close()

    with pytest.raises(Unavailable, match="was closed; begin another"):
        rebuilding.switch()
    stand.leave()
    with pytest.raises(Unavailable):
        other.switch()


def test_a_player_that_joined_while_the_band_played_can_be_rebuilt(stand: Stand) -> None:
    band = stand.play(PARTS)
    say(band, range(6))
    band.add("more", count, on="said", emits="counted")
    say(band, range(6))
    band.add("late", count, on="said", emits="counted", from_="now")
    say(band, range(6))

    for name, heard in {"count": 18, "more": 18, "late": 6}.items():
        with band.rebuild(name) as rebuilding:
            compared = rebuilding.compare()
        assert (compared.heard, compared.is_same) == (heard, True), compared


def test_a_store_that_is_only_read_can_be_compared_and_not_switched(stand: Stand) -> None:
    from ensemble.ready import ready

    band = stand.play(PARTS)
    say(band, range(6))
    players = ready({"name": "test", "players": {"count": {"on": "said", "emits": "counted"}}}, {"count": count_tens}).players

    with stand.reader() as reader, Rebuilding(players["count"], [shard.log for shard in reader._shards]) as rebuilding:
        assert len(rebuilding.compare().changes) == 3
        with pytest.raises(Unavailable, match="only looked at here"):
            rebuilding.switch()


class Beheaded:
    """A log whose beginning was removed."""

    def __init__(self, log: Any) -> None:
        self._log = log

    def begin(self) -> Any:
        return self._log.end()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)


def test_a_log_whose_beginning_is_gone_is_refused(stand: Stand) -> None:
    from ensemble.ready import ready

    band = stand.play(PARTS)
    say(band, range(6))
    players = ready({"name": "test", "players": {"count": {"on": "said", "emits": "counted"}}}, {"count": count}).players

    with stand.reader() as reader, pytest.raises(EnsembleError, match="what was said before was removed"):
        Rebuilding(players["count"], [Beheaded(reader._shards[0].log)])


def test_a_store_that_was_divided_anew_can_be_rebuilt(tmp_path: Path) -> None:
    from ensemble.ready import ready
    from ensemble.rebuilding import rewrite
    from ensemble.resharding import reshard

    score = {"ensemble": 1, "name": "test", "players": {"count": {"on": "said", "emits": ["counted"]}}}
    url = str(tmp_path / "store")
    with ensemble.open(score, store=url, players={"count": count}) as band:
        say(band, range(60))
    reshard(url, 3)
    player = ready(score, {"count": count_tens}).players["count"]

    compared = rewrite(url, player)

    assert (compared.heard, len(compared.changes)) == (60, 3)
    with ensemble.read(url) as reader:
        assert dict(reader.table("count").items()) == {f"k-{n}": {"n": 200} for n in range(3)}
    assert rewrite(url, player).is_same, "once more changes nothing"
