"""Stores of every kind, and a small band to play into them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import emit
from ensemble.log import memory

_numbers = count(1)
KINDS = ("memory", "directory", "objects")

SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {
        "price": {"on": "ordered", "emits": ["priced"]},
        "tally": {"on": "priced", "emits": ["tallied"]},
    },
}


def price(event: Any) -> Any:
    return emit("priced", n=event.data["n"])


def tally(event: Any, ctx: Any) -> Any:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]
    return emit("tallied", sum=ctx.state["sum"])


PLAYERS: dict[str, Callable[..., Any]] = {"price": price, "tally": tally}


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The url of a store that is not there yet."""
    if request.param == "directory":
        yield str(tmp_path / "store")
    elif request.param == "objects":
        yield f"objects:{tmp_path}/shop"
    else:
        name = f"takes-{next(_numbers)}"
        yield f"memory:{name}"
        for each in memory.memory_names():
            if each.partition("#")[0] == name:
                memory.forget_memory_store(each)


def played(store: str, *numbers: int, key: str = "k", **options: Any) -> None:
    """Play the shop into a store: an order for each number, one after the other."""
    with ensemble.open(SCORE, store=store, players=options.pop("players", PLAYERS), **options) as band:
        for number in numbers:
            band.publish("ordered", {"n": number}, key=key)
            band.settle(10)
        band.settle(10)


def said(store: str, take: str | None = None, pattern: str = "tallied") -> list[Any]:
    """The data of what was said."""
    with ensemble.read(store, take=take) as reader:
        return [event.data for event in reader.events(pattern)]


def sums(store: str, take: str | None = None) -> dict[str, Any]:
    with ensemble.read(store, take=take) as reader:
        return dict(reader.table("tally").items())
