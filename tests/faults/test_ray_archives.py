"""A band on Ray that archives what its score lets go, in one shard and in several; shards are killed in the middle of it.

Promise: at any moment the archive up to its end, and the store from there on, are the whole log.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import resharding
from ensemble.event import Event
from ensemble.log import count_shards, read_log
from ensemble.log.audit.anchor import new_key
from ensemble.log.cut import goes_through
from ensemble.log.directory import open_directory
from ensemble.log.draft import Draft
from ensemble.log.objects import codec
from ensemble.log.objects.store import objects_at
from ensemble.testing import ManualClock
from tests.conformance.stand import eventually
from tests.s3 import S3

pytestmark = pytest.mark.patience(300)

EVENTS = 160
EVERYWHERE = pytest.mark.everywhere("the others show the same")


def tally(event: Event, ctx: Any) -> None:
    ctx.state["count"] = ctx.state.get("count", 0) + 1


def score(shards: int, archive: str = "") -> dict[str, Any]:
    retain = {"retain": {"size": "4KB", "archive": archive}} if archive else {}
    return {
        "ensemble": 1,
        "name": "shop",
        "players": {"tally": {"on": "order.*", "section": {"cpus": 0.1}}},
        "stage": {"kind": "ray", "shards": shards},
        **retain,
    }


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """A store in many small parts: so many events, a minute apart; and how many shards it has."""
    kind, shards = request.param
    url = request.getfixturevalue("s3").url() if kind == "s3" else f"{'objects:' if kind == 'objects' else ''}{tmp_path}/store"
    with monkeypatch.context() as patch:
        patch.setattr("ensemble.stage.loop.SNAPSHOT_BYTES", 2_000)
        patch.setattr(codec, "BLOCK", 4)
        patch.setattr(resharding, "BUFFER_BYTES", 1_000)
        patch.setattr(Draft.__init__, "__defaults__", (1_000,))
        patch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 1_000)
        clock = ManualClock("2026-01-01T00:00:00Z")
        document = {**score(1), "stage": {"kind": "solo"}}
        with ensemble.open(document, players={"tally": tally}, store=url, clock=clock) as band:
            for n in range(EVENTS):
                band.publish("order.placed", {"n": n, "note": "x" * 100}, key=f"k-{n % 7}")
                band.settle()
                clock.advance(minutes=1)
        if shards > 1:
            resharding.reshard(url, shards)
    ensemble.open(score(shards), players={"tally": tally}, store=url).close()  # one snapshot more
    return url, shards


def numbers(url: str) -> set[int]:
    with ensemble.read(url) as reader:
        return {event.data["n"] for event in reader.events("order.*")}


def assert_all_is_somewhere(url: str, cold: str, shards: int, count: int) -> None:
    """The archive and the store are one log in each shard, and have all that was said, once."""
    assert count_shards(cold) == shards
    for shard in range(shards):
        with closing(read_log(url, shard)) as here, closing(read_log(cold, shard)) as there:
            end = there.end()
            assert (there.id, there.begin().seq) == (here.id, 0)
            assert here.begin().seq <= end.seq
            assert goes_through(here, end)
            assert all(frame.removed is None for frame in there.frames())
    assert numbers(url) | numbers(cold) == set(range(count))
    audited = ensemble.audit(url, tables=True)
    assert (audited.findings, audited.notes, len(audited.archives)) == ((), (), shards)
    with ensemble.read(url) as reader:
        assert sum(state["count"] for state in reader.table("tally").values()) == count


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (("directory", 1), "folder"),
        (("directory", 2), "folder"),
        pytest.param(("directory", 2), "objects", marks=EVERYWHERE),
        pytest.param(("objects", 1), "objects", marks=EVERYWHERE),
        pytest.param(("directory", 2), "s3", marks=EVERYWHERE),
        pytest.param(("s3", 1), "s3", marks=EVERYWHERE),
    ],
    indirect=["made"],
)
def test_what_a_band_on_ray_lets_go_lies_in_its_archive_first(
    cluster: None, request: pytest.FixtureRequest, made: tuple[str, int], kind: str, tmp_path: Path
) -> None:
    url, shards = made
    s3 = request.getfixturevalue("s3") if kind == "s3" else None
    cold = {"folder": f"{tmp_path}/cold", "objects": f"objects:{tmp_path}/cold"}[kind] if s3 is None else s3.url()

    with ensemble.open(score(shards, cold), players={"tally": tally}, store=url) as band:
        before = band.publish("order.placed", {"n": EVENTS}, key="k-0")
        band.settle(60)
        eventually(lambda: len(numbers(url)) < EVENTS // 2, "the end of what may go", 100)

        with pytest.raises(ensemble.OffsetError, match="archived in "):
            band.event(f"{before.id.rpartition('-')[0]}-0")

    assert_all_is_somewhere(url, cold, shards, EVENTS + 1)


@pytest.mark.parametrize("made", [("directory", 1)], indirect=True)
def test_a_place_that_is_named_from_where_the_band_is_played_is_there_and_not_where_ray_has_its_shards(
    cluster: None, made: tuple[str, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, shards = made
    monkeypatch.chdir(tmp_path)
    new_key(Path("audit.pem"))
    audit = {"anchor": "heads.jsonl", "key": "audit.pem", "every": "1h"}

    with ensemble.open(score(shards, "cold") | {"audit": audit}, players={"tally": tally}, store=url) as band:
        band.settle(60)
        eventually(lambda: len(numbers(url)) < EVENTS // 2, "the end of what may go", 100)

    assert_all_is_somewhere(url, str(tmp_path / "cold"), shards, EVENTS)
    assert ensemble.audit(url, anchor=str(tmp_path / "heads.jsonl"), key="audit.pem.pub").is_whole


@pytest.mark.everywhere("half a minute; tests/log/faults kills who archives, and test_ray_shards.py shards")
@pytest.mark.parametrize("made", [("directory", 2), ("s3", 1)], indirect=True)
def test_a_shard_killed_while_it_archives_has_all_in_the_archive_or_in_its_log(
    cluster: None, s3: S3, made: tuple[str, int]
) -> None:
    """In a bucket: of a store that lies in one, too, it takes long enough to be killed in the middle."""
    url, shards = made
    cold = s3.url()
    in_the_way = put_in_the_way(cold)
    there = [0]

    with ensemble.open(score(shards, cold), players={"tally": tally}, store=url) as band:
        stage: Any = band._stage
        line = stage._lines[-1]
        pid = int(line.ask("hello")["pid"])
        in_the_way()
        for _ in range(3):
            os.kill(pid, signal.SIGKILL)
            assert numbers(url) | numbers(cold if count_shards(cold) else url) == set(range(EVENTS))
            pid = eventually(partial(another, line, pid), "another process of the shard", 60)
            until = time.monotonic() + 5
            while time.monotonic() < until and parts(cold) == there[-1]:
                pass
            there.append(parts(cold))
        os.kill(int(stage._lines[0].ask("hello")["pid"]), signal.SIGKILL)  # who was refused before looks again, too
        band.publish("order.placed", {"n": EVENTS}, key="k-0")
        band.settle(100)
        eventually(lambda: len(numbers(url)) < EVENTS // 2, "the end of what may go", 100)

    print("killed while there were so many parts:", there, "of", parts(cold))
    assert shards > 1 or 0 < there[1] < parts(cold), "it was killed in the middle"
    assert_all_is_somewhere(url, cold, shards, EVENTS + 1)


def another(line: Any, pid: int) -> int:
    """The process of a shard, if it is not this one; 0: not yet."""
    try:
        found = int(line.ask("hello")["pid"])
    except ensemble.Unavailable:
        return 0
    return found if found != pid else 0


def put_in_the_way(cold: str) -> Callable[[], None]:
    """Have something lie where an archive is to be; gives what takes it away."""
    objects = objects_at(cold, make=True)
    objects.put("letter.txt", b"dear")
    return lambda: objects.delete("letter.txt")


def parts(cold: str) -> int:
    """How many packs there are."""
    return sum(path.endswith(".pack") for path in objects_at(cold).list(""))
