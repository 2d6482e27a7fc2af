"""What a shard and who rebuilds a table say to each other at the switch: it is given, given up, or not waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from ray.exceptions import GetTimeoutError, RayActorError

from ensemble.errors import EnsembleError, Unavailable
from ensemble.event import encode
from ensemble.stage.on_ray import switching
from ensemble.stage.on_ray.line import Line
from ensemble.stage.on_ray.switching import Switch, Switches, switch


class Call:
    """A call to a process, which may die before it answers."""

    def __init__(self, answer: Callable[[], Any]) -> None:
        self._told = b""
        self._is_lost = False
        self._done = threading.Event()
        threading.Thread(target=self._run, args=(answer,), daemon=True).start()

    def _run(self, answer: Callable[[], Any]) -> None:
        try:
            self._told = encode([answer()])
        except EnsembleError as error:
            self._told = encode([type(error).__name__, str(error)])
        self._done.set()

    def lose(self) -> None:
        self._is_lost = True
        self._done.set()

    def result(self, timeout: float | None) -> bytes:
        if not self._done.wait(timeout):
            raise GetTimeoutError
        if self._is_lost:
            raise RayActorError
        return self._told


class Shard(Line):
    """One that answers as an actor does, in threads of its own."""

    def __init__(self, refuses: Exception | None = None, *, is_stillborn: bool = False) -> None:
        super().__init__(None, "shop")
        self.written: list[Mapping[str, bytes | None]] = []
        self.rebuilds: list[Call] = []
        self._switches = Switches()
        self._refuses = refuses
        self._is_stillborn = is_stillborn

    def die(self) -> None:
        """Its process ends, and is made anew: what it was asked is not answered, what it knew is gone."""
        self._switches = Switches()
        self.rebuilds[-1].lose()

    def call(self, verb: str, *given: Any) -> Any:
        if verb == "come":
            token, player, timeout_s = given
            return Call(lambda: self._switches.of(token, player).come(timeout_s))
        if verb == "give":
            token, player, writes = given
            return Call(lambda: self._switches.of(token, player).give(writes))
        assert verb == "rebuild"
        switches = Switches() if self._is_stillborn else self._switches
        self.rebuilds.append(Call(lambda: self._rebuild(switches, *given)))
        if self._is_stillborn:
            self._is_stillborn = False
            self.die()
        return self.rebuilds[-1]

    def _rebuild(self, switches: Switches, plan: bytes, player: str, token: str) -> None:
        if self._refuses is not None:
            raise self._refuses
        try:
            self.written.append(switches.of(token, player).writes())
        finally:
            switches.end(token)

    @staticmethod
    def _get(ref: Call, timeout: float | None) -> bytes:
        return ref.result(timeout)


def test_each_shard_gets_what_is_asked_for_when_it_has_come() -> None:
    shards = [Shard(), Shard()]

    switch(shards, b"plan", "count", lambda shard: {"k": bytes([shard])})

    assert [shard.written for shard in shards] == [[{"k": b"\x00"}], [{"k": b"\x01"}]]


def test_what_is_given_up_leaves_that_shard_and_those_after_it_as_they_were() -> None:
    shards = [Shard(), Shard(), Shard()]

    def writes(shard: int) -> dict[str, bytes | None]:
        if shard == 1:
            raise EnsembleError("an event can't be heard")
        return {}

    with pytest.raises(EnsembleError, match="an event can't be heard"):
        switch(shards, b"plan", "count", writes)

    assert [shard.written for shard in shards] == [[{}], [], []]
    with pytest.raises(EnsembleError, match="the switch was given up; it plays on as it was"):
        shards[1].wait(shards[1].rebuilds[0], "rebuild")


def test_a_shard_that_refuses_says_so_and_nothing_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "LOOK_S", 0.01)
    shards = [Shard(Unavailable("no place for it"))]

    with pytest.raises(Unavailable, match="no place for it"):
        switch(shards, b"plan", "count", lambda shard: pytest.fail("nobody came"))


def test_a_shard_that_dies_before_it_is_given_the_table_gets_that_of_where_it_has_come_since() -> None:
    shard, asked = Shard(), 0

    def writes(number: int) -> dict[str, bytes | None]:
        nonlocal asked
        asked += 1
        if asked == 1:  # who is made anew plays on by the old code: what is rebuilt here is out of date
            shard.die()
        return {"k": bytes([asked])}

    switch([shard], b"plan", "count", writes)

    assert shard.written == [{"k": b"\x02"}]


def test_a_shard_that_dies_before_it_has_come_is_asked_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "LOOK_S", 0.01)
    monkeypatch.setattr(switching, "PATIENCE_S", 0.5)
    shard = Shard(is_stillborn=True)

    switch([shard], b"plan", "count", lambda number: {"k": b"1"})

    assert (shard.written, len(shard.rebuilds)) == ([{"k": b"1"}], 2)


def test_a_shard_that_dies_again_and_again_is_told() -> None:
    shard = Shard()

    def writes(number: int) -> dict[str, bytes | None]:
        shard.die()
        return {}

    with pytest.raises(Unavailable):
        switch([shard], b"plan", "count", writes)

    assert (shard.written, len(shard.rebuilds)) == ([], switching.TRIALS)


def test_who_does_not_answer_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switching, "PATIENCE_S", 0.01)
    made = Switch("count")

    with pytest.raises(EnsembleError, match=r"who rebuilds its table did not say in 0\.01 s what is to be written"):
        made.writes()

    with pytest.raises(Unavailable, match="does not wait for the switch any more; rebuild again"):
        made.give({})
