"""The actor of a shard, told to rest while the take that it plays is changed: who asks meanwhile is told what is true."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import takes
from ensemble.broker import Publication, Said
from ensemble.errors import Unavailable
from ensemble.event import decode, encode
from ensemble.log import hold, own_logs
from ensemble.stage.on_ray import precedence, shard, turns
from ensemble.stage.on_ray.plan import Plan, versions
from ensemble.stage.on_ray.shard import ShardActor
from ensemble.stage.on_ray.wire import pack_publication

DOCUMENT = {"ensemble": 1, "name": "shop"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(precedence, "take", lambda *, is_shard: None)
    return str(tmp_path / "store")


class Asker:
    """Somebody who asks an actor, without Ray between them."""

    def __init__(self, store: str) -> None:
        self.plan = Plan(DOCUMENT, store, versions=versions()).dump()
        self.actor = ShardActor(self.plan, 0)
        self._number = 0

    async def ask(self, verb: str, *given: Any) -> Any:
        """The answer; of an error [kind, text]."""
        answer = decode(await self.actor.ask(verb, *given))
        return answer[0] if len(answer) == 1 else answer

    def publish(self, number: int) -> asyncio.Task[Any]:
        """[id of the log, [offset, count]], on its way."""
        publication = Publication(Said(["came"], 0, ["k"], [encode(number)]), "/shop", token=f"me-{self._number}")
        given = (pack_publication(publication), True, "me", self._number, 0)
        self._number += 1
        return asyncio.create_task(self.ask("publish", *given))

    def skip(self) -> None:
        """One is lost on the way."""
        self._number += 1


def played(store: str, play: Callable[[Asker], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        asker = Asker(store)
        await play(asker)
        await asker.ask("close")

    asyncio.run(main())


def said(store: str, take: str | None = None) -> list[int]:
    with ensemble.read(store, take=take) as reader:
        return [event.data for event in reader.events("came")]


def id_of(store: str, take: str) -> str:
    [log] = own_logs(store, take)
    log.close()
    return log.id


def test_who_publishes_while_a_shard_rests_is_answered_when_it_plays_on_in_the_take_that_is_current(store: str) -> None:
    async def play(asker: Asker) -> None:
        before = await asker.publish(1)
        await asker.ask("rest", "me")
        waiting = asker.publish(2)
        takes.rollback(store, 0)
        assert not waiting.done()
        await asker.ask("go_on", "me", asker.plan)

        assert before == [id_of(store, "main"), [0, 1]]
        assert await waiting == [id_of(store, "rollback-1"), [0, 1]]
        assert await asker.ask("rows", before[0], 0, 1) == [
            "Moved",
            "band shop: it goes on in another log now, since it was rolled back or another take was made current; what was "
            "asked is of the one before: ask again",
        ]

    played(store, play)
    assert (said(store), said(store, "main")) == ([2], [1])


def test_what_is_published_as_it_stops_is_said_once_in_the_log_that_the_answer_names(store: str) -> None:
    answers: dict[int, Any] = {}

    async def play(asker: Asker) -> None:
        await asker.publish(0)
        publishing = {number: asker.publish(number) for number in range(1, 200)}
        await publishing[1]
        assert await asker.ask("rest", "me") != "Unavailable"
        takes.rollback(store, 1)
        await asker.ask("go_on", "me", asker.plan)
        answers.update({number: await each for number, each in publishing.items()})

    played(store, play)
    there = {take: id_of(store, take) for take in ("main", "rollback-1")}
    for take, begin in (("main", 0), ("rollback-1", 1)):
        with ensemble.read(store, take=take) as reader:
            events = {event.offset: event.data for event in reader.events("came") if event.offset >= begin}
        told = {answer[1][0]: number for number, answer in answers.items() if answer[0] == there[take]}
        assert told == {offset: number for offset, number in events.items() if number}
    assert {answer[0] for answer in answers.values()} <= set(there.values())
    assert said(store, "main")[1:] + said(store)[1:] == [*range(1, 200)], "in the order in which they were sent"


def test_what_the_loop_refused_as_it_stopped_is_said_when_the_shard_plays_on(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "PATIENCE_S", 0.02)

    async def play(asker: Asker) -> None:
        await asker.publish(1)
        early = asker.actor._turns["me"]._early
        asker.skip()
        late = asker.publish(2)  # it waits for the one before it, which is lost, and comes to the loop when that has ended
        while not early:
            await asyncio.sleep(0)
        await asker.ask("rest", "me")
        while early:
            await asyncio.sleep(0)
        takes.rollback(store, 0)
        await asker.ask("go_on", "me", asker.plan)

        assert await late == [id_of(store, "rollback-1"), [0, 1]]

    played(store, play)


def test_the_score_of_now_is_played_on_whatever_was_played_at_the_place(store: str) -> None:
    async def play(asker: Asker) -> None:
        await asker.publish(1)
        plan = Plan.load(asker.plan)
        plan.document = {**DOCUMENT, "about": "of now"}
        await asker.ask("rescore", plan.dump(), [])
        await asker.ask("rest", "me")
        takes.rollback(store, 0)
        await asker.ask("go_on", "me", plan.dump())

        assert await asker.ask("plan") == plan.dump()

    played(store, play)
    with ensemble.read(store) as reader:
        assert [state.score for state in reader.states()] == [{**DOCUMENT, "about": "of now"}]


def test_a_shard_whose_waker_is_gone_plays_on_by_itself_once_nobody_holds_the_store(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "RESTS_MOST_S", 0.02)

    async def play(asker: Asker) -> None:
        await asker.publish(1)
        await asker.ask("rest", "me")
        takes.rollback(store, 0)
        waiting = asker.publish(2)
        with hold(store, "rollback-1"):
            while asker.actor._error is None:  # it has tried to
                await asyncio.sleep(0.005)
            assert not waiting.done()

        assert await waiting == [id_of(store, "rollback-1"), [0, 1]]
        assert await asker.ask("go_on", "me", asker.plan) is False
        assert await asker.publish(3) == [id_of(store, "rollback-1"), [1, 1]]

    played(store, play)
    assert said(store) == [2, 3]


def test_a_shard_that_could_not_close_as_it_was_told_to_rest_plays_on_by_itself(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "RESTS_MOST_S", 0.02)

    async def play(asker: Asker) -> None:
        loop = asker.actor._loop
        assert loop is not None
        close = loop.close

        def fail() -> None:
            close()
            raise Unavailable("the disk is gone")

        monkeypatch.setattr(loop, "close", fail)

        assert await asker.ask("rest", "me") == ["Unavailable", "the disk is gone"]
        assert await asyncio.wait_for(asker.publish(1), 20) == [id_of(store, "main"), [0, 1]]

    played(store, play)
    assert said(store) == [1]


def test_only_one_at_a_time_has_a_shard_rest(store: str) -> None:
    async def play(asker: Asker) -> None:
        await asker.ask("rest", "one")
        assert (await asker.ask("rest", "two"))[0] == "Unavailable"
        await asker.ask("go_on", "two", asker.plan)
        waiting = asker.publish(1)
        await asker.ask("rest", "one")
        assert not waiting.done()
        await asker.ask("go_on", "one", asker.plan)
        assert (await waiting)[1] == [0, 1]

    played(store, play)


def test_what_another_shard_sends_is_not_taken_while_it_rests_nor_out_of_another_take(store: str) -> None:
    async def play(asker: Asker) -> None:
        parcels = encode([])
        assert await asker.ask("accept", 1, "main", 0, parcels) == 0
        await asker.ask("rest", "me")
        assert (await asker.ask("accept", 1, "main", 0, parcels))[0] == "Unavailable"
        takes.rollback(store, 0)
        await asker.ask("go_on", "me", asker.plan)
        assert "plays take rollback-1, and this is said in take main" in (await asker.ask("accept", 1, "main", 0, parcels))[1]
        assert await asker.ask("accept", 1, "rollback-1", 0, parcels) == 0

    played(store, play)


def test_what_is_done_to_the_store_while_it_rests_is_told_with_what_went_wrong(store: str) -> None:
    async def play(asker: Asker) -> None:
        await asker.ask("rest", "me")
        assert await asker.ask("act", lambda url: url) == store
        assert "there was no moment before event 9" in (await asker.ask("act", lambda url: takes.rollback(url, 9)))[1]
        await asker.ask("go_on", "me", asker.plan)
        assert (await asker.publish(1))[1] == [0, 1]

    played(store, play)


def test_a_shard_that_could_not_begin_can_be_told_to_rest_and_to_go_on(store: str) -> None:
    pointer = Path(store) / "current"

    async def play(asker: Asker) -> None:
        await asker.publish(1)
        await asker.ask("rest", "me")
        pointer.write_text("gone\n")
        [kind, text] = await asker.ask("go_on", "me", asker.plan)
        assert kind == "Unavailable" and "take 'gone' is current, and is not there any more" in text
        assert await asker.ask("hello") == [kind, text]

        assert await asker.ask("plan") == asker.plan  # with which who rolls back, or takes the band down, begins
        await asker.ask("rest", "me")
        takes.use(store, "main")
        await asker.ask("go_on", "me", asker.plan)
        assert (await asker.publish(2))[1] == [1, 1]

    played(store, play)


def test_a_shard_that_could_not_go_on_does_when_what_was_in_the_way_is_gone(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shard, "TRY_EVERY_S", 0.0)
    pointer = Path(store) / "current"

    async def play(asker: Asker) -> None:
        await asker.publish(1)
        await asker.ask("rest", "me")
        pointer.write_text("gone\n")
        assert (await asker.ask("go_on", "me", asker.plan))[0] == "Unavailable"
        assert (await asker.ask("hello"))[0] == "Unavailable"
        pointer.unlink()

        assert (await asker.publish(2))[1] == [1, 1]
        await asker.ask("close")
        assert await asker.ask("hello") == ["Unavailable", "the band is closed; open it again"]

    played(store, play)
    assert said(store) == [1, 2]
