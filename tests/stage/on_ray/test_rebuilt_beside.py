"""Tables of a band that is up are rebuilt beside it, out of its log, and put in place while it plays: in each shard."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Event, deployment, emit
from ensemble.errors import EnsembleError, ScoreError
from ensemble.stage.on_ray.line import Line
from tests.conformance.stand import Publishing, eventually

NAME = "beside"


def score(shards: int = 1, **says: Any) -> dict[str, Any]:
    count = {"on": "said", "emits": ["counted"], "section": {"max": 2, "cpus": 0.1}, **says}
    other = {"on": "said", "section": {"cpus": 0.1}}
    return {
        "ensemble": 1, "name": NAME, "players": {"count": count, "other": other}, "stage": {"kind": "ray", "shards": shards},
    }  # fmt: skip


def by(step: int) -> Any:
    def count(event: Event, ctx: Any) -> Any:
        ctx.state["n"] = ctx.state.get("n", 0) + step
        return emit("counted", ctx.state["n"])

    return count


def picky(event: Event, ctx: Any) -> None:
    if event.data == 3:
        raise ValueError("three")


def other(event: Event) -> None: ...


@pytest.fixture
def store(cluster: None, tmp_path: Path) -> Iterator[str]:
    yield str(tmp_path / "store")
    ensemble.down(NAME)


@pytest.mark.patience(240)
@pytest.mark.parametrize("shards", [1, pytest.param(3, marks=pytest.mark.everywhere("test_switching.py has several"))])
def test_no_event_is_lost_or_heard_twice_while_others_publish(store: str, shards: int) -> None:
    with ensemble.up(score(shards), store=store, players={"count": by(1), "other": other}) as band:
        with Publishing(band) as publishing:
            eventually(lambda: len(band.table("count")) == 7, "states", 60)
            rebuilding = band.rebuild("count", by(10))
            assert len(rebuilding.compare().changes) == 7
            before = publishing.said
            rebuilding.switch()
            eventually(lambda: publishing.said > before, "more events", 60)
            with deployment.rebuild(NAME, score(shards), "count", players={"count": by(100), "other": other}) as again:
                again.switch()  # from anywhere, by the code of a score
        said = publishing.said
        band.settle(120)

        assert sum(state["n"] for state in band.table("count").values()) == 100 * said
        status = band.status()
        assert (status.sections["count"].heard, status.sections["other"].heard) == (said, said)
        assert len(list(band.events("counted"))) == said


@pytest.mark.everywhere("tests/band/test_rebuild.py says the same of solo")
@pytest.mark.patience(240)
def test_what_can_not_be_switched_leaves_the_band_as_it_was(store: str) -> None:
    with ensemble.up(score(), store=store, players={"count": by(1), "other": other}) as band:
        band.publish_many({"topic": "said", "key": "k", "data": n} for n in range(6))
        band.settle(60)

        with pytest.raises(EnsembleError, match="can't hear 1 of the events"):
            band.rebuild("count", picky).switch()
        with pytest.raises(ScoreError, match="a table is rebuilt from what its player has heard"):
            deployment.rebuild(NAME, score(on="else"), "count", players={"count": by(1), "other": other}).__enter__()
        with pytest.raises(KeyError, match="no player 'cuont'"):
            deployment.rebuild(NAME, score(), "cuont", players={"count": by(1), "other": other}).__enter__()

        band.publish("said", 7, key="k")
        band.settle(60)
        assert band.table("count")["k"] == {"n": 7}


@pytest.mark.everywhere("the shard waits for ten seconds; tests/stage/on_ray/test_switching.py says the same of its half")
@pytest.mark.patience(240)
def test_who_is_gone_at_the_switch_is_waited_for_ten_seconds_and_the_old_code_plays_on(store: str) -> None:
    with ensemble.up(score(), store=store, players={"count": by(1), "other": other}) as band:
        band.publish("said", 1, key="k")
        band.settle(60)
        [line] = band._stage._lines  # type: ignore[attr-defined]
        given = (line.ask("plan"), "count", "token")

        call = line.call("rebuild", *given)
        eventually(lambda: line.ask("come", "token", "count", 1.0), "the shard at the switch", 60)
        with pytest.raises(EnsembleError, match=r"did not say in 10 s what is to be written, so it plays on as it was"):
            line.wait(call, "rebuild", *given)

        band.publish("said", 2, key="k")
        band.settle(60)
        assert band.table("count")["k"] == {"n": 2}


@pytest.mark.everywhere("it kills a process; tests/stage/on_ray/test_switching.py says the same of who asks")
@pytest.mark.patience(240)
def test_a_shard_that_is_killed_at_the_switch_loses_nothing_of_what_it_hears_since(
    store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ensemble.up(score(), store=store, players={"count": by(1), "other": other}) as band:
        band.publish_many({"topic": "said", "key": f"k-{n % 7}", "data": n} for n in range(70))
        band.settle(60)
        stage: Any = band._stage
        killed: list[int] = []
        call = Line.call

        def killing(self: Line, verb: str, *given: Any) -> Any:
            if verb == "give" and not killed:  # what is given was found, and is not there yet
                killed.append(stage._lines[0].ask("hello")["pid"])
                os.kill(killed[0], signal.SIGKILL)
                band.publish_many({"topic": "said", "key": f"k-{n % 7}", "data": n} for n in range(7))
                eventually(lambda: sum(state["n"] for state in band.table("count").values()) == 77, "the old code", 60)
            return call(self, verb, *given)

        with band.rebuild("count", by(10)) as rebuilding:
            monkeypatch.setattr(Line, "call", killing)
            rebuilding.switch()
        band.publish("said", 1, key="k-0")
        band.settle(60)

        assert killed
        assert sum(state["n"] for state in band.table("count").values()) == 780
