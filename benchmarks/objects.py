"""The object store beside the directory store, in one run: throughput, opening a long store, and a band at rest.

    python benchmarks/objects.py [--events N] [--orders N] [--kinds directory folder s3] [--rounds N]

`directory` is a directory store; `folder` the object store over a local folder (`objects:PATH`), the same code without a
network; `s3` the same to a server that speaks S3 on this machine (moto's, in a process of its own). It is written in
Python and shares the machine: where it is the limit, the figures say what it can do, and `folder` what Ensemble can.

Prints one JSON line on stdout. For each kind:
    heard_per_s     events heard a second by three players in a chain, from the first publish until all is heard and durable, at
                    `linger: 50ms` (a directory: 0): the best of the rounds
    of_directory    that by the directory's
    p50_ms          one order alone, from publish until what the third player heard is durable: four commits that linger
    publish_per_s   events a second into the store that is opened then
    open_s          opening the store of --events events again from its snapshot, in a process that has done so before
    open_requests   what was asked of the store for that, by kind
    idle_per_hour   requests an hour of a band that is open and has nothing to do, from ten seconds
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ensemble
from ensemble.event import Event, emit

sys.path.insert(0, str(Path(__file__).parents[1]))

CHAIN: dict[str, Any] = {
    "ensemble": 1,
    "name": "chain",
    "events": {"order.placed": {"key": "order_id"}},
    "players": {
        "price": {"on": "order.placed", "emits": ["order.priced"]},
        "pay": {"on": "order.priced", "emits": ["order.paid"]},
        "count": {"on": "order.paid"},
    },
}
LONG: dict[str, Any] = {"ensemble": 1, "name": "long", "players": {"archive": {"on": "reading.taken"}}}
LINGER = "50ms"
IDLE_S = 10


def order(number: int) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "customer": f"c-{number % 997}", "total": 39.5, "items": ["mat", "bottle"], "n": 1}


def price(event: Event) -> Any:
    return emit("order.priced", event.data)


def pay(event: Event) -> Any:
    return emit("order.paid", event.data)


def count(event: Event) -> None:
    """The last of the chain."""
    assert event.data["n"] == 1


def archive(events: list[Event]) -> None:
    """Hears whole batches, and does nothing."""


def reading(number: int) -> dict[str, Any]:
    return {"sensor": f"s-{number % 1000}", "value": number, "note": "as good as any other reading of the day"}


class Places:
    """Fresh stores of each kind."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._number = folder, 0

    def url(self, kind: str) -> str:
        self._number += 1
        name = f"store-{self._number}"
        place = self._folder / name
        return {"directory": str(place), "folder": f"objects:{place}", "s3": f"s3://music/{name}"}[kind]


def scored(score: dict[str, Any], kind: str) -> dict[str, Any]:
    return score if kind == "directory" else {**score, "store": {"linger": LINGER}}


def chain(url: str, kind: str, orders: int) -> float:
    """Events heard a second."""
    data = [order(number) for number in range(orders)]
    with ensemble.open(scored(CHAIN, kind), store=url, players={"price": price, "pay": pay, "count": count}) as band:
        start = time.perf_counter()
        band.publish_many(data, topic="order.placed")
        band.settle(600)
        return 3 * orders / (time.perf_counter() - start)


def alone(url: str, kind: str) -> float:
    """Milliseconds that one order takes through the chain."""
    took = []
    with ensemble.open(scored(CHAIN, kind), store=url, players={"price": price, "pay": pay, "count": count}) as band:
        for number in range(15):
            start = time.perf_counter()
            band.publish("order.placed", order(number))
            band.settle(60)
            took.append((time.perf_counter() - start) * 1000)
    return round(statistics.median(took[3:]), 1)


def long(url: str, kind: str, events: int) -> dict[str, Any]:
    """A store of many events: how fast it was filled and is opened, and what it asks for at rest."""
    players = {"archive": archive}
    with ensemble.open(scored(LONG, kind), store=url, players=players) as band:
        start = time.perf_counter()
        band.publish_many((reading(number) for number in range(events)), topic="reading.taken")
        band.settle(600)
        took = time.perf_counter() - start
    with ensemble.read(url) as reader:
        before = reader.status().requests
    start = time.perf_counter()
    with ensemble.open(scored(LONG, kind), store=url, players=players) as band:
        open_s = time.perf_counter() - start
        opened = band.status()
        assert opened.events >= events
        time.sleep(IDLE_S)
        idle = sum(band.status().requests.values()) - sum(opened.requests.values())
    asked = {name: asked - before.get(name, 0) for name, asked in opened.requests.items()}
    return {
        "publish_per_s": round(events / took),
        "open_s": round(open_s, 3),
        "open_requests": {name: number for name, number in asked.items() if number},
        "idle_per_hour": idle * 3600 // IDLE_S,
    }


@contextmanager
def server(kinds: list[str]) -> Iterator[None]:
    """While this lasts, this process finds an S3 server."""
    if "s3" not in kinds:
        yield
        return
    from tests.s3 import S3

    s3 = S3()
    os.environ.update(s3.env)
    try:
        yield
    finally:
        s3.end()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--orders", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", default=["directory", "folder", "s3"], choices=["directory", "folder", "s3"])
    given = parser.parse_args()
    figures: dict[str, dict[str, Any]] = {kind: {} for kind in given.kinds}
    with tempfile.TemporaryDirectory() as folder, server(given.kinds):
        places = Places(Path(folder))
        rounds = [{kind: chain(places.url(kind), kind, given.orders) for kind in given.kinds} for _ in range(given.rounds)]
        for kind, told in figures.items():
            told["heard_per_s"] = round(max(each[kind] for each in rounds))
            if "directory" in figures:
                told["of_directory"] = round(told["heard_per_s"] / figures["directory"]["heard_per_s"], 2)
            told["p50_ms"] = alone(places.url(kind), kind)
            told.update(long(places.url(kind), kind, given.events))
            print(kind, json.dumps(told), file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
