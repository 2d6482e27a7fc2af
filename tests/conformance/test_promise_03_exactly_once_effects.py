"""Promise 3. What a player said, what it wrote and that it has heard are one frame: all of it is in the log, or none."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest

import ensemble
from ensemble import Event, emit
from ensemble.broker import State
from ensemble.event import Frame, decode
from ensemble.testing import ManualClock
from tests.conformance.home import AtHome, at_home
from tests.conformance.stand import Part, Stand, all_of, eventually, part


def count(event: Event, ctx: Any) -> Any:
    """One effect of each kind: a table write and an event."""
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    return emit("counted", event.data)


async def count_later(event: Event, ctx: Any) -> Any:
    return count(event, ctx)


KINDS = {
    "inline": part(count, "came", emits=["counted"]),
    "threads": part(count, "came", emits=["counted"], section={"max": 3, "batch": 5}),
    "coroutine": part(count_later, "came", emits=["counted"]),
}


def torn_effects(frames: Iterable[Frame], player: str = "count", topic: str = "counted") -> list[str]:
    """Where a log, read to any of its frames, shows one effect of a player without the others."""
    state = State()
    torn = []
    for frame in frames:
        state.apply(frame)
        section = state.sections.get(player)
        if section is None:
            continue
        written = sum(decode(value)["count"] for value in section.table.values())
        effects = {"heard": section.heard, "emitted": section.emitted, "said": state.topics.get(topic, 0), "written": written}
        if len(set(effects.values())) > 1:
            torn.append(f"after frame {frame.seq}: {effects}")
    return torn


def effects_of(stand: Stand) -> tuple[Counter[Any], dict[str, int]]:
    """How often each event was answered, and what the table counts by key."""
    frames = stand.frames()
    causes = Counter(event.causationid for event in all_of(frames) if event.topic == "counted")
    with stand.reader() as reader:
        return causes, {key: value["count"] for key, value in reader.table("count").items()}


def come(band: Any, number: int) -> None:
    band.publish_many({"topic": "came", "key": f"k-{n % 7}", "data": n} for n in range(number))


@pytest.mark.one_shard("counts the frames of one log")
@pytest.mark.parametrize("kind", KINDS)
def test_at_every_frame_of_the_log_what_was_heard_said_and_written_is_the_same_number(stand: Stand, kind: str) -> None:
    band = stand.play({"count": KINDS[kind]})

    come(band, 300)
    band.settle(30)

    frames = stand.frames()
    assert torn_effects(frames) == []
    assert sum(bool(frame.marks.get("heard")) for frame in frames) > 1
    assert effects_of(stand)[0] == Counter(event.id for event in band.events("came"))


def test_a_player_that_fails_leaves_nothing_of_that_attempt(stand: Stand) -> None:
    def stumble(event: Event, ctx: Any) -> Any:
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        yield emit("counted", ctx.attempt)
        if ctx.attempt < 3:
            raise RuntimeError("halfway")

    band = stand.play({"count": part(stumble, "came", emits=["counted"], retry={"attempts": 4, "first": "1ms"})})

    band.publish("came", key="ann")
    band.settle(30)

    assert [event.data for event in band.events("counted")] == [3]
    assert band.table("count")["ann"] == {"count": 1}
    assert torn_effects(stand.frames()) == []


def test_a_dead_letter_leaves_neither_words_nor_writes(stand: Stand) -> None:
    def stumble(event: Event, ctx: Any) -> Any:
        ctx.state["count"] = 99
        yield emit("counted")
        raise RuntimeError("halfway")

    band = stand.play({"count": part(stumble, "came", emits=["counted"], retry={"attempts": 2, "first": "1ms"})})

    band.publish("came", key="ann")
    band.settle(30)

    assert list(band.events("counted")) == []
    assert dict(band.table("count")) == {}
    assert len(band.dead("count")) == 1


@pytest.mark.solo("a player that holds the band that it plays in is in the band's process")
@pytest.mark.parametrize("by_hand", [False, True], ids=["machine", "manual"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_player_can_not_publish_past_its_frame(stand: Stand, kind: str, by_hand: bool) -> None:
    bands: list[Any] = []

    def speak(event: Event) -> None:
        bands[0].publish("aside", event.data)

    async def speak_later(event: Event) -> None:
        speak(event)

    says = {**KINDS[kind].says, "retry": {"attempts": 1}}
    call = speak_later if kind == "coroutine" else speak
    bands.append(stand.play({"speak": Part(call, says)}, clock=ManualClock() if by_hand else None))

    bands[0].publish("came", 1)
    bands[0].settle(30)

    [letter] = bands[0].dead()
    assert "a player can't publish while it hears an event; let it answer with emit(topic, ...)" in letter.error
    assert list(bands[0].events("aside")) == []


def test_a_player_may_publish_to_another_band(stand: Stand) -> None:
    with ensemble.open({"ensemble": 1, "name": "other"}, store="memory:") as other:
        elsewhere = at_home(other)

        def tell(event: Event, ctx: Any) -> None:
            elsewhere.publish("told", event.data, id=ctx.token)

        band = stand.play({"tell": part(tell, "came")})
        band.publish("came", 1)
        band.settle(30)

        assert [event.data for event in other.events("told")] == [1]


def test_state_that_is_emptied_is_gone_from_the_table(stand: Stand) -> None:
    def keep(event: Event, ctx: Any) -> None:
        if event.data is None:
            ctx.state.clear()
        else:
            ctx.state["value"] = event.data

    band = stand.play({"keep": part(keep, "said")})

    band.publish("said", 1, key="ann")
    band.publish("said", 2, key="bob")
    band.publish("said", None, key="ann")
    band.settle(30)

    assert dict(band.table("keep")) == {"bob": {"value": 2}}


class Camera(AtHome):
    """A counting player that now and then takes a picture of the store, as a kill at that moment would leave it."""

    def __init__(self, stand: Stand, kind: str, every: int) -> None:
        self.shots: list[Stand] = []
        self._stand, self._every = stand, every
        self._lock = threading.Lock()
        self._calls = 0
        base = KINDS[kind]

        def hear(event: Event, ctx: Any) -> Any:
            self._look()
            return count(event, ctx)

        async def hear_later(event: Event, ctx: Any) -> Any:
            self._look()
            return count(event, ctx)

        self.part = Part(hear_later if kind == "coroutine" else hear, base.says)

    def _look(self) -> None:
        with self._lock:
            self._calls += 1
            if self._calls % self._every == 0:
                self.shots.append(self._stand.as_if_killed())


@pytest.mark.parametrize("kind", KINDS)
def test_killed_in_the_middle_of_hearing_and_opened_again_each_event_has_its_effects_once(
    stand_on_disk: Stand, kind: str
) -> None:
    camera = Camera(stand_on_disk, kind, every=stand_on_disk.size(23, 120))
    band = stand_on_disk.play({"count": camera.part})

    come(band, 300)
    band.settle(30)
    stand_on_disk.leave()

    assert len(camera.shots) >= stand_on_disk.size(10, 2)
    for shot in camera.shots:
        band = shot.play({"count": KINDS[kind]})
        band.settle(30)
        published = [event.id for event in band.events("came")]
        shot.leave()
        assert torn_effects(shot.frames()) == []
        causes, table = effects_of(shot)
        assert causes == Counter(published)
        assert sum(table.values()) == len(published)


def test_killed_again_and_again_each_event_has_its_effects_once(stand_on_disk: Stand) -> None:
    stand = stand_on_disk
    come(stand.play({"count": KINDS["inline"]}), 100)

    for _ in range(stand.size(5, 2)):  # each picture is of a band that was opened from a picture
        camera = Camera(stand, "inline", every=11)
        band = stand.play({"count": camera.part})
        come(band, 50)
        band.settle(30)
        stand.leave()
        stand = camera.shots[0]
    band = stand.play({"count": KINDS["inline"]})
    band.settle(30)
    published = [event.id for event in band.events("came")]
    stand.leave()

    causes, table = effects_of(stand)
    assert causes == Counter(published)
    assert sum(table.values()) == len(published) >= 100


def test_timers_are_part_of_the_frame_and_fire_once(stand_on_disk: Stand) -> None:
    def remind(event: Event) -> Any:
        return [emit("noted"), emit("reminded", event.data, after="500ms")]

    parts = {"remind": part(remind, "came", emits=["noted", "reminded"])}
    band = stand_on_disk.play(parts)
    band.publish("came", 1, key="ann")
    eventually(lambda: list(band.events("noted")), "the note")
    killed = stand_on_disk.as_if_killed()
    with killed.reader() as reader:
        assert reader.status().timers == 1
        assert list(reader.events("reminded")) == []

    band = killed.play(parts)
    eventually(lambda: list(band.events("reminded")), "the reminder")
    band = killed.play(parts)
    band.settle(30)

    [reminded] = band.events("reminded")
    [came] = band.events("came")
    assert (reminded.key, reminded.data) == ("ann", 1)
    assert (reminded.written_at - came.written_at).total_seconds() >= 0.5
    assert band.status().timers == 0
    killed.leave()


def test_these_tests_can_fail_a_frame_without_its_words_is_seen(stand: Stand) -> None:
    band = stand.play({"count": KINDS["inline"]})
    come(band, 20)
    band.settle(30)
    frames = stand.frames()

    saboteur = next(frame for frame in frames if "wrote" in frame.marks)
    saboteur.marks.pop("wrote")

    assert torn_effects(frames) != []
