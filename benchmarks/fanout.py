"""What it costs to bring a frame to several sections on Ray: in each call, through Ray's object store, or put there once.

    python benchmarks/fanout.py [--seconds N] [--frames] [--large URL]

One process hands the same batches to 1, 2 and 5 actors, two in flight each, as a shard does; each unpacks what it gets and
looks at each payload. Prints one JSON line: for each size of an event, events in a batch, and number of sections
    call_ms    the batch packed for each section, in its call (Ray puts what is above 100 kB into its store, once a call)
    once_ms    the frame put into the store once, and the rows in the call
for one batch heard by all of them: wall time, and, under `cpu`, CPU of the process that hands out.

With `--frames` it is one frame that two sections hear in several batches, the smallest of them of 120 kB: each batch with its
events in it, or the frame put once and read whole by each batch. `put_ms` is the putting alone: what it costs to come to a
frame that is no longer kept.

With `--large URL` it is one large event a batch, each time another, which is kept beside a log in a new store at that url: its
data in the call, put once, or only named (`named_ms`), so that each instance gets it from the store.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from itertools import cycle
from typing import Any

from ensemble.broker.section import Batch
from ensemble.event import Event, Frame, Rows
from ensemble.log import open_log
from ensemble.player import Work
from ensemble.stage.on_ray import wire
from ensemble.stage.on_ray.claims import Claims

CASES = (
    (100, 500), (1_000, 80), (10_000, 1), (10_000, 8), (100_000, 1), (120_000, 1), (200_000, 1), (400_000, 1), (100_000, 8),
    (1_000_000, 1),
)  # fmt: skip
"""Bytes of an event, and events in a batch."""
SECTIONS = (1, 2, 5)
FRAMES = tuple((megabytes, batches) for megabytes in (1, 2, 4, 8, 16) for batches in (1, 4, 100 * megabytes // 12))
"""Megabytes of a frame of events of 10 kB, and in how many batches each section hears it."""
LARGE = (300_000, 1_000_000, 4_000_000)
"""Bytes of an event that lies beside the log."""
ANOTHER = 8
"""So many different ones, one after the other."""
WARM = 10
"""Batches before the clock runs."""


class Hears:
    def hear(self, batch: bytes) -> int:
        return sum(len(event.payload) for event in wire.unpack_work(batch).events)

    def hear_of(self, batch: bytes, frame: Any) -> int:
        return sum(len(event.payload) for event in wire.unpack_work(batch, [frame]).events)


class Fetches:
    def __init__(self, url: str) -> None:
        self.fetch = Claims(url, ["nobody"]).of(0)

    def hear(self, batch: bytes) -> int:
        return sum(len(event.payload) for event in wire.unpack_work(batch, (), self.fetch).events)


def batch(size: int, count: int) -> Work:
    rows = Rows("log", 0, 0, 0, ["a.b"], 0, [f"k-{n}" for n in range(count)], [bytes(size)] * count, ["/bench"], 0)
    offsets = range(count)
    keys = list(rows.keys)
    return Work(Batch("s", offsets, keys, {}, 0), [Event(rows, n) for n in range(count)], offsets, offsets, {})


def alone(rows: Rows) -> Work:
    """A batch of the one event of a frame."""
    return Work(Batch("s", [rows.first], list(rows.keys), {}, 0), [Event(rows, 0)], [rows.first], [rows.first], {})


def in_the_call(actors: list[Any], work: Work) -> list[Any]:
    return [actor.hear.remote(wire.pack_work(work)) for actor in actors]


def put_once(actors: list[Any], work: Work) -> list[Any]:
    import ray

    frame = ray.put(wire.shared(work.events[0]._rows))
    return [actor.hear_of.remote(wire.pack_work(work, lambda rows, ixs: 0), frame) for actor in actors]


def divided(whole: Work, batches: int) -> list[Work]:
    count = len(whole.events) // batches
    return [
        Work(
            Batch("s", range(lo, lo + count), whole.batch.keys[lo : lo + count], {}, 0),
            whole.events[lo : lo + count], range(lo, lo + count), range(lo, lo + count), {},
        )
        for lo in range(0, count * batches, count)
    ]  # fmt: skip


def parts_in_the_call(actors: list[Any], works: list[Work]) -> list[Any]:
    return [actor.hear.remote(wire.pack_work(work)) for work in works for actor in actors]


def parts_of_one(actors: list[Any], works: list[Work]) -> list[Any]:
    import ray

    frame = ray.put(wire.shared(works[0].events[0]._rows))
    return [actor.hear_of.remote(wire.pack_work(work, lambda rows, ixs: 0), frame) for work in works for actor in actors]


def put_alone(actors: list[Any], works: list[Work]) -> list[Any]:
    import ray

    return [ray.put(wire.shared(works[0].events[0]._rows))]


def frames(everybody: list[Any], seconds: float, turns: int) -> list[dict[str, Any]]:
    cases = []
    for megabytes, batches in FRAMES:
        works = divided(batch(10_000, 100 * megabytes), batches)
        case: dict[str, Any] = {"megabytes": megabytes, "batches": batches, "sections": 2}
        ways = {"call_ms": parts_in_the_call, "once_ms": parts_of_one, "put_ms": put_alone}
        for name, way in ways.items():
            found = [measure(way, everybody[:2], works, seconds) for _ in range(turns)]
            case[name] = round(min(wall for wall, _ in found), 2)
        cases.append(case)
        print(json.dumps(case), file=sys.stderr)
    return cases


def large(hearers: list[Any], url: str, seconds: float, turns: int) -> list[dict[str, Any]]:
    import ray

    kind: Any = ray.remote(Fetches)
    fetchers = [kind.options(num_cpus=0.1).remote(url) for _ in range(max(SECTIONS))]
    event_log = open_log(url, name="bench", blob_above=1024)
    cases = []
    for size in LARGE:
        works = []
        for number in range(ANOTHER):
            at = event_log.end()
            rows = Rows("log", 0, at.offset, 0, ["a.b"], 0, ["k"], [number.to_bytes(1, "big") * size], ["/bench"], 0)
            frame = Frame(at.offset, at.time_us, rows, {})
            event_log.append([event_log.seal(frame)])
            named_rows = frame.rows
            assert named_rows is not None
            works.append((alone(rows), alone(named_rows)))
        for sections in SECTIONS:
            case: dict[str, Any] = {"bytes": size, "sections": sections}
            plain, named = cycle([work for work, _ in works]), cycle([work for _, work in works])
            ways: dict[str, Callable[[list[Any], Iterator[Work]], list[Any]]] = {
                "call_ms": lambda actors, given: in_the_call(actors, next(given)),
                "once_ms": lambda actors, given: put_once(actors, next(given)),
                "named_ms": lambda actors, given: in_the_call(actors, next(given)),
            }
            for name, way in ways.items():
                actors, given_works = (fetchers, named) if name == "named_ms" else (hearers, plain)
                found = [measure(way, actors[:sections], given_works, seconds) for _ in range(turns)]
                case[name] = round(min(wall for wall, _ in found), 2)
            cases.append(case)
            print(json.dumps(case), file=sys.stderr)
    event_log.close()
    return cases


def measure(send: Callable[[list[Any], Any], list[Any]], actors: list[Any], work: Any, seconds: float) -> tuple[float, float]:
    """Milliseconds of wall time, and of CPU here, for a batch that all actors hear."""
    import ray

    flying: deque[list[Any]] = deque()
    rounds = 0
    start_s = start_cpu = 0.0
    while rounds <= WARM + 20 or time.perf_counter() - start_s < seconds:
        if rounds == WARM:
            start_s, start_cpu = time.perf_counter(), time.process_time()
        flying.append(send(actors, work))
        if len(flying) == 2:
            ray.get(flying.popleft())
        rounds += 1
    ray.get(flying.popleft())
    done = rounds - WARM
    return 1000 * (time.perf_counter() - start_s) / done, 1000 * (time.process_time() - start_cpu) / done


def main() -> None:
    import ray

    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=0.5, help="how long each is measured (default: %(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="how often; the quickest counts (default: %(default)s)")
    parser.add_argument("--frames", action="store_true", help="how large a frame may be that is shared")
    parser.add_argument("--large", metavar="URL", help="what is kept beside a log in a new store there")
    options = parser.parse_args()
    ray.init(
        address="local", num_cpus=16, object_store_memory=256 << 20, include_dashboard=False, logging_level=logging.ERROR
    )
    kind: Any = ray.remote(Hears)
    everybody = [kind.options(num_cpus=0.1).remote() for _ in range(max(SECTIONS))]
    cases: list[dict[str, Any]] = []
    if options.frames:
        cases = frames(everybody, options.seconds, options.turns)
    if options.large:
        cases = large(everybody, options.large, options.seconds, options.turns)
    for size, count in () if options.frames or options.large else CASES:
        work = batch(size, count)
        for sections in SECTIONS:
            case: dict[str, Any] = {"bytes": size, "events": count, "sections": sections}
            found: dict[str, list[tuple[float, float]]] = {"call_ms": [], "once_ms": []}
            for _ in range(options.turns):  # in turn, since the machine is shared
                found["call_ms"].append(measure(in_the_call, everybody[:sections], work, options.seconds))
                found["once_ms"].append(measure(put_once, everybody[:sections], work, options.seconds))
            for name, measured in found.items():
                wall, cpu = (min(each) for each in zip(*measured, strict=True))
                case[name] = {"wall": round(wall, 2), "cpu": round(cpu, 2)}
            cases.append(case)
            print(json.dumps(case), file=sys.stderr)
    ray.shutdown()
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
