"""A store's folder is removed, or moved away, while it is played, and made anew under the same path.

Promise: who played the old one writes nothing into the new one, acknowledges nothing more, and takes nothing of it away.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import ensemble
from ensemble import Band, Unavailable
from ensemble.log import Snapshot
from ensemble.log.directory import open_directory, read_directory
from tests.log.log_samples import Quick, append, contents, flat

GONE = "was removed, or moved away"


def remove(folder: Path) -> None:
    shutil.rmtree(folder)


def move_away(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


@pytest.mark.parametrize("segment_bytes", [100, 500, 5000])
@pytest.mark.parametrize("lose", [remove, move_away])
def test_the_writer_of_the_old_store_is_refused(tmp_path: Path, lose: Callable[[Path], None], segment_bytes: int) -> None:
    folder = tmp_path / "store"
    old = open_directory(folder, name="band", log_id="old", files=Quick(), segment_bytes=segment_bytes)
    append(old, [1], [2], [3])
    at = old.end()
    lose(folder)
    new = open_directory(folder, name="band", log_id="new", files=Quick(), segment_bytes=segment_bytes)
    groups = append(new, *[[number] for number in range(20)])

    with pytest.raises(Unavailable, match=GONE):
        old.save(Snapshot(at, b"old"))
    with pytest.raises(Unavailable, match=GONE):
        append(old, [4])
    old.close()
    groups += append(new, [20])

    assert contents(read_directory(folder)) == flat(groups)
    assert list((folder / "shard-0" / "snapshots").iterdir()) == []


def play(folder: Path) -> Band:
    return ensemble.open({"ensemble": 1, "name": "test"}, store=str(folder))


def test_a_band_that_lost_its_store_refuses_to_publish_and_leaves_the_door_of_the_new_one(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    old = play(folder)
    old.publish("said", "old")
    shutil.rmtree(folder)
    with play(folder) as new:
        new.publish("said", "new")

        with pytest.raises(Unavailable, match=GONE):
            old.publish("said", "late")
        old.close()

        with ensemble.connect(str(folder)) as guest:
            assert not isinstance(guest, Band)
            guest.publish("said", "by a guest")
        assert [event.data for event in new.events()] == ["new", "by a guest"]
