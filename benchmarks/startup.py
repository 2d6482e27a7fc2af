"""How long whole processes take: the help, a small score from start to end, and opening a store of a million events.

    python benchmarks/startup.py [--runs N] [--events N]

Prints one JSON line on stdout, each figure the median of the runs, in seconds: `help_s`, `hello_s` (a new store each time),
`open_s` (in process: from `ensemble.open` until the band can play, on a store of `--events` events with its snapshot).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import ensemble

ENSEMBLE = str(Path(sys.executable).parent / "ensemble")
HELLO = str(Path(__file__).parents[1] / "scores" / "hello.yaml")
SCORE = {"ensemble": 1, "name": "startup", "players": {"archive": {"on": "reading.taken"}}}


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def process(*command: str) -> float:
    return seconds(lambda: subprocess.run(command, check=True, capture_output=True))


def median(figures: list[float]) -> float:
    return round(statistics.median(figures), 3)


def opening(runs: int, events: int, store: str) -> float:
    """Opening a store of so many events; closing it is not counted."""
    players = {"archive": lambda event: None}
    with ensemble.open(SCORE, store=store, players=players) as band:
        band.publish_many(({"sensor": f"s-{n % 1000}", "value": n} for n in range(events)), topic="reading.taken")
        band.settle()
    took = []
    for _ in range(runs):
        start = time.perf_counter()
        with ensemble.open(SCORE, store=store, players=players):
            took.append(time.perf_counter() - start)
    return median(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--runs", type=int, default=9, help="runs of each (default: %(default)s)")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the store (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-") as folder:
        hello = [process(ENSEMBLE, "run", HELLO, "--store", f"{folder}/hello-{n}") for n in range(options.runs)]
        line = {
            "help_s": median([process(ENSEMBLE, "--help") for _ in range(options.runs)]),
            "hello_s": median(hello),
            "events": options.events,
            "open_s": opening(options.runs, options.events, f"{folder}/store"),
        }
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
