"""Takes and replays of a log of a million events.

    python benchmarks/replay.py [--events N] [--store FOLDER]

Prints one JSON line on stdout:
    live_per_s               events that players heard a second while it was played, the log on disk
    branch_ms, branch_bytes  a take made in the middle of the log, and the new files that it takes; the median of nine
    rebuild_per_s            tables rebuilt from the log alone, with no snapshot: events folded a second
    replay_per_s             events heard a second by unchanged code, all of it held against the record
    changed_per_s            the same with a player of which one answer in a hundred differs: a take is written
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import ensemble
from ensemble import emit, takes
from ensemble.broker.state import State
from ensemble.event import Event
from ensemble.log import read_log
from ensemble.replay import replay

SCORE: dict[str, Any] = {
    "ensemble": 1,
    "name": "shop",
    "players": {"price": {"on": "ordered", "emits": ["priced"]}, "tally": {"on": "priced"}},
}


def price(event: Event) -> Any:
    return emit("priced", n=event.data["n"])


def dearer(event: Event) -> Any:
    return emit("priced", n=event.data["n"] + (event.data["n"] % 100 == 0))


def tally(event: Event, ctx: Any) -> None:
    ctx.state["sum"] = ctx.state.get("sum", 0) + event.data["n"]


PLAYERS: Mapping[str, Callable[..., Any]] = {"price": price, "tally": tally}


def play(store: str, orders: int) -> float:
    """Seconds that it took."""
    with ensemble.open(SCORE, store=store, players=PLAYERS) as band:
        began_s = time.perf_counter()
        items = ({"topic": "ordered", "data": {"n": number}, "key": f"k{number % 1000}"} for number in range(orders))
        band.publish_many(items)
        band.settle(600)
        return time.perf_counter() - began_s


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def branch(store: str, events: int) -> tuple[float, int]:
    took = []
    for number in range(9):
        began_s = time.perf_counter()
        takes.new(store, f"take-{number}", events // 2 + number)
        took.append(1000 * (time.perf_counter() - began_s))
    made = size(Path(store, "takes", "take-0"))
    for number in range(9):
        takes.drop(store, f"take-{number}")
    return median(took), made


def rebuild(store: str) -> float:
    log = read_log(store)
    began_s = time.perf_counter()
    state = State()
    for frame in log.frames():
        state.apply(frame)
    took_s = time.perf_counter() - began_s
    assert len(state.sections["tally"].table) == 1000
    log.close()
    return took_s


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--events", type=int, default=1_000_000, help="events in the log")
    parser.add_argument("--store", help="where to keep it")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = asked.store or str(Path(folder, "store"))
        orders = asked.events // 2
        live_s = play(store, orders)
        branch_ms, branch_bytes = branch(store, asked.events)
        rebuild_s = rebuild(store)
        same = replay(SCORE, 0, store=store, calls=PLAYERS)
        assert not same, same.difference
        changed = replay(SCORE, 0, store=store, calls={**PLAYERS, "price": dearer})
        assert len(changed.difference.of("price").events) == orders // 100
        print(
            json.dumps(
                {
                    "events": asked.events,
                    "live_per_s": round(2 * orders / live_s),
                    "branch_ms": round(branch_ms, 1),
                    "branch_bytes": branch_bytes,
                    "rebuild_per_s": round(asked.events / rebuild_s),
                    "replay_per_s": round(2 * orders / same.took_s),
                    "changed_per_s": round(2 * orders / changed.took_s),
                }
            )
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
