"""A band that rests while its take changes, as who has it rest speaks to its shards: all of them are told to go on."""

from __future__ import annotations

from typing import Any

import pytest

from ensemble.errors import PlayerError
from ensemble.event import encode
from ensemble.stage.on_ray import bands, cluster
from ensemble.stage.on_ray.bands import at_rest
from ensemble.stage.on_ray.line import Line
from ensemble.stage.on_ray.plan import Plan

PLAN = Plan({"ensemble": 1, "name": "shop"}, "/store").dump()
LATER = Plan({"ensemble": 1, "name": "shop", "about": "of now"}, "/store").dump()


class Shard(Line):
    """One that answers at once. `plan` is what it plays by when it comes to rest, and `since` when it has gone on."""

    def __init__(
        self, *, can_go_on: bool = True, was_made_anew: bool = False, plan: bytes = PLAN, since: bytes = PLAN
    ) -> None:
        super().__init__(None, "shop")
        self.asked: list[tuple[Any, ...]] = []
        self._can_go_on, self._was_made_anew = can_go_on, was_made_anew
        self._answers: dict[str, Any] = {"plan": PLAN, "rest": [7, plan]}
        self._since = since

    def call(self, verb: str, *given: Any) -> Any:
        self.asked.append((verb, *given))
        if verb == "go_on":
            self._answers["plan"] = self._since
            return encode([not self._was_made_anew] if self._can_go_on else ["PlayerError", "player pay can't be built"])
        return encode([self._answers.get(verb)])

    @staticmethod
    def _get(ref: Any, timeout: float | None) -> Any:
        return ref

    def told(self, verb: str) -> list[bytes]:
        """The plans with which it was told to."""
        return [plan for said, *given in self.asked for plan in given if said == verb and isinstance(plan, bytes)]


def rest(monkeypatch: pytest.MonkeyPatch, *shards: Shard) -> None:
    monkeypatch.setattr(bands, "lines_of", lambda name: shards)
    monkeypatch.setattr(cluster, "join", lambda *given: None)
    monkeypatch.setattr(cluster, "leave", lambda: None)
    with at_rest("shop", None) as act:
        act(lambda url: None)


def test_where_one_shard_can_not_go_on_the_others_do_and_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(can_go_on=False), Shard(), Shard()]

    with pytest.raises(PlayerError, match="player pay can't be built"):
        rest(monkeypatch, *shards)

    assert [shard.told("go_on") for shard in shards] == [[PLAN]] * 3


def test_a_score_that_was_changed_until_they_rested_is_what_they_go_on_by(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(plan=LATER, since=LATER), Shard(since=LATER)]

    rest(monkeypatch, *shards)

    assert [shard.told("go_on") for shard in shards] == [[LATER]] * 2


def test_a_score_that_is_changed_as_they_go_on_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(since=LATER), Shard(since=LATER)]

    rest(monkeypatch, *shards)

    assert [shard.told("rescore") for shard in shards] == [[]] * 2


def test_a_shard_that_was_made_anew_meanwhile_plays_what_the_others_do(monkeypatch: pytest.MonkeyPatch) -> None:
    shards = [Shard(), Shard(was_made_anew=True, since=LATER)]

    rest(monkeypatch, *shards)

    assert [shard.told("rescore") for shard in shards] == [[], [PLAN]]
