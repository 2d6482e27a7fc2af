"""How the log of a shard is read from afar, and what is said where Ray takes the process that opens a band for gone."""

from __future__ import annotations

from typing import Any, cast

import pytest
from ray.exceptions import RaySystemError

import ensemble
from ensemble import Event, Unavailable
from ensemble.log.base import LogReader
from ensemble.stage.on_ray.line import FIRST_BYTES, Line, RemoteLog, telling_if_gone
from ensemble.stage.on_ray.shard import LOG_VERBS


class NearLine:
    """Answers what is asked of a log without a shard; counts the frames, and the bytes of them, that go over it."""

    def __init__(self, log: LogReader) -> None:
        self._log = log
        self.sent: list[int] = []

    def ask(self, verb: str, id: str, *given: Any) -> Any:
        answer = LOG_VERBS[verb](self._log, *given)
        if verb in ("frames", "rows"):
            self.sent += map(len, answer)
        return answer


def test_a_log_that_is_read_from_afar_comes_once_and_who_reads_a_frame_gets_little_more() -> None:
    score = {"ensemble": 1, "name": "far", "players": {"hear": {"on": "said"}}}

    def hear(event: Event) -> None: ...

    with ensemble.open(score, store="memory:far", players={"hear": hear}) as band:
        for _ in range(300):
            band.publish("said", "x" * 1000)
        band.settle()
        with ensemble.read("memory:far") as reader:
            near = reader._shards[0].log
            line = NearLine(near)
            far = RemoteLog(cast(Line, line), LOG_VERBS["log"](near))

            assert [frame.seq for frame in far.frames()] == list(range(near.end().seq))
            assert len(line.sent) == near.end().seq
            line.sent.clear()
            assert next(far.frames(7)).seq == 7
            assert next(far.rows(7)).first == 7
            assert FIRST_BYTES < sum(line.sent) < 3 * FIRST_BYTES


def raised(text: str) -> None:
    raise RaySystemError(text)  # type: ignore[no-untyped-call]


def test_a_process_that_is_taken_for_gone_before_its_actor_was_made_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Line, "_get", lambda self, ref, timeout: raised("Actor creation cancelled."))

    with pytest.raises(Unavailable, match=r"band shop: .* takes the one that opened the band for gone"):
        Line(None, "shop").wait_once(None)
    with pytest.raises(Unavailable, match=r"RAY_AUTH_MODE is not the same here"), telling_if_gone("shop"):
        raised("Actor creation cancelled.")


def test_what_else_ray_says_is_left_as_it_is() -> None:
    with pytest.raises(RaySystemError, match="the disk is full"), telling_if_gone("shop"):
        raised("the disk is full")
