"""A writer that stalls between looking at the epoch and writing, loses its lock, is replaced, and wakes.

Promise: what it then writes is no part of the log, is not acknowledged, and harms nothing of its successor's.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ensemble.errors import Unavailable
from ensemble.log import Snapshot
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from tests.log.log_samples import Quick, append, contents, flat


class Stalling(Quick):
    """A disk that does something else before, or after, the next write of a group."""

    def __init__(self) -> None:
        self.before: Callable[[], None] | None = None
        self.after: Callable[[], None] | None = None

    def write(self, fd: int, data: bytes, place: int) -> None:
        if not data.startswith(b"\x95\xce"):
            super().write(fd, data, place)
            return
        before, self.before = self.before, None
        if before is not None:
            before()
        super().write(fd, data, place)
        after, self.after = self.after, None
        if after is not None:
            after()


def open_it(folder: Path, disk: Quick, segment_bytes: int = 500) -> DirectoryLog:
    return open_directory(folder, name="band", log_id="log", files=disk, segment_bytes=segment_bytes)


def assert_holds(folder: Path, expected: list[dict[str, object]]) -> None:
    assert contents(read_directory(folder)) == expected
    for seq in range(len(expected)):
        assert contents(read_directory(folder), seq) == expected[seq:]


@pytest.mark.parametrize("segment_bytes", [100, 500, 5000])
@pytest.mark.parametrize("earlier", [0, 1, 2, 3])
@pytest.mark.parametrize("later", [0, 1, 3])
def test_a_late_group_is_no_part_of_the_log(tmp_path: Path, earlier: int, later: int, segment_bytes: int) -> None:
    disk = Stalling()
    old = open_it(tmp_path, disk, segment_bytes)
    groups = append(old, *[[1]] * earlier)
    beside = read_directory(tmp_path)
    assert contents(beside) == flat(groups)
    successors: list[DirectoryLog] = []

    def take_over() -> None:
        (tmp_path / "lock").unlink()
        successors.append(open_it(tmp_path, Quick(), segment_bytes))
        groups.extend(append(successors[0], *[[2]] * later))

    disk.before = take_over
    with pytest.raises(Unavailable, match=r"taken over|File exists"):
        append(old, [1, 1])

    (new,) = successors
    assert contents(new) == contents(beside) == flat(groups)
    assert_holds(tmp_path, flat(groups))
    groups += append(new, [1], [1])
    new.save(Snapshot(new.end(), b"state"))
    groups += append(new, [1])
    assert contents(new) == contents(beside) == flat(groups)
    new.close()
    again = open_it(tmp_path, Quick(), segment_bytes)
    assert list(again.notes) == []
    assert contents(again) == flat(groups)
    assert_holds(tmp_path, flat(groups))


def test_a_group_that_the_successor_has_seen_is_kept_though_it_was_not_acknowledged(tmp_path: Path) -> None:
    disk = Stalling()
    old = open_it(tmp_path, disk)
    groups = append(old, [1])
    successors: list[DirectoryLog] = []

    def take_over() -> None:
        (tmp_path / "lock").unlink()
        successors.append(open_it(tmp_path, Quick()))

    disk.after = take_over
    with pytest.raises(Unavailable, match="taken over"):
        append(old, [2])

    (new,) = successors
    assert contents(new)[:1] == flat(groups)
    assert new.end()[:2] == (2, 3)
    append(new, [1])
    assert contents(read_directory(tmp_path)) == contents(new)


def test_a_writer_whose_sync_fails_after_it_was_replaced_cuts_nothing_of_its_successors(tmp_path: Path) -> None:
    successors: list[DirectoryLog] = []

    class Failing(Stalling):
        def sync(self, fd: int) -> None:
            if successors:
                raise OSError(5, "Input/output error")

    disk = Failing()
    old = open_it(tmp_path, disk)
    append(old, [1])

    def take_over() -> None:
        (tmp_path / "lock").unlink()
        successors.append(open_it(tmp_path, Quick()))

    disk.after = take_over
    with pytest.raises(Unavailable, match="the disk failed"):
        append(old, [2])

    (new,) = successors
    append(new, [1])
    assert [kept["seq"] for kept in contents(new)] == [0, 1, 2]
    assert_holds(tmp_path, contents(new))


def test_a_log_that_was_closed_is_taken_up_in_the_same_segment_and_one_that_was_left_in_a_new_one(tmp_path: Path) -> None:
    names = []
    for is_closed in (True, True, False, True, True):
        log = open_it(tmp_path, Quick(), 5000)
        append(log, [1])
        if is_closed:
            log.close()
        else:
            log._lock.release()
            (tmp_path / "lock").write_text("process 1 on moon")
        names.append(sorted(int(path.stem) for path in (tmp_path / "shard-0").glob("*.seg")))

    assert names == [[0], [0], [0], [0, 3], [0, 3]]
