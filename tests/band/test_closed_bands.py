"""A band that is closed: what it knew can still be asked, what it would have to do is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import ensemble
from ensemble import Event, Reject, Unavailable
from tests.conformance.stand import Part, Stand, part


def count(event: Event, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1
    if event.data == "bad":
        raise Reject("no")


COUNT = {"count": part(count, "came")}


def test_the_tables_of_a_closed_band_can_be_read(stand: Stand) -> None:
    band = stand.play(COUNT)
    band.publish("came", key="ann")
    band.publish("came", key="ann")
    band.settle(30)
    table = band.table("count")

    stand.leave()
    band.close()

    assert dict(band.table("count")) == dict(table) == {"ann": {"count": 2}}
    with pytest.raises(KeyError, match="bob"):
        band.table("count")["bob"]
    with pytest.raises(KeyError, match=r"no player 'cuont'.*count"):
        band.table("cuont")


def test_the_tables_of_a_closed_band_can_be_read_where_its_log_is_gone(stand: Stand) -> None:
    play: Part = COUNT["count"]
    document = {"ensemble": 1, "name": "test", "players": {"count": dict(play.says)}}
    with ensemble.open(document, stage=stand.setup.stage, store="memory:", players={"count": count}) as band:
        band.publish("came", key="ann")
        band.settle(30)

    assert dict(band.table("count")) == {"ann": {"count": 1}}


DEEDS: dict[str, Callable[[ensemble.Band], Any]] = {
    "publish": lambda band: band.publish("came"),
    "settle": lambda band: band.settle(1),
    "retry_dead": lambda band: band.retry_dead(),
    "events": lambda band: list(band.events()),
    "status": lambda band: band.status(),
}


def test_what_a_closed_band_would_have_to_do_is_refused_and_changes_nothing(stand: Stand) -> None:
    band = stand.play(COUNT)
    band.publish("came", "bad", key="ann")
    band.settle(30)
    stand.leave()

    for name, deed in DEEDS.items():
        with pytest.raises(Unavailable, match="closed"):
            pytest.fail(f"{name} gave {deed(band)}")

    assert [letter.event.data for letter in stand.play().dead()] == ["bad"]
