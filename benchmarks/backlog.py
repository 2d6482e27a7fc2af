"""A backlog of two million events waiting for a section, and how fast a store of that size opens.

    python benchmarks/backlog.py [--events N] [--store FOLDER]

Prints one JSON line on stdout:
    publish_per_s       events published a second, from outside, durable
    rss_mb              resident memory at its highest while they wait and while they are heard
    open_s, open_rss_mb opening the store again in a new process, until it can play, and that process's memory
    heard_per_s         the section catching up from the log
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ensemble
from ensemble.event import Event


def score(*players: str) -> dict[str, Any]:
    return {"ensemble": 1, "name": "backlog", "players": {name: {"on": "reading.taken"} for name in players}}


def readings(count: int) -> Iterator[dict[str, Any]]:
    for number in range(count):
        yield {"sensor": f"s-{number % 1000}", "value": number, "note": "as good as any other reading of the day"}


def in_a_process(work: Callable[..., dict[str, Any]], *args: Any) -> dict[str, Any]:
    """What `work` gives, in a process of its own, so that its memory can be measured."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=lambda: theirs.send(work(*args)))
    process.start()
    answer: dict[str, Any] = ours.recv()
    process.join()
    return answer


def rss_mb() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def publish(store: str, count: int) -> dict[str, Any]:
    """The backlog grows while its only section can't hear: its first event takes until all is published."""
    import threading

    may_hear = threading.Event()

    def slow(event: Event) -> None:
        may_hear.wait()

    slow_score = score("archive")
    slow_score["players"]["archive"]["section"] = {"max": 2, "batch": 1000}
    with ensemble.open(slow_score, store=store, players={"archive": slow}) as band:
        start = time.perf_counter()
        band.publish_many(readings(count), topic="reading.taken")
        took = time.perf_counter() - start
        lag = band.status().sections["archive"].lag
        assert lag == count, f"{lag} wait, of {count}"
        rss = rss_mb()
        may_hear.set()
    return {"publish_per_s": round(count / took), "rss_mb": rss}


def reopen(store: str, count: int) -> dict[str, Any]:
    heard = 0

    def archive(event: Event) -> None:
        nonlocal heard
        heard += 1

    start = time.perf_counter()
    with ensemble.open(score("archive"), store=store, players={"archive": archive}) as band:
        opened = time.perf_counter() - start
        rss = rss_mb()
        start, before = time.perf_counter(), band.status().sections["archive"].lag
        band.settle()
        took = time.perf_counter() - start
        assert band.status().sections["archive"].heard == count, "each was heard once"
    return {
        "open_s": round(opened, 3),
        "open_rss_mb": rss,
        "heard_per_s": round(before / took),
        "hearing_rss_mb": rss_mb(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=2_000_000, help="events that wait (default: %(default)s)")
    parser.add_argument("--store", help="folder to make the store in (default: the system's temporary folder)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-", dir=options.store) as folder:
        store = str(Path(folder) / "store")
        line = {"events": options.events, **in_a_process(publish, store, options.events)}
        line.update(in_a_process(reopen, store, options.events))
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
