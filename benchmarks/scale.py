"""What one shard costs on this machine, measured; and where 1 to 1,000 nodes with N shards would saturate, computed from that.

    python benchmarks/scale.py [--events N] [--cores N] [--gbit N] [--service-us N] [--crossing N] [--store FOLDER]
                               [--chart FILE]

Nothing here has run on a cluster of several machines. The line says of each figure which kind it is.

Unit: a hop. An event of about 100 bytes is published, heard by one player once durable, and answered with one event.

Prints one JSON line on stdout. Under "measured", all of it CPU time of whole processes unless it says otherwise:
    call_caller_us, call_callee_us     one call of a Ray actor with 100 bytes there and back
    frame_us, frame_event_us           sealing a frame for the log: what is fixed, and what each event adds
    sync_ms                            wall time of one append with its fdatasync, median
    publisher_us                       a hop in the process that publishes it, in publications of `publication_events`
    take_in_us                         a hop in the shard until it is durable, before it is heard
    batches                            per batch size that was played: events in a batch, and CPU of the shard and of the
                                       instance for a hop while they are heard
    broker_us, broker_batch_us         the shard, hearing, by least squares over those: each event, each batch
    player_us, player_batch_us         the same of the instance
    fit_off                            the worst of these fits, as a share of what was measured
    bytes_in, bytes_out                a hop on the wire: into the shard (publication and outcome), and out of it (batch)
    end_to_end_per_s, end_to_end_us    one shard with one instance, all of it at once on this machine: hops a second by the
                                       clock, from which all else on the machine takes; and CPU of the three processes
    shards                             the same two with 1, 2 and 4 shards (and one instance, which serves all), where each
                                       answer keeps its key (`stays`), and where it has another, which most often belongs to
                                       another shard (`crosses`)
    crossing_us                        CPU that an answer costs more when it goes to another shard: of `crosses` and `stays`
                                       with 4 shards, divided by the share that goes there
    cores                              of this machine
Under "computed":
    shard_per_s                        hops that one shard can do, having a core to itself
    nodes                              for 1, 10, 100 and 1,000 nodes, with one shard, one a node, and as many as are best: hops
                                       a second, and what saturates: broker, cpus or network
    check_per_s, check_us              what the model says of this machine with one shard, by the two figures of end_to_end: how
                                       far it is off, on the clock and in CPU

The model. n nodes with C cores and a network of G bit/s each way; S shards, evenly loaded, each on a core of its own, spread
over the nodes; batches of B events, the largest that was measured. A hop costs

    b = take_in + broker + broker_batch / B + crossing x          in its shard; x is `--crossing`, the share of answers that
                                                go to another shard
    p = player + player_batch / B + service     in an instance; `--service-us` is the user's own code beyond the benchmark's
    u = publisher                               where it is published

    broker:   S / b
    cpus:     n C / (b + p + u)
    network:  min(S, n) (G / 8) / (max(bytes_in, bytes_out) (1 - 1/n))

and the least of the three is what can be done. Best is the S with which the broker is no longer what saturates, at most nC.

Assumptions, each of which flatters a real cluster: keys are spread evenly; an answer keeps its key and so its shard, unless
`--crossing` says otherwise; a byte to another node costs no more CPU than one to a process of this machine; stores keep up
(each shard has a disk like this one's, or the like); publishers and players run on the same nodes; Ray itself scales.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import ensemble
from ensemble.broker.outbox import shard_of
from ensemble.event import Event, Frame, Rows, emit, encode
from ensemble.log import EventLog, open_log
from ensemble.stage.on_ray import wire

BATCHES = (25, 100, 500)
NODES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)


def score(batch: int, shards: int = 1) -> dict[str, Any]:
    return {
        "ensemble": 1,
        "name": "hop",
        "stage": {"shards": shards},
        "events": {"order.placed": {"key": "order_id"}},
        "players": {"echo": {"on": "order.placed", "emits": ["order.seen"], "section": {"max": 1, "batch": batch}}},
    }


def order(number: int) -> dict[str, Any]:
    return {"order_id": f"o-{number}", "customer": f"c-{number % 997}", "total": 39.5, "items": ["mat", "bottle"], "n": 1}


def echo(event: Event) -> Any:
    data = event.data
    data["n"] += 1
    return emit("order.seen", data)


def echo_elsewhere(event: Event) -> Any:
    """The same, to another key."""
    data = event.data
    data["n"] += 1
    return emit("order.seen", data, key=f"{event.key}!")


def cpu_us(pid: int) -> float:
    """CPU time that a process has used. Linux only."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return 1e6 * (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# Measured


class Echo:
    """An actor that gives back what it was given."""

    def back(self, data: bytes) -> bytes:
        return data

    def used_us(self) -> float:
        return 1e6 * time.process_time()


def call_costs(calls: int = 3000) -> dict[str, float]:
    """Two in flight, as the crew has them."""
    import ray

    kind: Any = ray.remote(Echo)
    actor = kind.options(num_cpus=0.1).remote()
    data = bytes(100)
    ray.get([actor.back.remote(data) for _ in range(200)])
    there, here = ray.get(actor.used_us.remote()), time.process_time()
    flying = [actor.back.remote(data)]
    for _ in range(calls):
        flying.append(actor.back.remote(data))
        ray.get(flying.pop(0))
    ray.get(flying)
    here = 1e6 * (time.process_time() - here)
    there = ray.get(actor.used_us.remote()) - there
    ray.kill(actor)
    return {"call_caller_us": here / calls, "call_callee_us": there / calls}


def frame_costs(store: str) -> dict[str, float]:
    """Sealing frames of one event and of a thousand; and one append with its sync."""
    used: dict[int, float] = {}
    waits: list[float] = []
    log = open_log(store, name="frames")
    try:
        for count, turns in ((1, 2000), (1000, 100)):
            frames = _frames(log, count, turns)
            start = time.process_time()
            sealed = [log.seal(frame) for frame in frames]
            used[count] = 1e6 * (time.process_time() - start) / turns
            log.append(sealed)
        for frame in _frames(log, 1, 200):
            one = log.seal(frame)
            at = time.perf_counter()
            log.append([one])
            waits.append(1000 * (time.perf_counter() - at))
    finally:
        log.close()
    each = max(0.0, (used[1000] - used[1]) / 999)
    return {"frame_us": used[1] - each, "frame_event_us": each, "sync_ms": statistics.median(waits)}


def _frames(log: EventLog, count: int, turns: int) -> list[Frame]:
    """Frames of so many events each, that go on where the log ends."""
    data, keys = [encode(order(n)) for n in range(count)], [f"o-{n}" for n in range(count)]
    end, now_us = log.end(), time.time_ns() // 1000
    firsts = range(end.offset, end.offset + turns * count, count)
    rows = [Rows(log.id, 0, first, now_us, ["order.placed"], 0, keys, data, ["/frames"], 0) for first in firsts]
    return [Frame(each.first, now_us, each, {}) for each in rows]


def shard_costs(events: int, batch: int, store: str) -> dict[str, float]:
    """First all is published while nobody hears, then all is heard: what each takes, process by process."""
    with ensemble.open(score(batch), stage="ray", store=store, players={"echo": echo}) as band:
        stage: Any = band._stage
        shard = stage._lines[0].ask("hello")["pid"]
        band.publish_many([order(n) for n in range(2000)], topic="order.placed")
        band.settle(60)
        stage.scale("echo", 0)
        while band.status().sections["echo"].instances:
            time.sleep(0.02)
        orders = [order(n) for n in range(events)]
        ours, theirs = time.process_time(), cpu_us(shard)
        band.publish_many(orders, topic="order.placed")
        published, taken_in = time.process_time() - ours, cpu_us(shard) - theirs
        stage.scale("echo", 1)
        while not stage.pids("echo"):
            time.sleep(0.005)
        (instance,) = stage.pids("echo")
        theirs, its = cpu_us(shard), cpu_us(instance)
        heard_before = band.status().sections["echo"].heard
        band.settle(120)
        heard = band.status().sections["echo"].heard - heard_before
        shard_us, instance_us = cpu_us(shard) - theirs, cpu_us(instance) - its
        log = stage.shards[0].log
        answers = [len(f.rows) for f in log.frames() if f.rows is not None and f.rows.topics == ["order.seen"]]
        questions = [len(f.rows) for f in log.frames() if f.rows is not None and f.rows.topics == ["order.placed"]]
    assert sum(answers) == events + 2000, "each was answered once"
    answers = answers[len(answers) // 4 :]  # without the warm-up
    return {
        "events": sum(answers) / len(answers),
        "shard_us": shard_us / heard,
        "instance_us": instance_us / heard,
        "take_in_us": taken_in / events,
        "publisher_us": 1e6 * published / events,
        "publication_events": statistics.median(questions),
    }


def wire_bytes(batch: int) -> dict[str, float]:
    """What a hop weighs on the wire, by packing such a batch, its outcome and a publication of as many."""
    from ensemble.broker.section import Batch
    from ensemble.broker.words import Outcome, Publication, Said
    from ensemble.player import Work

    data = [encode(order(n)) for n in range(batch)]
    keys = [f"o-{n}" for n in range(batch)]
    rows = Rows("wire", 0, 0, 1_700_000_000_000_000, ["order.placed"], 0, keys, data, ["/wire"], 0)
    events = [Event(rows, ix) for ix in range(batch)]
    where = range(batch)
    work = Work(Batch("echo", where, keys, {}, 0), events, where, list(where), {})
    outcome = Outcome("echo", batch, keys, where, Said(["order.seen"], 0, keys, data, work.refs, work.roots), 0)
    publication = Publication(Said(["order.placed"], 0, keys, data), "/wire", token="a-1")
    into = len(wire.pack_publication(publication)) + len(wire.pack_outcome(outcome, work))
    return {"bytes_in": into / batch, "bytes_out": len(wire.pack_work(work)) / batch}


def end_to_end(events: int, store: str, shards: int = 1, player: Callable[[Event], Any] = echo) -> dict[str, float]:
    with ensemble.open(score(1000, shards), stage="ray", store=store, players={"echo": player}) as band:
        stage: Any = band._stage
        band.publish_many([order(n) for n in range(2000)], topic="order.placed")
        band.settle(60)
        orders = [order(n) for n in range(events)]
        pids = [os.getpid(), *(line.ask("hello")["pid"] for line in stage._lines), *stage.pids("echo")]
        start, used_us = time.perf_counter(), sum(map(cpu_us, pids))
        band.publish_many(orders, topic="order.placed")
        band.settle(120)
        took_s, used_us = time.perf_counter() - start, sum(map(cpu_us, pids)) - used_us
        return {"per_s": events / took_s, "us": used_us / events}


def several_shards(events: int, folder: Path) -> dict[str, Any]:
    """The whole of it with more shards than one, as far as this machine has cores for them."""
    found: dict[str, Any] = {}
    for shards in (1, 2, 4):
        found[str(shards)] = {"stays": end_to_end(events, str(folder / f"stays-{shards}"), shards)}
        if shards > 1:
            found[str(shards)]["crosses"] = end_to_end(events, str(folder / f"crosses-{shards}"), shards, echo_elsewhere)
    keys = [f"o-{n}" for n in range(events)]
    crossing = sum(shard_of(key, 4) != shard_of(f"{key}!", 4) for key in keys) / events
    cost_us = (found["4"]["crosses"]["us"] - found["4"]["stays"]["us"]) / crossing
    return {"shards": found, "crossing_us": max(0.0, cost_us)}


def fit(points: list[tuple[float, float]]) -> tuple[float, float, float]:
    """each, fixed and how far the worst point is off, of cost = each + fixed / size, by least squares."""
    xs, ys = [1 / size for size, _ in points], [cost for _, cost in points]
    x, y = statistics.fmean(xs), statistics.fmean(ys)
    fixed = sum((a - x) * (b - y) for a, b in zip(xs, ys, strict=True)) / sum((a - x) ** 2 for a in xs)
    each = y - fixed * x
    return each, fixed, max(abs(each + fixed * a - b) / b for a, b in zip(xs, ys, strict=True))


def measured(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    import ray

    out: dict[str, Any] = {"cores": os.cpu_count() or 1, **frame_costs(str(folder / "frames"))}
    counts = [options.events // (2 if batch < 100 else 1) for batch in BATCHES]
    batches = [shard_costs(count, batch, str(folder / f"shard-{batch}")) for count, batch in zip(counts, BATCHES, strict=True)]
    out |= several_shards(options.events, folder)
    out |= {f"end_to_end_{name}": value for name, value in out["shards"]["1"]["stays"].items()}
    ray.init(address="local", num_cpus=1, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    out |= call_costs()
    ray.shutdown()
    for name in ("publisher_us", "take_in_us", "publication_events"):
        out[name] = statistics.median(each[name] for each in batches)
    out["broker_us"], out["broker_batch_us"], off = fit([(each["events"], each["shard_us"]) for each in batches])
    out["player_us"], out["player_batch_us"], off_too = fit([(each["events"], each["instance_us"]) for each in batches])
    out["fit_off"] = max(off, off_too)
    out["batches"] = [{name: each[name] for name in ("events", "shard_us", "instance_us")} for each in batches]
    return out | wire_bytes(round(batches[-1]["events"]))


# Computed


class Model:
    """Where a cluster saturates, by the formulas above."""

    def __init__(self, costs: dict[str, Any], options: argparse.Namespace, cores: int) -> None:
        self.cores, self.gbit = cores, float(options.gbit)
        size: float = max(each["events"] for each in costs["batches"])
        self.broker_us: float = costs["take_in_us"] + costs["broker_us"] + costs["broker_batch_us"] / size
        self.broker_us += costs["crossing_us"] * options.crossing
        player_us: float = costs["player_us"] + costs["player_batch_us"] / size + options.service_us
        self.all_us: float = self.broker_us + player_us + costs["publisher_us"]
        self.bytes: float = max(costs["bytes_in"], costs["bytes_out"])

    def broker(self, shards: int) -> float:
        return 1e6 * shards / self.broker_us

    def cpus(self, nodes: int) -> float:
        return 1e6 * nodes * self.cores / self.all_us

    def network(self, nodes: int, shards: int) -> float:
        remote = 1 - 1 / nodes
        return min(shards, nodes) * self.gbit * 1e9 / 8 / (self.bytes * remote) if remote else float("inf")

    def best(self, nodes: int) -> int:
        """Shards with which the broker is no longer what saturates."""
        aim = min(self.cpus(nodes), self.network(nodes, nodes))
        return max(1, min(nodes * self.cores, int(aim * self.broker_us / 1e6) + 1))

    def limits(self, nodes: int, shards: int) -> dict[str, float]:
        return {"broker": self.broker(shards), "cpus": self.cpus(nodes), "network": self.network(nodes, shards)}

    def says(self, nodes: int, shards: int) -> dict[str, Any]:
        limits = self.limits(nodes, shards)
        least = min(limits, key=lambda name: limits[name])
        return {"shards": shards, "per_s": limits[least], "saturates": least}


def computed(costs: dict[str, Any], options: argparse.Namespace) -> dict[str, Any]:
    model = Model(costs, options, options.cores or costs["cores"])
    nodes = {
        str(n): {"one": model.says(n, 1), "a_node": model.says(n, n), "best": model.says(n, model.best(n))}
        for n in (1, 10, 100, 1000)
    }
    here = Model(costs, argparse.Namespace(gbit=options.gbit, service_us=0.0, crossing=0.0), costs["cores"])
    return {
        "shard_per_s": model.broker(1),
        "nodes": nodes,
        "check_per_s": here.says(1, 1)["per_s"] / costs["end_to_end_per_s"],
        "check_us": here.all_us / costs["end_to_end_us"],
    }


def draw(costs: dict[str, Any], options: argparse.Namespace, path: str) -> None:
    """Left: the cost of a hop by the size of its batch. Right: hops a second by nodes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.ticker import NullFormatter

    figure, (left, right) = plt.subplots(1, 2, figsize=(14, 6), layout="constrained")
    sizes = [10 ** (x / 20) for x in range(20, 61)]
    for part, field, name, colour in (
        ("broker", "shard_us", "the shard, hearing", "#1f5fa8"),
        ("player", "instance_us", "the instance", "#d95f02"),
    ):
        xs, ys = [each["events"] for each in costs["batches"]], [each[field] for each in costs["batches"]]
        left.plot(xs, ys, "o", color=colour, label=f"{name}: measured")
        line = [costs[f"{part}_us"] + costs[f"{part}_batch_us"] / size for size in sizes]
        label = f"computed: {costs[f'{part}_us']:.1f} µs an event and {costs[f'{part}_batch_us']:.0f} µs a batch"
        left.plot(sizes, line, "-", color=colour, linewidth=1, label=label)
    left.set(xscale="log", yscale="log", xlabel="events in a batch", ylabel="CPU of one event, µs")
    left.set_title("What a hop costs here")
    model = Model(costs, options, options.cores or costs["cores"])
    for shards, colour in ((1, "#7fb3d9"), (10, "#3f8ac4"), (100, "#1f5fa8"), (1000, "#0b3c78")):
        right.axhline(model.broker(shards), color=colour, linewidth=1, linestyle=":")
        where = {"va": "bottom", "ha": "right", "fontsize": 8, "color": colour, "backgroundcolor": "#ffffffc0"}
        right.text(1000, 1.1 * model.broker(shards), f"computed: the brokers of {shards:,} shard{'s' * (shards > 1)}", **where)
    reached = [model.says(n, model.best(n))["per_s"] for n in NODES]
    right.plot(NODES, reached, "-", color="#c8c8c8", linewidth=7, label="computed: reached, with the best number of shards")
    right.plot(NODES, [model.cpus(n) for n in NODES], "--", color="#d95f02", label=f"computed: all CPUs, {model.cores} a node")
    busy = argparse.Namespace(gbit=options.gbit, service_us=1000.0, crossing=options.crossing)
    worked = [Model(costs, busy, model.cores).cpus(n) for n in NODES]
    right.plot(NODES, worked, ":", color="#d95f02", label="computed: the same, if players work 1 ms for each event")
    wired = [n for n in NODES if n > 1]
    label = f"computed: network, {model.gbit:g} Gbit/s a node, a shard on each"
    right.plot(wired, [model.network(n, n) for n in wired], "--", color="#7b3294", label=label)
    right.plot([1], [costs["end_to_end_per_s"]], "*", color="#b2182b", markersize=14, label="measured: one shard, this machine")
    more = [costs["shards"][n]["stays"]["per_s"] for n in ("2", "4")]
    right.plot([1, 1], more, "x", color="#b2182b", markersize=8, label="measured: two and four shards, this machine")
    right.set(xscale="log", yscale="log", xlabel="nodes", ylabel="hops a second")
    right.set_title("Where a cluster would saturate: computed")
    left.set_yticks([2, 5, 10, 20, 50, 100], ["2", "5", "10", "20", "50", "100"], minor=False)
    left.set_xticks([10, 25, 100, 500, 1000], ["10", "25", "100", "500", "1,000"], minor=False)
    right.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"], minor=False)
    for axis in (left.xaxis, left.yaxis, right.xaxis):
        axis.set_minor_formatter(NullFormatter())
    for pane in (left, right):
        pane.grid(alpha=0.25)
        pane.legend(fontsize=8, loc="best")
    figure.savefig(path, dpi=110)


def rounded(value: Any) -> Any:
    """Four digits of each figure."""
    if isinstance(value, float):
        return float(f"{value:.4g}") if value < 1000 else round(value)
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--events", type=int, default=60_000, help="events played for each figure (default: %(default)s)")
    parser.add_argument("--cores", type=int, help="cores of a computed node (default: those of this machine)")
    parser.add_argument("--gbit", type=float, default=10, help="network of a computed node, Gbit/s (default: %(default)s)")
    parser.add_argument("--service-us", type=float, default=0, help="CPU of a user's own code, an event (default: %(default)s)")
    parser.add_argument("--crossing", type=float, default=0, help="share of answers that change shard (default: %(default)s)")
    parser.add_argument("--store", help="folder to make the stores in (default: the system's temporary folder)")
    parser.add_argument("--chart", metavar="FILE", help="draw both into this file (png, svg or pdf)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-", dir=options.store) as folder, redirect_stdout(sys.stderr):
        costs = measured(options, Path(folder))
    line = {"measured": costs, "computed": computed(costs, options)}
    if options.chart:
        draw(costs, options, options.chart)
    json.dump(rounded(line), sys.stdout)
    print()


if __name__ == "__main__":
    main()
