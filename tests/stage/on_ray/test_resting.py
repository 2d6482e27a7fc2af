"""A band that rests while its take changes, as who has it rest speaks to its shards: all of them are told to go on."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.errors import PlayerError
from ensemble.event import encode
from ensemble.stage.on_ray import cluster, stage
from ensemble.stage.on_ray.line import Line
from ensemble.stage.on_ray.plan import Plan
from ensemble.stage.on_ray.stage import at_rest

PLAN = Plan({"ensemble": 1, "name": "shop"}, "/store").dump()


class Shard(Line):
    """One that answers at once."""

    def __init__(self, *, can_go_on: bool = True) -> None:
        super().__init__(None, "shop")
        self.asked: list[str] = []
        self._can_go_on = can_go_on

    def call(self, verb: str, *given: Any) -> Any:
        self.asked.append(verb)
        if verb == "go_on" and not self._can_go_on:
            return encode(["PlayerError", "player pay can't be built"])
        return encode([{"plan": PLAN, "rest": 7}.get(verb)])

    @staticmethod
    def _get(ref: Any, timeout: float | None) -> Any:
        return ref


def test_where_one_shard_can_not_go_on_the_others_do_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(can_go_on=False), Shard(), Shard()]
    monkeypatch.setattr(stage, "_lines", lambda name: shards)
    monkeypatch.setattr(cluster, "join", lambda *given: None)
    monkeypatch.setattr(cluster, "leave", lambda: None)

    with pytest.raises(PlayerError, match="player pay can't be built"), at_rest("shop", None) as act:
        act(lambda url: None)

    assert ["go_on" in shard.asked for shard in shards] == [True, True, True]
