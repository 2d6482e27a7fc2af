"""A section on Ray whose instances come, go and die while it plays: what those who publish notice of it.

    python benchmarks/elastic.py [--parts PART ...] [--rate N] [--seconds N] [--store FOLDER] [--chart FILE]

The player waits a few milliseconds for each event, as for a database, so that eight instances fit on two cores. Events are
published at a fixed rate, however long each takes: one that is published late counts from when it was due. What is measured is
the time from there until an instance begins to hear the event, by a clock that all processes share.

Prints one JSON line on stdout:
    quiet_p50_ms, quiet_p99_ms         nothing happens: `--instances` instances, each event with a key of its own
    restless_p50_ms, restless_p99_ms   the same load; each second one instance is killed with SIGKILL, whose place
                                       another takes, and one or two more are asked for or let go again
    restless_of_quiet                  the second p99 by the first, each over all rounds: these two phases and the control are
                                       played in turn `--rounds` times; and that of each round
    born, killed                       instances that came and that were killed in the restless phase
    after_a_kill_ms                    the longest that an event waited which was published just before a kill or in the
                                       half second after it: the median and the worst of all kills
    control_p99_ms, restless_of_control
                                       the quiet load while Ray alone makes and kills empty actors as often, outside of the
                                       band: what starting processes costs all else on this machine
    hot_others_p99_ms, hot_of_quiet    half of all events have one key and take so long that it falls behind: p99 of the
                                       other keys, and that by the quiet p99
    hot_key_p99_ms                     of the hot key itself: it waits for itself
    one_to_eight_s                     from `scale 8` under load until eight instances have heard something
    awake_ms                           from publishing an event to a section of no instance until it is heard
    bare_seven_s, bare_one_ms          Ray alone, the yardstick of these two: seven empty actors, and one, until they answer
    order_events, order_keys           what an order check has heard, on `order_instances` instances, some of them killed
    order_violations                   events that were not the next of their key, by the player's state; keys that lack
                                       events or have too many. Anything but 0 ends the run with an error
    order_heard_per_s                  how fast that was
    cpus_ours, cpus_others             processors kept busy in the quiet, the control and the restless phase: by the band, with
                                       Ray and this publisher; and by all else on the machine: noise, most of all in a p99
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import signal
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NamedTuple

import ensemble
from ensemble.event import Event, emit

BIRTHS_EVERY_S = 0.6
"""How often the restless phase starts an instance: one a second in place of the killed, two in three seconds more."""
PARTS = ("quiet", "control", "restless", "hot", "grow", "wake", "order")
IN_TURN = PARTS[:3]
"""Those that are compared with each other; played in turn, several times, since a machine is never the same for long."""
HOT = "hot"
HOT_LOAD = 1.2
"""How much more the hot key has to hear than can be heard one at a time."""


def wait_score(instances: int) -> dict[str, Any]:
    section = {"max": max(8, instances), "cpus": 0.25, "idle": "1s"}
    return {
        "ensemble": 1,
        "name": "elastic",
        "events": {"work.asked": {"key": "key"}},
        "players": {"work": {"on": "work.asked", "emits": ["work.heard"], "section": section}},
    }


def order_score(instances: int) -> dict[str, Any]:
    section = {"min": instances, "max": instances, "cpus": 0.01}
    return {
        "ensemble": 1,
        "name": "order",
        "events": {"step.taken": {"key": "key"}},
        "players": {"check": {"on": "step.taken", "section": section}},
    }


class Empty:
    """An actor that does nothing."""

    def pid(self) -> int:
        return os.getpid()


def bare_actors(count: int) -> list[Any]:
    """So many empty actors of Ray's, that have answered."""
    import ray

    kind: Any = ray.remote(Empty)
    actors = [kind.options(num_cpus=0.01).remote() for _ in range(count)]
    ray.get([actor.pid.remote() for actor in actors])
    return actors


def work(event: Event) -> Any:
    heard_s = time.monotonic()
    data = event.data
    time.sleep(data["wait_ms"] / 1000)
    answer = {"part": data["part"], "due_s": data["due_s"], "heard_s": heard_s, "pid": os.getpid(), "hot": data["key"] == HOT}
    return emit("work.heard", answer)


def check(event: Event, ctx: Any) -> None:
    """Whether this is the next event of its key. What a killed instance did not finish leaves no trace in the state."""
    number = event.data["number"]
    if number != ctx.state.get("last", -1) + 1:
        ctx.state["violations"] = ctx.state.get("violations", 0) + 1
    ctx.state["last"] = number


class Heard(NamedTuple):
    due_s: float
    waited_ms: float
    heard_s: float
    pid: int
    is_hot: bool


class Change(NamedTuple):
    """Instances that came or went."""

    at_s: float
    what: str


class Load:
    """Events at a fixed rate, published by a thread of its own. What is due is published together."""

    def __init__(self, band: ensemble.Band, options: argparse.Namespace) -> None:
        self.band, self.rate, self.wait_ms = band, options.rate, options.wait_ms
        self._keys = itertools.count()

    def play(self, part: str, seconds: float, *, hot: bool = False) -> None:
        start_s = time.monotonic()
        said, total = 0, int(self.rate * seconds)
        while said < total:
            now_s = time.monotonic()
            due = min(total, int((now_s - start_s) * self.rate) + 1)
            if due > said:
                self.band.publish_many(
                    [self.event(part, start_s + n / self.rate, hot=hot and n % 2 == 0) for n in range(said, due)],
                    topic="work.asked",
                )
                said = due
            time.sleep(max(0.0, start_s + said / self.rate - time.monotonic()))

    def event(self, part: str, due_s: float, *, hot: bool = False) -> dict[str, Any]:
        key = HOT if hot else f"k-{next(self._keys)}"
        wait_ms = HOT_LOAD * 2000 / self.rate if hot else self.wait_ms
        return {"key": key, "part": part, "due_s": due_s, "wait_ms": wait_ms}

    def heard(self, part: str) -> list[Heard]:
        """All events of a part, in the order in which they were due."""
        out = []
        for event in self.band.events("work.heard"):
            data = event.data
            if data["part"] == part:
                waited_ms = 1000 * (data["heard_s"] - data["due_s"])
                out.append(Heard(data["due_s"], waited_ms, data["heard_s"], data["pid"], data["hot"]))
        return sorted(out)


class Pests:
    """Kills instances of a section, one a second, and has their number changed."""

    def __init__(self, band: ensemble.Band, player: str, instances: int, *, is_scaling: bool = True) -> None:
        self._stage: Any = band._stage
        self._player, self._instances, self._is_scaling = player, instances, is_scaling
        self._random = random.Random(1)
        self._is_over = threading.Event()
        self.changes: list[Change] = []
        self.asked = instances

    def kill_one(self) -> None:
        pids = self._stage.pids(self._player)
        if pids:
            try:
                os.kill(self._random.choice(pids), signal.SIGKILL)
            except ProcessLookupError:  # it has just been let go
                return
            self.changes.append(Change(time.monotonic(), "killed"))

    def run(self) -> None:
        while not self._is_over.wait(0.5):
            self.kill_one()
            if self._is_over.wait(0.5):
                return
            if self._is_scaling:
                self.asked = self.asked + 1 if self.asked < self._instances + 2 else self._instances
                self._stage.scale(self._player, self.asked)
                self.changes.append(Change(time.monotonic(), f"{self.asked}"))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.Thread(target=self.run)
        thread.start()
        try:
            yield
        finally:
            self._is_over.set()
            thread.join()


def p(share: float, waits: list[float]) -> float:
    return sorted(waits)[int(share * len(waits))]


def until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition; TimeoutError if it never holds."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            raise TimeoutError("this did not come to pass")
        time.sleep(0.02)


def instances(band: ensemble.Band, player: str) -> int:
    return band.status().sections[player].instances


class Busy:
    """Processors kept busy while a phase lasts: by us, which is this process and all below it, and by others. Linux only.

    Looked at several times a second, since what an instance used is gone with it.
    """

    def __init__(self) -> None:
        self._is_over = threading.Event()
        self._ours: dict[int, int] = {}
        self.figures: tuple[float, float] | None = None

    @contextmanager
    def watched(self) -> Iterator[None]:
        if not Path("/proc/stat").exists():
            yield
            return
        before, all_before, start_s = sum(self._look().values()), self._all(), time.monotonic()
        thread = threading.Thread(target=self._watch)
        thread.start()
        yield
        self._is_over.set()
        thread.join()
        ticks = (time.monotonic() - start_s) * os.sysconf("SC_CLK_TCK")
        ours = (sum(self._look().values()) - before) / ticks
        self.figures = round(ours, 2), round(max(0.0, (self._all() - all_before) / ticks - ours), 2)

    def _watch(self) -> None:
        while not self._is_over.wait(0.3):
            self._look()

    def _look(self) -> dict[int, int]:
        """Ticks of each of our processes, also of those that have ended since."""
        parents: dict[int, int] = {}
        ticks: dict[int, int] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it has just ended
                fields = path.read_text().rpartition(")")[2].split()
                parents[int(path.parent.name)] = int(fields[1])
                ticks[int(path.parent.name)] = int(fields[11]) + int(fields[12])
        for pid, used in ticks.items():
            above = pid
            while above not in (0, 1, os.getpid()):
                above = parents.get(above, 0)
            if above == os.getpid():
                self._ours[pid] = used
        return self._ours

    @staticmethod
    def _all() -> int:
        busy = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
        return sum(busy) - busy[3] - busy[4]


class Elastic:
    """The parts that share a band, and what was measured in them."""

    def __init__(self, band: ensemble.Band, options: argparse.Namespace) -> None:
        self.band, self.options = band, options
        self.stage: Any = band._stage
        self.load = Load(band, options)
        self._numbers = itertools.count()
        self.figures: dict[str, Any] = {}
        self.phases: dict[str, list[Heard]] = {}
        """What was heard the last time that a part was played."""
        self.waits: dict[str, list[float]] = {}
        """Of each part how long each event waited, whenever the part was played, but for those of the hot key."""
        self.changes: list[Change] = []
        self.after_a_kill_ms: list[float] = []
        self.ratios: list[float] = []
        self.busy: dict[str, tuple[float, float] | None] = {}

    def scale(self, count: int) -> None:
        """So many instances, that are there and have heard something."""
        self.stage.scale("work", count)
        until(lambda: instances(self.band, "work") == count)
        self.load.play("warm", 1)
        self.band.settle(30)

    def phase(self, part: str, *, hot: bool = False) -> list[Heard]:
        busy, name = Busy(), f"{part} {next(self._numbers)}"
        with busy.watched():
            self.load.play(name, self.options.seconds, hot=hot)
        self.busy[part] = busy.figures
        self.band.settle(60)
        self.phases[part] = heard = self.load.heard(name)
        self.waits.setdefault(part, []).extend(each.waited_ms for each in heard if not each.is_hot)
        wanted = int(self.options.rate * self.options.seconds)
        assert len(heard) == wanted, f"{part}: {wanted} were published, {len(heard)} were heard"
        assert self.band.dead() == []
        return heard

    def quiet(self) -> None:
        self.scale(self.options.instances)
        self.phase("quiet")
        waits = self.waits["quiet"]
        self.figures["quiet_p50_ms"] = round(statistics.median(waits), 2)
        self.figures["quiet_p99_ms"] = round(p(0.99, waits), 2)

    def of_quiet(self, ms: float) -> float:
        return round(ms / float(self.figures["quiet_p99_ms"]), 2)

    def control(self) -> None:
        import ray

        is_over = threading.Event()
        kind: Any = ray.remote(Empty)

        def bear() -> None:
            there: list[Any] = []
            while not is_over.wait(BIRTHS_EVERY_S):
                there.append(kind.options(num_cpus=0.01).remote())
                if len(there) > 3:  # it has had time to start
                    ray.kill(there.pop(0))
            for actor in there:
                ray.kill(actor)

        thread = threading.Thread(target=bear)
        thread.start()
        self.phase("control")
        is_over.set()
        thread.join()
        self.figures["control_p99_ms"] = round(p(0.99, self.waits["control"]), 2)

    def restless(self) -> None:
        pests = Pests(self.band, "work", self.options.instances)
        pids = {each.pid for each in self.phases["quiet"]}
        with pests.at_work():
            heard = self.phase("restless")
        self.changes = pests.changes
        killed = [change.at_s for change in pests.changes if change.what == "killed"]
        self.after_a_kill_ms += [
            max((each.waited_ms for each in heard if at_s - 0.05 <= each.due_s <= at_s + 0.5), default=0.0) for at_s in killed
        ]
        quiet, restless = ([each.waited_ms for each in self.phases[part]] for part in ("quiet", "restless"))
        self.ratios.append(round(p(0.99, restless) / p(0.99, quiet), 2))
        waits = self.waits["restless"]
        p99_ms = p(0.99, waits)
        self.figures |= {
            "restless_p50_ms": round(statistics.median(waits), 2),
            "restless_p99_ms": round(p99_ms, 2),
            "restless_of_quiet": self.of_quiet(p99_ms),
            "restless_of_quiet_by_round": self.ratios,
            "restless_of_control": round(p99_ms / self.figures["control_p99_ms"], 2),
            "born": self.figures.get("born", 0) + len({each.pid for each in heard} - pids),
            "killed": len(self.after_a_kill_ms),
            "after_a_kill_ms": [round(statistics.median(self.after_a_kill_ms), 1), round(max(self.after_a_kill_ms), 1)],
        }

    def hot(self) -> None:
        self.scale(self.options.instances)
        heard = self.phase("hot", hot=True)
        others = p(0.99, self.waits["hot"])
        self.figures |= {
            "hot_others_p99_ms": round(others, 2),
            "hot_of_quiet": self.of_quiet(others),
            "hot_key_p99_ms": round(p(0.99, [each.waited_ms for each in heard if each.is_hot]), 1),
        }

    def grow(self) -> None:
        self.scale(1)
        now_s = time.monotonic()
        backlog = [self.load.event("grow", now_s) for _ in range(int(8 * 8 * 1000 / self.options.wait_ms / 2))]
        self.band.publish_many(backlog, topic="work.asked")
        start_s = time.monotonic()
        self.stage.scale("work", 8)
        self.band.settle(60)
        first: dict[int, float] = {}
        for each in self.load.heard("grow"):
            first[each.pid] = min(first.get(each.pid, each.heard_s), each.heard_s)
        assert len(first) >= 8, f"{len(first)} of 8 instances heard something before there was nothing left"
        self.figures["one_to_eight_s"] = round(sorted(first.values())[7] - start_s, 2)
        self.scale(1)
        self.figures["bare_seven_s"] = self.bare(7)

    def wake(self) -> None:
        for _ in range(3):
            self.stage.scale("work", None)
            until(lambda: instances(self.band, "work") == 0)
            self.band.publish_many([self.load.event("wake", time.monotonic())], topic="work.asked")
            self.band.settle(30)
        waits = [each.waited_ms for each in self.load.heard("wake")]
        self.figures["awake_ms"] = round(statistics.median(waits), 1)
        self.figures["bare_one_ms"] = round(1000 * statistics.median([self.bare(1) for _ in range(3)]), 1)

    @staticmethod
    def bare(count: int) -> float:
        import ray

        start_s = time.monotonic()
        actors = bare_actors(count)
        took_s = time.monotonic() - start_s
        for actor in actors:
            ray.kill(actor)
        return round(took_s, 3)


def order(options: argparse.Namespace, store: str) -> dict[str, Any]:
    """Three events of each key, the keys in turn, over many instances of which some are killed meanwhile."""
    count, steps = options.keys, 3
    with ensemble.open(order_score(options.order_instances), stage="ray", store=store, players={"check": check}) as band:
        until(lambda: instances(band, "check") == options.order_instances, 120)
        pests = Pests(band, "check", options.order_instances, is_scaling=False)
        start_s = time.monotonic()
        with pests.at_work():
            for number in range(steps):
                band.publish_many(({"key": f"k-{n}", "number": number} for n in range(count)), topic="step.taken")
            band.settle(120)
        took_s = time.monotonic() - start_s
        states = dict(band.table("check").items())
        wrong = sum(state.get("violations", 0) for state in states.values())
        wrong += sum(state["last"] != steps - 1 for state in states.values()) + abs(len(states) - count)
        heard = band.status().sections["check"].heard
        assert wrong == 0, f"{wrong} violations of the order by key"
        assert heard == steps * count, f"{heard} were heard, of {steps * count}"
        assert band.dead() == []
    return {
        "order_events": heard,
        "order_keys": len(states),
        "order_instances": options.order_instances,
        "order_killed": len(pests.changes),
        "order_violations": wrong,
        "order_heard_per_s": round(heard / took_s),
    }


def draw(elastic: Elastic, path: str) -> None:
    """Waits over time in both phases, with what happened, and the hot key's phase."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    titles = {
        "quiet": f"Quiet: {elastic.options.instances} instances",
        "control": "Control: Ray alone starts as many processes",
        "restless": "Restless: one killed a second, others added and let go",
        "hot": "Half of all events have one key",
    }
    parts = [part for part in titles if part in elastic.phases]
    figure, panes = plt.subplots(1, len(parts), figsize=(5 * len(parts), 5), sharey=True, squeeze=False, layout="constrained")
    quiet_p99_ms = elastic.figures["quiet_p99_ms"]
    for pane, part in zip(panes[0], parts, strict=True):
        heard = elastic.phases[part]
        start_s = heard[0].due_s
        for is_hot, colour, label in ((True, "#d95f02", "the hot key"), (False, "#1f5fa8", "an event")):
            some = [each for each in heard if each.is_hot is is_hot]
            if some:
                label = "an event of another key" if part == "hot" and not is_hot else label
                xs, ys = [each.due_s - start_s for each in some], [each.waited_ms for each in some]
                pane.scatter(xs, ys, s=5, alpha=0.5, linewidths=0, color=colour, label=label)
        pane.axhline(quiet_p99_ms, color="black", linewidth=1, linestyle="--", label=f"quiet p99, {quiet_p99_ms:.1f} ms")
        if part != "quiet":
            others = p(0.99, [each.waited_ms for each in heard if not each.is_hot])
            name = "p99 of the other keys" if part == "hot" else "p99 of this phase"
            pane.axhline(others, color="#b2182b", linewidth=1, label=f"{name}, {others:.1f} ms")
        if part == "restless":
            _mark(pane, elastic.changes, start_s)
        pane.set_title(titles[part])
        pane.set_xlabel("published at, seconds")
        pane.set_yscale("log")
        pane.grid(alpha=0.25)
        pane.legend(loc="upper left", fontsize=8)
    panes[0][0].set_ylabel("from publish until it is heard, ms")
    low, high = panes[0][0].get_ylim()
    panes[0][0].set_ylim(low, 8 * high)  # room for the legends
    rate, wait_ms = elastic.options.rate, elastic.options.wait_ms
    figure.suptitle(f"A section on Ray: {rate:g} events a second, each heard for {wait_ms:g} ms")
    figure.savefig(path, dpi=110)


def _mark(pane: Any, changes: list[Change], start_s: float) -> None:
    """What happened, along the lower edge."""
    for change in changes:
        is_kill = change.what == "killed"
        pane.axvline(change.at_s - start_s, color="#b2182b" if is_kill else "#2ca25f", linewidth=0.7, alpha=0.5)
        if not is_kill:
            place = {"xycoords": ("data", "axes fraction"), "ha": "center", "fontsize": 7}
            pane.annotate(change.what, (change.at_s - start_s, 0.01), color="#1b7a45", **place)
    pane.plot([], [], color="#b2182b", linewidth=0.7, label="an instance is killed")
    pane.plot([], [], color="#2ca25f", linewidth=0.7, label="so many instances are asked for")


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """All figures of the parts that were asked for."""
    parts = [part for part in PARTS if part in options.parts]
    if {"control", "restless", "hot"} & set(parts):  # with what they are compared
        wanted = {*parts, "quiet", *(["control"] if "restless" in parts else [])}
        parts = [part for part in PARTS if part in wanted]
    line: dict[str, Any] = {"rate": options.rate, "wait_ms": options.wait_ms, "instances": options.instances}
    with tempfile.TemporaryDirectory(prefix="ensemble-bench-", dir=options.store) as folder:
        if set(parts) - {"order"}:
            store = str(Path(folder) / "waits")
            with ensemble.open(wait_score(options.instances), stage="ray", store=store, players={"work": work}) as band:
                elastic = Elastic(band, options)
                in_turn = [part for part in IN_TURN if part in parts]
                for part in [*in_turn * options.rounds, *(part for part in parts if part not in (*IN_TURN, "order"))]:
                    getattr(elastic, part)()
            line |= elastic.figures
            busy = [elastic.busy[part] for part in ("quiet", "control", "restless") if elastic.busy.get(part)]
            if busy:
                line["cpus_ours"], line["cpus_others"] = zip(*busy, strict=True)
            if options.chart and elastic.phases:
                draw(elastic, options.chart)
        if "order" in parts:
            line |= order(options, str(Path(folder) / "order"))
    return line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to measure (default: all)")
    parser.add_argument("--rate", type=float, default=100, help="events published a second (default: %(default)s)")
    parser.add_argument("--wait-ms", type=float, default=5, help="how long an event is heard (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=12, help="length of a phase (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="how often what is compared is played (default: %(default)s)")
    parser.add_argument("--instances", type=int, default=6, help="instances in the quiet phase (default: %(default)s)")
    parser.add_argument("--keys", type=int, default=100_000, help="keys of the order check (default: %(default)s)")
    parser.add_argument("--order-instances", type=int, default=32, help="instances of the order check (default: %(default)s)")
    parser.add_argument("--store", help="folder to make the stores in (default: the system's temporary folder)")
    parser.add_argument("--chart", metavar="FILE", help="draw the waits over time into this file (png, svg or pdf)")
    options = parser.parse_args()
    with redirect_stdout(sys.stderr):  # where Ray tells of each process that died
        line = measure(options)
    json.dump(line, sys.stdout)
    print()


if __name__ == "__main__":
    main()
