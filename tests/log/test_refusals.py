"""Stores that can't be used: each gets one sentence that says where, what, and what to do."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import Snapshot, count_shards, has_log, open_log, read_log
from ensemble.log import group as groups_of
from ensemble.log.directory import DirectoryLog, open_directory, read_directory
from ensemble.log.files import Files
from tests.log.log_samples import Failing, Quick, append, contents, flat, frame

ROOT = Path(__file__).parents[2]

# Urls


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://here", "there is no kind of store called 'redis'"),
        ("file://relative/path", "write 'file:///relative/path'"),
        ("file://", "write 'file:///'"),
        ("", "no place is given"),
    ],
)
def test_a_url_of_no_known_store_is_refused_by_all_that_take_one(url: str, said: str) -> None:
    for take in (lambda: open_log(url, name="band"), lambda: read_log(url), lambda: has_log(url)):
        with pytest.raises(Unavailable) as caught:
            take()
        assert said in str(caught.value)


def test_a_memory_log_without_a_name_is_new_each_time() -> None:
    first = open_log("memory:", name="band")
    append(first, [1])

    assert open_log("memory:", name="band").end().seq == 0
    assert not has_log("memory:")
    with pytest.raises(Unavailable, match="no such log in this process's memory"):
        read_log("memory:")


# Folders


def refused(take: Callable[[], object], *said: str) -> None:
    with pytest.raises(Unavailable) as caught:
        take()
    for words in said:
        assert words in str(caught.value)


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("music")

    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        for take in (lambda at: open_log(at, name="band"), read_log):
            refused(partial(take, str(place)), str(place), "this is a file", "choose another path")
        assert not has_log(str(place))


def test_a_folder_with_other_things_is_refused_and_left_alone(tmp_path: Path) -> None:
    for name in ("a.txt", "b", "c", "d"):
        (tmp_path / name).write_text("mine")

    refused(lambda: open_log(str(tmp_path), name="band"), "other things in it (a.txt, b, c, …)", "choose an empty")
    refused(lambda: read_log(str(tmp_path)), "no Ensemble store")

    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.txt", "b", "c", "d"]


def test_a_store_that_is_not_there_is_named_with_the_folder_that_is_missing(tmp_path: Path) -> None:
    refused(lambda: read_log(str(tmp_path / "store")), "there is no store; check the path")
    refused(lambda: read_log(str(tmp_path / "no" / "store")), f"nor the folder {tmp_path / 'no'}; check the path")
    refused(lambda: open_log(str(tmp_path / "no"), name="band", create=False), "there is no store")

    assert list(tmp_path.iterdir()) == []


def test_a_store_of_a_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    open_log(str(tmp_path), name="band").close()
    path = tmp_path / "ensemble.json"
    path.write_text(path.read_text().replace('"format": 1', '"format": 4'))

    for take in (lambda: open_log(str(tmp_path), name="band"), lambda: read_log(str(tmp_path))):
        refused(take, "it has format 4", "knows formats up to 3", "a newer one")


def test_a_store_that_was_begun_and_not_finished_is_made(tmp_path: Path) -> None:
    (tmp_path / "shard-0").mkdir()
    (tmp_path / "lock").write_text("")
    (tmp_path / "ensemble.json.tmp").write_text("{")

    assert not has_log(str(tmp_path))
    refused(lambda: read_log(str(tmp_path)), "there is no store")
    log = open_log(str(tmp_path), name="band", id="log")

    assert (log.id, log.end().seq) == ("log", 0)


def test_a_folder_that_can_not_be_looked_at_is_refused(tmp_path: Path) -> None:
    place = str(tmp_path / ("x" * 300))

    for take in (lambda: open_log(place, name="band"), lambda: read_log(place)):
        refused(take, "File name too long")


# The lock


def test_a_second_process_is_told_who_plays_and_what_it_can_do(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    log = open_log(store, name="band")
    script = "import sys; from ensemble.log import open_log; open_log(sys.argv[1], name='band')"

    second = subprocess.run([sys.executable, "-c", script, store], capture_output=True, text=True, cwd=ROOT, check=False)

    assert second.returncode == 1
    assert f"it is being played already, by process {os.getpid()} on " in second.stderr
    assert "read it with ensemble.read, or stop that process" in second.stderr
    assert append(log, [1])


def test_the_lock_ends_with_its_process(tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    script = "import os, sys; from ensemble.log import open_log; log = open_log(sys.argv[1], name='band'); os._exit(9)"

    assert subprocess.run([sys.executable, "-c", script, store], cwd=ROOT, check=False).returncode == 9

    assert open_log(store, name="band").epoch == 2


def test_a_log_that_could_not_be_opened_lets_go_of_its_lock(tmp_path: Path) -> None:
    log = open_log(str(tmp_path), name="band")
    append(log, [1])
    log.close()
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    moved = path.rename(path.with_name(f"{1:020d}.seg"))
    with pytest.raises(LogCorrupt):
        open_log(str(tmp_path), name="band")

    moved.rename(path)

    assert open_log(str(tmp_path), name="band").end().seq == 1


def test_an_epoch_that_can_not_be_read_any_more_stops_the_writer(tmp_path: Path) -> None:
    log = open_log(str(tmp_path), name="band")
    groups = append(log, [1])
    (tmp_path / "shard-0" / "epoch").write_text("new\n")

    refused(lambda: append(log, [1]), "its epoch can't be read any more", "close this band")

    log.close()
    (tmp_path / "shard-0" / "epoch").unlink()
    assert contents(open_log(str(tmp_path), name="band")) == flat(groups)


# The disk


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full; make room, then play again"),
        (errno.EDQUOT, "the disk quota is used up"),
        (errno.EFBIG, "raise the limit (ulimit -f)"),
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "this user may not write there"),
        (errno.EIO, "the disk failed"),
        (errno.EINTR, "see the reason given"),
    ],
)
@pytest.mark.parametrize("step", ["write", "sync"])
def test_a_disk_that_refuses_an_append_is_named_and_the_log_takes_no_more(
    tmp_path: Path, number: int, said: str, step: str
) -> None:
    disk = Failing(0, number)
    log = open_directory(tmp_path, name="band", log_id="log", files=disk)
    groups = append(log, [1])
    disk.fails_at = disk.done + (1 if step == "write" else 2)
    sealed = [log.seal(frame(log.end(), 1))]

    refused(lambda: log.append(sealed), f"store {tmp_path}: can't be appended to: {os.strerror(number)}", said)
    refused(lambda: log.append(sealed), said, "takes no more until it is opened again")

    assert contents(log) == flat(groups)
    assert contents(read_directory(tmp_path)) == flat(groups)
    log.close()
    again = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    assert list(again.notes) == [], "the tail was cut back"
    assert contents(again) == flat(groups)


def test_a_tail_that_could_not_be_cut_back_is_cut_on_opening(tmp_path: Path) -> None:
    class NoCut(Failing):
        def cut(self, fd: int, size: int) -> None:
            raise OSError(errno.EIO, "no")

    disk = NoCut(0, errno.ENOSPC)
    log = open_directory(tmp_path, name="band", log_id="log", files=disk)
    groups = append(log, [1])
    disk.fails_at = disk.done + 1
    with pytest.raises(Unavailable):
        append(log, [1])
    assert contents(log) == contents(read_directory(tmp_path)) == flat(groups)
    log.close()

    again = open_directory(tmp_path, name="band", log_id="log", files=Quick())

    assert "torn end of a commit" in again.notes[0]
    assert contents(again) == flat(groups)


def test_a_snapshot_that_the_disk_refuses_leaves_the_one_before_and_the_log(tmp_path: Path) -> None:
    disk = Failing(0, errno.ENOSPC)
    log = open_directory(tmp_path, name="band", log_id="log", files=disk)
    append(log, [1])
    first = Snapshot(log.end(), b"first")
    log.save(first)
    groups = append(log, [1])
    disk.fails_at = disk.done + 3

    refused(lambda: log.save(Snapshot(log.end(), b"second")), "a snapshot can't be written", "the disk is full")

    assert log.snapshot() == first
    append(log, [1])
    assert contents(log, 1)[:1] == flat(groups)
    assert [path.suffix for path in (tmp_path / "shard-0" / "snapshots").iterdir()] == [".snap"]


def mounted(mount: str, script: str, *arguments: object) -> list[str]:
    """A command that runs a Python script in a mount namespace of its own, after mounting there. Skips where it can't."""
    if (
        shutil.which("unshare") is None
        or subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode
    ):
        pytest.skip("this user may not mount")
    shell = ["unshare", "-m", "sh", "-c", mount + ' && exec "$@"', "sh"]
    return [*shell, sys.executable, "-c", script, *map(str, arguments)]


def test_a_full_file_system_is_named_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    """A file system of 256 KiB, in a mount namespace of its own; an injected one above does without."""
    script = """
import sys
from tests.log.log_samples import *
from ensemble.log import open_log, read_log
from ensemble.errors import Unavailable
log = open_log(sys.argv[1] + "/store", name="band")
told = []
try:
    while True:
        told += append(log, [50])
except Unavailable as error:
    print(error)
log.close()
assert contents(read_log(sys.argv[1] + "/store")) == flat(told)
print("kept", len(told) > 5)
"""
    command = mounted(f"mount -t tmpfs -o size=256k tmpfs {tmp_path}", script, tmp_path)

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    assert "No space left on device; the disk is full" in done.stdout
    assert done.stdout.endswith("kept True\n")


def test_a_limit_on_the_size_of_files_is_named_and_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    script = """
import resource, sys
from tests.log.log_samples import *
from ensemble.log import open_log, read_log
from ensemble.errors import Unavailable
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
log = open_log(sys.argv[1], name="band")
told = []
try:
    while True:
        told += append(log, [50])
except Unavailable as error:
    print(error)
assert contents(read_log(sys.argv[1])) == contents(log) == flat(told)
print("kept", len(told))
"""
    command = [sys.executable, "-c", script, str(tmp_path / "store")]

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    assert "File too large" in done.stdout
    assert "raise the limit (ulimit -f)" in done.stdout
    assert open_log(str(tmp_path / "store"), name="band").end().seq == int(done.stdout.split()[-1])


def test_a_read_only_file_system_is_named_for_writing_and_can_be_read(tmp_path: Path) -> None:
    store = tmp_path / "store"
    log = open_log(str(store), name="band")
    groups = append(log, [1])
    log.close()
    script = """
import sys
from tests.log.log_samples import *
from ensemble.log import open_log, read_log
from ensemble.errors import Unavailable
for place in (sys.argv[1], sys.argv[1] + "/new"):
    try:
        open_log(place, name="band")
    except Unavailable as error:
        print(error)
print(len(contents(read_log(sys.argv[1]))))
"""
    command = mounted(f"mount --bind {store} {store} && mount -o remount,ro,bind {store}", script, store)

    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all("can't be opened for writing: Read-only file system; the file system is read-only" in line for line in lines[:2])
    assert lines[2] == str(len(flat(groups)))


def test_a_disk_that_refuses_any_step_of_making_a_store_is_named_and_the_next_try_succeeds(tmp_path: Path) -> None:
    for step in range(1, 100):
        place = tmp_path / str(step) / "store"
        disk = Failing(step, errno.EROFS)
        try:
            open_directory(place, name="band", log_id="log", files=disk).close()
        except Unavailable as error:
            said = str(error)
        else:
            assert step > 8
            return
        assert "the file system is read-only" in said
        open_directory(place, name="band", log_id="log", files=Quick()).close()
    pytest.fail("opening took more than 99 steps")


def test_what_is_too_long_for_one_group_is_appended_in_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_directory(tmp_path, name="band", log_id="log", files=Quick())
    monkeypatch.setattr("ensemble.log.group.BYTES_MAX", 500)

    groups = append(log, [1, 1, 1, 30, 1, 1])

    assert contents(log) == contents(read_directory(tmp_path)) == flat(groups)
    (path,) = (tmp_path / "shard-0").glob("*.seg")
    sizes = []
    data, place = path.read_bytes(), 0
    while place < len(data):
        record = groups_of.peek_record(data, place)
        assert record is not None
        sizes.append(record.frames)
        place += groups_of.RECORD_BYTES + record.length
    assert sizes == [3, 1, 2]


def test_files_are_synced_before_they_are_named_and_folders_after(tmp_path: Path) -> None:
    told: list[str] = []

    class Telling(Files):
        def sync(self, fd: int) -> None:
            told.append("sync " + Path(f"/proc/self/fd/{fd}").readlink().name)
            super().sync(fd)

        def rename(self, old: Path, new: Path) -> None:
            told.append("rename " + new.name)
            super().rename(old, new)

        def create(self, path: Path) -> int:
            told.append("create " + path.name)
            return super().create(path)

        def sync_folder(self, path: Path) -> None:
            told.append("folder " + path.name)
            super().sync_folder(path)

    log: DirectoryLog = open_directory(tmp_path / "store", name="band", log_id="log", files=Telling())
    append(log, [1])
    log.save(Snapshot(log.end(), b"state"))

    assert told == [
        *[f"folder {tmp_path.name}", "folder store", "folder shard-0"],
        *["create ensemble.json.tmp", "sync ensemble.json.tmp", "rename ensemble.json", "folder store"],
        *["create epoch.tmp", "sync epoch.tmp", "rename epoch", "folder shard-0"],
        *[f"create {0:020d}.seg", "folder shard-0", f"sync {0:020d}.seg"],
        *[f"create {1:020d}.snap.tmp", f"sync {1:020d}.snap.tmp", f"rename {1:020d}.snap", "folder snapshots"],
    ]


@pytest.mark.parametrize("path", ["x" * 300, "y/" * 2500])
def test_a_path_that_no_system_takes_says_what_to_do(path: str) -> None:
    for look in (read_log, count_shards, has_log):
        with pytest.raises(Unavailable, match="File name too long; no path may be so long here; choose a shorter one"):
            look(path)
