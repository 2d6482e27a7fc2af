"""Solo and Ray agree: whatever the score and whatever is said, they give the same events, tables and dead letters.

Scores are drawn by chance: players of all kinds, wired without cycles, that fail on some events at first or always. What may
differ is what no promise fixes: how events of different keys, and a key's events by different ways, lie between each other.
A bug planted in one of two performances shows that they are told apart.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import ensemble
from ensemble import Event, emit
from ensemble.player import Hearing
from tests.conformance.stand import Part, part

KEYS = ["ann", "bob", "cid"]
RETRY = {"attempts": 2, "first": "1ms", "factor": 1, "jitter": 0}


@dataclass(frozen=True)
class Role:
    """A player of a drawn score."""

    kind: str
    on: tuple[str, ...]
    fails: str
    """Whether it fails on events that are `bad`: never, at the first attempt, always."""
    bad: int
    most: int
    batch: int

    def part(self, number: int) -> Part:
        section = {"max": self.most, "batch": self.batch, "cpus": 0.1}
        call = KINDS[self.kind](f"t{number}", self.fails, self.bad)
        return part(call, list(self.on), emits=[f"t{number}"], retry=RETRY, section=section)


def number_of(event: Event) -> int:
    """The number of the input that an event goes back to; its data is the way that it came: `7 t0 t2`."""
    return int(event.data.split()[0])


def is_bad(event: Event, attempt: int, fails: str, bad: int) -> bool:
    return number_of(event) % 5 == bad and (fails == "always" or (fails == "at first" and attempt == 1))


def function(topic: str, fails: str, bad: int) -> Any:
    def hear(event: Event, ctx: Any) -> Any:
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        ctx.state["sum"] = ctx.state.get("sum", 0) + number_of(event)
        yield emit(topic, f"{event.data} {topic}")
        if is_bad(event, ctx.attempt, fails, bad):
            raise ValueError(f"{number_of(event)} is bad")

    return hear


def coroutine(topic: str, fails: str, bad: int) -> Any:
    async def hear(event: Event, ctx: Any) -> Any:
        ctx.state["count"] = ctx.state.get("count", 0) + 1
        if is_bad(event, ctx.attempt, fails, bad):
            raise ValueError(f"{number_of(event)} is bad")
        return emit(topic, f"{event.data} {topic}")

    return hear


def whole_batch(topic: str, fails: str, bad: int) -> Any:
    def hear(events: list[Event]) -> Any:
        for event in events:
            if is_bad(event, 2, fails, bad):  # it is not told which attempt this is
                raise ValueError(f"{number_of(event)} is bad")
        return [emit(topic, f"{event.data} {topic}") for event in events]

    return hear


KINDS = {"function": function, "coroutine": coroutine, "batch": whole_batch}


@st.composite
def scores(draw: st.DrawFn) -> list[Role]:
    """Two to four players; each hears the input, or what players before it say, or several of these."""
    roles = []
    for number in range(draw(st.integers(2, 4))):
        topics = ["in", *(f"t{before}" for before in range(number))]
        roles.append(
            Role(
                draw(st.sampled_from(sorted(KINDS))),
                tuple(draw(st.lists(st.sampled_from(topics), min_size=1, max_size=2, unique=True))),
                draw(st.sampled_from(["never", "at first", "always"])),
                draw(st.integers(0, 4)),
                draw(st.integers(1, 2)),
                draw(st.sampled_from([1, 3, 100])),
            )
        )
    return roles


inputs = st.lists(st.sampled_from(KEYS), min_size=1, max_size=25)


@dataclass
class Told:
    """What a performance leaves behind, without what no promise fixes."""

    ways: dict[tuple[str, str, str], list[str]]
    """The events by topic, key and the players that they came through: each in order."""
    tables: dict[str, dict[str, Any]]
    dead: Counter[tuple[str, str, str, int, str]]


def perform(roles: list[Role], keys: list[str], stage: str) -> Told:
    parts = {f"p{number}": role.part(number) for number, role in enumerate(roles)}
    document = {"ensemble": 1, "name": "test", "players": {name: dict(each.says) for name, each in parts.items()}}
    players = {name: each.call for name, each in parts.items() if each.call is not None}
    with ensemble.open(document, stage=stage, store="memory:", players=players) as band:
        band.publish_many({"topic": "in", "key": key, "data": str(number)} for number, key in enumerate(keys))
        band.settle(60)
        ways: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
        for event in band.events():
            number, _, way = event.data.partition(" ")
            ways[event.topic, event.key, way].append(number)
        return Told(
            dict(ways),
            {name: dict(band.table(name)) for name in parts},
            Counter((each.player, each.event.key, each.event.data, each.attempts, each.error) for each in band.dead()),
        )


@pytest.mark.patience(400)
@settings(
    max_examples=2,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
    print_blob=True,
)
@given(scores(), inputs)
def test_solo_and_ray_agree(cluster: None, roles: list[Role], keys: list[str]) -> None:
    assert perform(roles, keys, "ray") == perform(roles, keys, "solo")


STUMBLING = [Role("function", ("in",), "at first", 1, 1, 100), Role("coroutine", ("t0",), "always", 2, 1, 100)]


@pytest.mark.parametrize("effect", ["_undo", "_keep"])
def test_it_can_fail_a_bug_planted_in_one_performance_is_seen(effect: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a failed attempt said is not taken back; what was written into a table is not kept."""
    keys = KEYS * 5
    good = perform(STUMBLING, keys, "solo")
    assert perform(STUMBLING, keys, "solo") == good

    monkeypatch.setattr(Hearing, effect, lambda *_: None)

    assert perform(STUMBLING, keys, "solo") != good
