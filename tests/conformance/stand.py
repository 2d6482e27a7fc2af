"""A stand: one stage and one kind of store on which a test plays, leaves, comes back, and crashes.

Owns which stages and stores the contract is held to: another joins by a line in `SETUPS` and, for a store, one in `Setup.url`.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import ensemble
from ensemble import takes
from ensemble.event import Event, Frame
from ensemble.log import LogReader, open_log, where
from ensemble.log.takes import split
from ensemble.stage.on_ray import cluster
from tests.conformance.home import AtHome

T = TypeVar("T")

_numbers = count(1)


@dataclass(frozen=True)
class Setup:
    """A stage and a kind of store."""

    stage: str
    store: str

    def url(self, folder: Path) -> str:
        match self.store:
            case "memory":
                return f"memory:stand-{next(_numbers)}"
            case "directory":
                return str(folder / f"store-{next(_numbers)}")
            case "objects":
                return f"objects:{folder / f'store-{next(_numbers)}'}"
        raise ValueError(f"no test store {self.store!r}")

    def __str__(self) -> str:
        return f"{self.stage}-{self.store}"


SETUPS = [
    Setup("solo", "memory"),
    Setup("solo", "directory"),
    Setup("solo", "objects"),
    Setup("ray", "memory"),
    Setup("ray", "directory"),
    Setup("ray", "objects"),
]

ON_DISK = [setup for setup in SETUPS if setup.store != "memory"]


@dataclass(frozen=True)
class Part:
    """A player of a test's score: what the score says of it, and the callable."""

    call: Callable[..., Any] | None
    says: Mapping[str, Any]


def part(call: Callable[..., Any] | None, on: Any, **says: Any) -> Part:
    """A player. `says` is what else the score says of it; `with_` is `with:`, `from_` is `from:`."""
    renamed = {name.rstrip("_"): value for name, value in says.items()}
    return Part(call, {"on": on, **renamed})


class Stand(AtHome):
    """One store, played on one stage; at most one band of it is open."""

    def __init__(self, setup: Setup, folder: Path, url: str | None = None, shards: int = 1) -> None:
        self.setup = setup
        self.shards = shards
        self.folder = folder
        self.url = url or setup.url(folder)
        self._bands: list[ensemble.Band] = []

    def play(
        self,
        parts: Mapping[str, Part] | None = None,
        /,
        *,
        events: Mapping[str, Any] | None = None,
        motifs: Mapping[str, Any] | None = None,
        sources: Mapping[str, Any] | None = None,
        store: Mapping[str, Any] | None = None,
        callables: Mapping[str, Callable[..., Any]] | None = None,
        **options: Any,
    ) -> ensemble.Band:
        """Open the store, now or again, with a score of these parts. A band that is open is closed first."""
        self.leave()
        parts = parts or {}
        document: dict[str, Any] = {"ensemble": 1, "name": "test"}
        if self.shards > 1:
            document["stage"] = {"shards": self.shards}
        if parts:
            document["players"] = {name: dict(each.says) for name, each in parts.items()}
        if self.setup.store == "objects":
            store = {"linger": "1ms", **(store or {})}
        for name, value in {"events": events, "motifs": motifs, "sources": sources, "store": store}.items():
            if value:
                document[name] = {key: dict(each) if isinstance(each, Mapping) else each for key, each in value.items()}
        calls = {name: each.call for name, each in parts.items() if each.call is not None}
        band = ensemble.open(
            document, stage=self.setup.stage, store=self.url, players={**calls, **(callables or {})}, **options
        )
        self._bands.append(band)
        return band

    def go_into_a_take(self) -> None:
        """Be a take of this store, which has nothing in it yet."""
        for shard in range(self.shards):
            open_log(self.url, name="test", shard=shard, shards=self.shards).close()
        takes.new(self.url, "other")
        self.url = f"{self.url}#other"

    @property
    def path(self) -> Path:
        """The folder of a store on the disk."""
        return Path(split(self.url)[0].removeprefix("objects:"))

    @property
    def own(self) -> Path:
        """The folder of the log that is played; of a take, of its own log."""
        return Path(where(self.url).removeprefix("objects:"))

    def leave(self) -> None:
        """Close the band that is open, if one is."""
        while self._bands:
            self._bands.pop().close()

    def end(self) -> None:
        """Close what is open, and let go of a log that others keep in their memory."""
        self.leave()
        if str(self.setup) == "ray-memory":
            import ray

            for name in log_names(self.url, self.shards):
                with suppress(ValueError):  # it was never opened
                    ray.kill(ray.get_actor(name, "ensemble"))

    def as_if_killed(self) -> Stand:
        """A stand with the store as a kill at this moment would leave it."""
        assert self.setup.store != "memory", "only what is on a disk outlives a kill"
        other = Stand(self.setup, self.folder, shards=self.shards)
        take = split(self.url)[1]
        if take is not None:
            other.url = f"{other.url}#{take}"
        shutil.copytree(self.path, other.path, ignore=shutil.ignore_patterns("*.sock", "door"))
        return other

    def size(self, whole: int, small: int) -> int:
        """How much a test should do: less where an event, an opening, an instance costs more than in one process."""
        return whole if self.setup.stage == "solo" else small

    def log(self) -> closing[LogReader]:
        """The log as anybody can read it now."""
        return closing(ensemble.read(self.url)._shards[0].log)

    def frames(self) -> list[Frame]:
        """All frames that can be read from the store now."""
        with self.log() as log:
            return list(log.frames())

    def reader(self) -> ensemble.Reader:
        return ensemble.read(self.url)


def log_names(url: str, shards: int) -> list[str]:
    """How the actors are called that keep a log in the memory of a cluster."""
    return [cluster.log_name(url, number, shards) for number in range(shards)]


def said(frame: Frame, topic: str) -> list[Event]:
    """The events of a frame under a topic."""
    rows = frame.rows
    return [] if rows is None else [event for ix in range(len(rows)) if (event := rows.event(ix)).topic == topic]


def all_of(frames: list[Frame]) -> Iterator[Event]:
    """The events of frames, in order."""
    for frame in frames:
        if frame.rows is not None:
            yield from (frame.rows.event(ix) for ix in range(len(frame.rows)))


def eventually(claim: Callable[[], T], what: str = "the claim", timeout: float = 20.0) -> T:
    """Wait until a claim holds; its value."""
    until = time.monotonic() + timeout
    while not (value := claim()):
        assert time.monotonic() < until, f"{what} did not come true in {timeout} s"
        threading.Event().wait(0.002)
    return value


def returns_before(call: Callable[[], object], release: threading.Event) -> bool:
    """Whether a call comes back while others wait, which this releases afterwards."""
    calling = threading.Thread(target=call)
    calling.start()
    calling.join(5)
    is_back = not calling.is_alive()
    release.set()
    calling.join(20)
    return is_back


class Publishing:
    """Somebody who publishes to a band without a pause, as long as this is entered: 20 events at a time, of seven keys."""

    def __init__(self, band: ensemble.Band) -> None:
        self.said = 0
        """How many events are acknowledged."""
        self._band = band
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while not self._is_over.is_set():
            self.said += self._band.publish_many({"topic": "said", "key": f"k-{n % 7}", "data": n} for n in range(20))

    def __enter__(self) -> Publishing:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()


class Gate(AtHome):
    """Keeps players waiting until a test opens it. `came` says how many have arrived."""

    def __init__(self) -> None:
        self._open = threading.Event()
        self._lock = threading.Lock()
        self.came = 0

    def pass_through(self) -> None:
        with self._lock:
            self.came += 1
        assert self._open.wait(30), "the gate was never opened"

    def open(self) -> None:
        self._open.set()

    def is_open(self) -> bool:
        return self._open.is_set()

    def wait_for(self, number: int) -> None:
        eventually(lambda: self.came >= number, f"the arrival of {number} at the gate, where {self.came} came")
