"""Three players in a chain over a durable log, beside the same three functions called in a bare loop.

    python benchmarks/chain.py [--events N] [--orders N] [--store URL]

Prints one JSON line on stdout:
    heard_per_s         events heard a second by all three players, from the first publish until all is heard and durable
    bare_loop_per_s     the same functions, with the same decode and encode, called one after the other: the machine's yardstick
    ratio               the first by the second, in the same run
    p50_ms, p99_ms      one order alone, from publish until the third player has heard it: three durable hops
    rss_mb, log_mb      resident memory at its highest, and the log's size
Each player decodes its event and answers with one; the last counts. An event's data is about 100 bytes.
"""

from __future__ import annotations

import argparse
import json
import queue
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ensemble
from ensemble.event import Event, Rows, emit, encode

SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "chain",
    "events": {"order.placed": {"key": "order_id"}},
    "players": {
        "price": {"on": "order.placed", "emits": ["order.priced"]},
        "pay": {"on": "order.priced", "emits": ["order.paid"]},
        "count": {"on": "order.paid"},
    },
}


def order(number: int) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "customer": f"c-{number % 997}", "total": 39.5, "items": ["mat", "bottle"], "n": 1}


def price(event: Event) -> Any:
    data = event.data
    data["n"] += 1
    return emit("order.priced", data)


def pay(event: Event) -> Any:
    data = event.data
    data["n"] += 1
    return emit("order.paid", data)


class Count:
    """The last of the chain. `heard` tells somebody who waits for one order."""

    total = 0

    def __init__(self) -> None:
        self.heard: queue.SimpleQueue[float] | None = None

    def __call__(self, event: Event) -> None:
        self.total += event.data["n"]
        if self.heard is not None:
            self.heard.put(time.perf_counter())


def bare_loop(orders: list[dict[str, Any]]) -> float:
    """Events heard a second by the three functions alone: each event is encoded once and decoded once."""
    count = Count()
    keys = [""] * len(orders)
    start = time.perf_counter()
    published = [encode(data) for data in orders]
    rows = Rows("bare", 0, 0, 0, ["order.placed"], 0, keys, published, ["/bare"], 0)
    for player, topic in ((price, "order.priced"), (pay, "order.paid")):
        answers = [encode(player(Event(rows, ix)).data) for ix in range(len(orders))]
        rows = Rows("bare", 0, 0, 0, [topic], 0, keys, answers, ["/bare"], 0)
    for ix in range(len(orders)):
        count(Event(rows, ix))
    took = time.perf_counter() - start
    assert count.total == 3 * len(orders), "each event was heard once by each"
    return 3 * len(orders) / took


def throughput(orders: list[dict[str, Any]], store: str) -> tuple[float, float]:
    """Events heard a second through the band, and the log's size in MB."""
    count = Count()
    with ensemble.open(SCORE, store=store, players={"price": price, "pay": pay, "count": count}) as band:
        start = time.perf_counter()
        band.publish_many(orders, topic="order.placed")
        band.settle()
        took = time.perf_counter() - start
        assert count.total == 3 * len(orders), "each event was heard once by each"
        return 3 * len(orders) / took, (band.status().bytes or 0) / 1e6


def latency(orders: int, store: str) -> tuple[float, float]:
    """Median and 99th percentile of one order alone through three durable hops, in milliseconds."""
    count = Count()
    count.heard = queue.SimpleQueue()
    took = []
    with ensemble.open(SCORE, store=store, players={"price": price, "pay": pay, "count": count}) as band:
        for number in range(orders):
            start = time.perf_counter()
            band.publish("order.placed", order(number))
            took.append(1000 * (count.heard.get(timeout=10) - start))
            band.settle(10)
    took = sorted(took[orders // 10 :])
    return statistics.median(took), took[int(0.99 * len(took))]


def places(url: str | None) -> Iterator[str]:
    """Stores to play on: new folders in `url`, or in a folder that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-", dir=url) as folder:
        number = 0
        while True:
            number += 1
            yield str(Path(folder) / f"store-{number}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=300_000, help="orders published (default: %(default)s)")
    parser.add_argument("--orders", type=int, default=1000, help="orders played alone, for latency (default: %(default)s)")
    parser.add_argument("--store", help="folder to make the stores in (default: the system's temporary folder)")
    options = parser.parse_args()
    orders = [order(number) for number in range(options.events)]
    stores = places(options.store)
    bare_loop(orders[:20_000])  # warm up
    bare = bare_loop(orders)
    heard, log_mb = throughput(orders, next(stores))
    bare = (bare + bare_loop(orders)) / 2  # the machine is shared: before and after
    p50_ms, p99_ms = latency(options.orders, next(stores))
    rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = {
        "stage": "solo",
        "events": options.events,
        "heard_per_s": round(heard),
        "bare_loop_per_s": round(bare),
        "ratio": round(heard / bare, 3),
        "p50_ms": round(p50_ms, 3),
        "p99_ms": round(p99_ms, 3),
        "rss_mb": round(rss_kb / 1024, 1),
        "log_mb": round(log_mb, 1),
    }
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
