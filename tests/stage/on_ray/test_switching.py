"""What a shard and who rebuilds a table say to each other at the switch: it is given, given up, or not waited for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

import pytest

from ensemble.errors import EnsembleError, Unavailable
from ensemble.stage.on_ray import switching
from ensemble.stage.on_ray.switching import Switch, Switches, switch


class Shard:
    """One that answers as an actor does, in threads of its own."""

    def __init__(self, answers: Any = None) -> None:
        self.switches = Switches()
        self.written: list[Mapping[str, bytes | None]] = []
        self._outcome: Any = None
        self._refuses = answers
        self._done = threading.Event()

    def call(self, verb: str, *given: Any) -> Any:
        assert verb == "rebuild"
        threading.Thread(target=self._rebuild, args=given).start()
        return verb

    def _rebuild(self, plan: bytes, player: str, token: str) -> None:
        try:
            if self._refuses is not None:
                raise self._refuses
            self.written.append(self.switches.of(token, player).writes())
        except EnsembleError as error:
            self._outcome = error
        self._done.set()

    def wait(self, call: Any, verb: str, *given: Any, timeout: float | None = None) -> None:
        if not self._done.wait(timeout):
            raise TimeoutError
        if self._outcome is not None:
            raise self._outcome

    def ask(self, verb: str, *given: Any) -> Any:
        token, player, what = given
        made = self.switches.of(token, player)
        return made.come(what) if verb == "come" else made.give(what)


def test_each_shard_gets_what_is_asked_for_when_it_has_come() -> None:
    shards: list[Any] = [Shard(), Shard()]

    switch(shards, b"plan", "count", lambda shard: {"k": bytes([shard])})

    assert [shard.written for shard in shards] == [[{"k": b"\x00"}], [{"k": b"\x01"}]]


def test_what_is_given_up_leaves_that_shard_and_those_after_it_as_they_were() -> None:
    shards: list[Any] = [Shard(), Shard(), Shard()]

    def writes(shard: int) -> dict[str, bytes | None]:
        if shard == 1:
            raise EnsembleError("an event can't be heard")
        return {}

    with pytest.raises(EnsembleError, match="an event can't be heard"):
        switch(shards, b"plan", "count", writes)

    assert [shard.written for shard in shards] == [[{}], [], []]
    with pytest.raises(EnsembleError, match="the switch was given up; it plays on as it was"):
        shards[1].wait(None, "rebuild")


def test_a_shard_that_refuses_says_so_and_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "LOOK_S", 0.01)
    shards: list[Any] = [Shard(Unavailable("no place for it"))]

    with pytest.raises(Unavailable, match="no place for it"):
        switch(shards, b"plan", "count", lambda shard: pytest.fail("nobody came"))


def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "PATIENCE_S", 0.01)
    made = Switch("count")

    with pytest.raises(EnsembleError, match=r"who rebuilds its table did not say in 0\.01 s what is to be written"):
        made.writes()

    with pytest.raises(Unavailable, match="does not wait for the switch any more; rebuild again"):
        made.give({})
