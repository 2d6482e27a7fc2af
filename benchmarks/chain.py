"""Three players in a chain over a durable log, beside the same three functions called in a bare loop.

    python benchmarks/chain.py [--stage solo|ray] [--events N] [--orders N] [--store FOLDER]

Prints one JSON line on stdout:
    heard_per_s         events heard a second by all three players, from the first publish until all is heard and durable
    bare_loop_per_s     the same functions, with the same decode and encode, called one after the other: the machine's yardstick
    ratio               the first by the second, in the same run
    p50_ms, p99_ms      one order alone, from publish until the third player has heard it: three durable hops
    of_solo             heard_per_s by that of solo in the same run (stage ray only)
    rss_mb, log_mb      resident memory at its highest, and the log's size
Each player decodes its event and answers with one; the last counts. An event's data is about 100 bytes.
"""

from __future__ import annotations

import argparse
import json
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


def count(event: Event) -> None:
    """The last of the chain."""
    assert event.data["n"] == 3


def note(event: Event, ctx: Any) -> None:
    """The last of the chain, for an order alone: it keeps when it heard it, by a clock that all processes share."""
    ctx.state["heard_at"] = time.monotonic()


def bare_loop(orders: list[dict[str, Any]]) -> float:
    """Events heard a second by the three functions alone: each event is encoded once and decoded once."""
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
    return 3 * len(orders) / took


def warm_up(band: ensemble.Band) -> None:
    """Let every player have an instance before the clock runs."""
    band.publish("order.placed", order(0))
    band.settle(60)


def throughput(orders: list[dict[str, Any]], stage: str, store: str) -> tuple[float, float]:
    """Events heard a second through the band, and the log's size in MB."""
    with ensemble.open(SCORE, stage=stage, store=store, players={"price": price, "pay": pay, "count": count}) as band:
        warm_up(band)
        start = time.perf_counter()
        band.publish_many(orders, topic="order.placed")
        band.settle()
        took = time.perf_counter() - start
        heard = sum(section.heard for section in band.status().sections.values())
        assert heard == 3 * (len(orders) + 1), "each event was heard once by each"
        assert band.dead() == []
        return 3 * len(orders) / took, (band.status().bytes or 0) / 1e6


def latency(orders: int, stage: str, store: str) -> tuple[float, float]:
    """Median and 99th percentile of one order alone through three durable hops, in milliseconds."""
    published: dict[str, float] = {}
    with ensemble.open(SCORE, stage=stage, store=store, players={"price": price, "pay": pay, "count": note}) as band:
        warm_up(band)
        for number in range(orders):
            published[f"o-{number}"] = time.monotonic()
            band.publish("order.placed", order(number))
            band.settle(10)
        table = dict(band.table("count").items())
    took = sorted(1000 * (table[key]["heard_at"] - at) for key, at in published.items())
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
    parser.add_argument("--stage", choices=["solo", "ray"], default="solo", help="where to play (default: %(default)s)")
    options = parser.parse_args()
    orders = [order(number) for number in range(options.events)]
    stores = places(options.store)
    bare_loop(orders[:20_000])  # warm up
    bare = bare_loop(orders)
    of_solo = None if options.stage == "solo" else throughput(orders, "solo", next(stores))[0]
    heard, log_mb = throughput(orders, options.stage, next(stores))
    bare = (bare + bare_loop(orders)) / 2  # the machine is shared: before and after
    p50_ms, p99_ms = latency(options.orders, options.stage, next(stores))
    rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    line = {
        "stage": options.stage,
        "events": options.events,
        "heard_per_s": round(heard),
        "bare_loop_per_s": round(bare),
        "ratio": round(heard / bare, 3),
        "p50_ms": round(p50_ms, 3),
        "p99_ms": round(p99_ms, 3),
        "rss_mb": round(rss_kb / 1024, 1),
        "log_mb": round(log_mb, 1),
    }
    if of_solo is not None:
        line["of_solo"] = round(heard / of_solo, 3)
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
