"""Promise 9. A store has one writer; one that was replaced and comes back can't write."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble import Unavailable
from ensemble.log.fence import raise_epoch
from ensemble.log.files import Files
from tests.conformance.home import at_home
from tests.conformance.stand import Setup, Stand, part


def score(stand: Stand) -> dict[str, Any]:
    """What `stand.play()` plays."""
    return {"ensemble": 1, "name": "test", "stage": {"shards": stand.shards}}


def _needs_a_lock(stand: Stand) -> None:
    if str(stand.setup) == "ray-objects":
        pytest.skip("an object store has no lock: of two processes the second takes over (docs/object-log.md)")


def test_a_second_band_is_refused_with_a_sentence_and_the_first_goes_on(stand: Stand) -> None:
    _needs_a_lock(stand)
    band = stand.play()
    band.publish("said", 1)

    with pytest.raises(Unavailable, match="being played"):
        ensemble.open(score(stand), stage=stand.setup.stage, store=stand.url)

    band.publish("said", 2)
    assert [event.data for event in band.events()] == [1, 2]


def test_the_refused_band_leaves_no_thread_and_no_lock_behind(stand: Stand) -> None:
    import threading

    _needs_a_lock(stand)
    stand.play()
    before = set(threading.enumerate())

    for _ in range(3):
        with pytest.raises(Unavailable):
            ensemble.open(score(stand), stage=stand.setup.stage, store=stand.url)

    assert set(threading.enumerate()) <= before
    stand.leave()
    stand.play().publish("said", 1)


def test_a_store_can_be_opened_again_as_soon_as_its_band_is_closed(stand: Stand) -> None:
    for number in range(5):
        stand.play().publish("said", number)

    assert [event.data for event in stand.reader().events()] == list(range(5))


@pytest.mark.directory("an object store has no lock: the second takes over")
def test_a_second_process_is_refused_and_told_who_plays(stand_on_disk: Stand) -> None:
    band = stand_on_disk.play()
    band.publish("said", 1)
    code = f"import ensemble; ensemble.open({score(stand_on_disk)!r}, store={stand_on_disk.url!r})"

    second = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)

    assert second.returncode != 0
    holder = (stand_on_disk.own / "lock").read_text().strip()
    assert (f"process {os.getpid()} " in holder) == (stand_on_disk.setup.stage == "solo")
    assert holder in second.stderr.splitlines()[-1]
    assert "Unavailable" in second.stderr.splitlines()[-1]
    band.publish("said", 2)
    assert len(list(band.events())) == 2


@pytest.mark.directory("it takes hold of the epoch's file")
def test_a_band_whose_store_was_taken_over_writes_no_more_and_says_so(stand_on_disk: Stand) -> None:
    heard: list[int] = at_home([])
    band = stand_on_disk.play({"hear": part(lambda event: heard.append(event.data), "said")})
    band.publish("said", 1)
    band.settle(30)

    raise_epoch(stand_on_disk.own / "shard-0", 0, Files())  # another writer, where locks don't reach

    with pytest.raises(Unavailable, match="taken over"):
        band.publish("said", 2)
    with pytest.raises(Unavailable, match="taken over"):
        band.settle(5)
    stand_on_disk.leave()
    assert heard == [1]
    with stand_on_disk.reader() as reader:
        assert [event.data for event in reader.events()] == [1]
    stand_on_disk.play().publish("said", 3)
    assert [event.data for event in stand_on_disk.reader().events()] == [1, 3]


def test_every_opening_raises_the_epoch_of_the_frames_it_writes(stand: Stand) -> None:
    for number in range(3):
        stand.play().publish("said", number)
    stand.leave()

    epochs = [frame.epoch for frame in stand.frames() if frame.count]

    assert epochs == sorted(set(epochs))
    assert len(epochs) == 3


def test_readers_do_not_count_as_writers(stand: Stand) -> None:
    band = stand.play()

    with stand.reader() as one, stand.reader() as two:
        band.publish("said", 1)
        assert [len(list(reader.events())) for reader in (one, two)] == [1, 1]


def test_a_store_that_does_not_exist_is_not_made_by_reading(tmp_path: Path) -> None:
    url = Setup("solo", "directory").url(tmp_path)

    with pytest.raises(Unavailable, match="there is no store"):
        ensemble.read(url)

    assert not Path(url).exists()
