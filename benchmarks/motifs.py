"""Motifs of several events: the matcher alone, a chain with a motif beside the same chain without, and opening a store of
partial matches.

    python benchmarks/motifs.py                      200,000 keys, each with an open sequence of three
    python benchmarks/motifs.py --keys 20000         a quick look

Prints one JSON line. `matcher_per_s`: events a second through the matcher on one core, every key with an open sequence; the
lowest of the three thirds (all begin, all go on, all are complete). `ratio`: events heard a second by a chain whose last player
hears a motif of its three events, as a share of the same chain without. `open_s`: opening the store whose snapshot holds a
partial match for each key. `where_us`: what a condition on one field costs an event, as CEL.
"""

from __future__ import annotations

import argparse
import gc
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ensemble
from ensemble.broker.matching import Matcher, Pattern
from ensemble.event import Event, Match, Rows, emit, encode
from ensemble.motif import parse
from ensemble.score.condition import condition
from ensemble.score.units import duration_us

FRAME = 4096
STEPS = ("order.placed", "order.priced", "order.paid")


def frames_of(topic: str, keys: list[str], first: int) -> list[Rows]:
    """One event of a topic for each key, in frames."""
    payload = encode({"order_id": "o-1", "customer": "c-7", "total": 39.5, "items": ["mat", "bottle"], "n": 1})
    made = []
    for at in range(0, len(keys), FRAME):
        some = keys[at : at + FRAME]
        made.append(Rows("bench", 0, first + at, 1, [topic], 0, some, [payload] * len(some), ["/bench"], 0))
    return made


def matcher_alone(keys: list[str], motif: dict[str, Any]) -> dict[str, float]:
    """Events a second through the matcher: all keys begin, all go on, all are complete."""
    matcher = Matcher(Pattern(parse(motif, duration_us=duration_us), "_bench"))
    took: dict[str, float] = {}
    heard = 0
    for step, topic in enumerate(STEPS):
        frames = frames_of(topic, keys, step * len(keys))
        gc.collect()
        start = time.perf_counter()
        for number, rows in enumerate(frames):
            now_us = (step * len(frames) + number) * 1000
            matcher.advance(now_us)
            heard += len(matcher.hear(rows, 0, now_us))
        took[topic] = len(keys) / (time.perf_counter() - start)
    assert heard == len(keys), "each sequence was heard once"
    return took


def price(event: Event) -> Any:
    data = event.data
    data["n"] += 1
    return emit("order.priced", data)


def pay(event: Event) -> Any:
    data = event.data
    data["n"] += 1
    return emit("order.paid", data)


def last(event: Event) -> None:
    assert event.data["n"] == 3


def last_of_all(match: Match) -> None:
    assert match.events[-1].data["n"] == 3


def chain(orders: int, store: str, on: Any, ear: Callable[..., Any]) -> float:
    """Orders a second through three durable hops, the last of which hears `on`."""
    score = {
        "ensemble": 1,
        "name": "chain",
        "events": {topic: {"key": "order_id"} for topic in STEPS},
        "players": {
            "price": {"on": "order.placed", "emits": ["order.priced"]},
            "pay": {"on": "order.priced", "emits": ["order.paid"]},
            "count": {"on": on},
        },
    }
    data = [{"order_id": f"o-{n}", "customer": f"c-{n % 997}", "total": 39.5, "items": ["mat"], "n": 1} for n in range(orders)]
    with ensemble.open(score, store=store, players={"price": price, "pay": pay, "count": ear}) as band:
        start = time.perf_counter()
        band.publish_many(data, topic="order.placed")
        band.settle()
        took = time.perf_counter() - start
        assert band.status().sections["count"].heard == orders, "each order was heard once at the end"
        assert band.dead() == []
        return orders / took


def open_partial(keys: int, store: str) -> tuple[float, float]:
    """Seconds to open a store whose snapshot has a partial match for each key, and the snapshot's size in MB."""
    score = {"ensemble": 1, "name": "open", "players": {"count": {"on": {"seq": list(STEPS), "within": "30d"}}}}

    def band() -> ensemble.Band:
        return ensemble.open(score, store=store, players={"count": lambda match: None})

    with band() as playing:
        for topic in STEPS[:2]:
            playing.publish_many({"topic": topic, "key": f"o-{n}", "data": {"n": n}} for n in range(keys))
        playing.settle()
    size = sum(path.stat().st_size for path in Path(store).rglob("*snap*") if path.is_file())
    start = time.perf_counter()
    with band() as playing:
        took = time.perf_counter() - start
        playing.publish(STEPS[2], {}, key="o-0")
        playing.settle()
        assert playing.status().sections["count"].heard == 1, "its partial match was there"
    return took, size / 1e6


def condition_us(events: int) -> float:
    """Microseconds that a condition on one field costs an event, beside decoding it."""
    rows = frames_of("order.placed", ["k"] * events, 0)
    holds = condition("data.total > 30")
    made = [frame.event(ix) for frame in rows for ix in range(len(frame))]
    for event in made:
        assert event.data
    start = time.perf_counter()
    for event in made:
        holds(event)
    return (time.perf_counter() - start) / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--keys", type=int, default=200_000, help="keys with an open sequence (default: %(default)s)")
    parser.add_argument("--orders", type=int, default=60_000, help="orders through the chain (default: %(default)s)")
    parser.add_argument("--store", help="folder to make the stores in (default: the system's temporary folder)")
    options = parser.parse_args()
    keys = [f"o-{n}" for n in range(options.keys)]
    plain = matcher_alone(keys, {"seq": list(STEPS)})
    timed = matcher_alone(keys, {"seq": list(STEPS), "within": "30m"})
    rss_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-", dir=options.store) as folder:
        places = [str(Path(folder) / f"store-{number}") for number in range(5)]
        chain(2_000, places[0], "order.paid", last)
        without = chain(options.orders, places[1], "order.paid", last)
        with_motif = chain(options.orders, places[2], {"seq": list(STEPS)}, last_of_all)
        without = (without + chain(options.orders, places[3], "order.paid", last)) / 2  # the machine is shared
        open_s, snapshot_mb = open_partial(options.keys, places[4])
    line = {
        "keys": options.keys,
        "matcher_per_s": round(min(plain.values())),
        "matcher_within_per_s": round(min(timed.values())),
        "by_step_per_s": [round(each) for each in plain.values()],
        "rss_mb": round(rss_kb / 1024, 1),
        "orders_per_s": round(with_motif),
        "orders_without_per_s": round(without),
        "ratio": round(with_motif / without, 3),
        "open_s": round(open_s, 3),
        "snapshot_mb": round(snapshot_mb, 1),
        "where_us": round(condition_us(min(options.keys, 50_000)), 2),
    }
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
