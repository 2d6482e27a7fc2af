"""What is half made, half dropped, damaged, or no take at all, and who makes a take while another drops one."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import ensemble
from ensemble import takes
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import manifest, open_log
from ensemble.log import takes as kept
from ensemble.log.fence import Lock
from ensemble.log.objects.log import let_go
from ensemble.log.objects.store import Objects
from ensemble.log.own.objects import OwnInObjects
from ensemble.log.reading import DirectoryFrames
from ensemble.log.shelf import shelf_at
from ensemble.log.takes import directory
from ensemble.replay import replay
from tests.takes.conftest import PLAYERS, SCORE, played, said

ROOT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A store in a directory that was played, with a take of it."""
    played(str(tmp_path / "store"), 1)
    takes.new(str(tmp_path / "store"), "a")
    return tmp_path / "store"


def made(tmp_path: Path, kind: str, shards: int) -> tuple[str, Path]:
    """A store of so many shards in which nothing was said yet, and the folder where it lies."""
    url = f"objects:{tmp_path}/store" if kind == "objects" else str(tmp_path / "store")
    for shard in range(shards):
        open_log(url, name="shop", shard=shard, shards=shards).close()
    return url, tmp_path / "store"


def has_takes(folder: Path) -> bool:
    """Whether retention takes nothing from the store."""
    log = open_log(str(folder), name="")
    packing = log.packing()
    assert packing is not None
    found = packing.has_takes()
    log.close()
    return found


def names(store: object) -> list[str]:
    return [each.name for each in takes.listed(str(store))]


# Half made, or half dropped


def test_what_a_kill_left_of_a_take_does_not_keep_retention_from_the_store(folder: Path) -> None:
    takes.drop(str(folder), "a")
    code = (
        "import os, signal\n"
        "from ensemble import takes\n"
        "from ensemble.log.takes import directory\n"
        "class Killed(directory.Files):\n"
        "    def rename(self, old, new):\n"
        "        if new.name == 'b': os.kill(os.getpid(), signal.SIGKILL)\n"
        "directory.Files = Killed\n"
        f"takes.new({str(folder)!r}, 'b')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == -signal.SIGKILL
    assert (folder / "takes/.b/ensemble.json").exists()

    assert not has_takes(folder)

    assert not (folder / "takes/.b").exists()
    assert names(folder) == ["main"]


def test_a_take_that_is_being_made_keeps_what_it_may_stand_on(folder: Path) -> None:
    takes.drop(str(folder), "a")
    found: list[bool] = []

    def build(place: str) -> None:
        Path(place).mkdir()
        (Path(place) / "half").touch()
        found.append(has_takes(folder))
        found.append((Path(place) / "half").exists())

    kept.make(str(folder), "b", build)

    assert found == [True, True]


def test_what_may_be_a_take_that_lost_its_manifest_stops_retention_and_is_named(folder: Path) -> None:
    (folder / "takes/a/ensemble.json").unlink()

    assert has_takes(folder)
    assert kept.strays(str(folder)) == [str(folder / "takes/a")]
    assert names(folder) == ["main"]


@pytest.mark.parametrize("name", ["b", ".b", "b.txt"])
def test_an_empty_folder_or_a_file_among_the_takes_is_none(folder: Path, name: str) -> None:
    takes.drop(str(folder), "a")
    (folder / "takes" / name).mkdir() if name != "b.txt" else (folder / "takes" / name).touch()

    assert names(folder) == ["main"]
    assert not has_takes(folder)
    assert takes.new(str(folder), "b").name == "b"
    assert names(folder) == ["main", "b"]


# Damaged


def damage(folder: Path) -> Path:
    """Have the own log of a take be damaged before its end."""
    played(str(folder), 2, take="a")
    for snapshot in (folder / "takes/a/shard-0/snapshots").iterdir():
        snapshot.unlink()
    [segment] = (folder / "takes/a/shard-0").glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[60] ^= 1
    segment.write_bytes(data)
    return segment


def test_a_current_take_that_is_damaged_can_be_left(folder: Path) -> None:
    takes.use(str(folder), "a")
    damage(folder)
    with pytest.raises(LogCorrupt):
        played(str(folder))

    takes.use(str(folder), "main")

    assert said(str(folder)) == [{"sum": 1}]
    takes.drop(str(folder), "a")
    assert names(folder) == ["main"]


def test_a_current_take_whose_manifest_is_damaged_can_be_left(folder: Path) -> None:
    takes.use(str(folder), "a")
    (folder / "takes/a/ensemble.json").write_bytes(b"{")

    takes.use(str(folder), "main")

    assert said(str(folder)) == [{"sum": 1}]


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("kind", ["directory", "objects"])
def test_whichever_manifest_of_a_take_is_damaged_it_is_left_and_dropped(tmp_path: Path, kind: str, shards: int) -> None:
    store, place = made(tmp_path, kind, shards)
    takes.new(store, "a")
    takes.new(store, "b")
    takes.use(store, "a")
    for name in ("a", "b"):
        written = place / "takes" / name / ("shards.json" if kind == "directory" and shards > 1 else "ensemble.json")
        written.write_bytes(b"{")
    with pytest.raises(LogCorrupt, match=r"take 'b' is damaged, so what is current stays: .*/takes/b/.*: byte 0"):
        takes.use(store, "b")

    takes.use(store, "main")
    takes.drop(store, "b")
    takes.drop(store, "a")

    assert names(store) == ["main"]
    assert takes.new(store, "a").parent == "main"


def test_a_damaged_take_is_not_left_while_it_is_played(folder: Path) -> None:
    takes.use(str(folder), "a")
    with ensemble.open(SCORE, store=str(folder), players=PLAYERS):
        (folder / "takes/a/ensemble.json").write_bytes(b"{")

        with pytest.raises(Unavailable, match="it is being played already"):
            takes.use(str(folder), "main")
        with pytest.raises(Unavailable, match="take 'a' is current"):
            takes.drop(str(folder), "a")


@pytest.mark.parametrize("damaged", ["an entry", "its manifest", "the store's manifest"])
@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("is_elsewhere", [True, False])
def test_a_damaged_take_of_an_object_store_is_neither_left_nor_dropped_while_it_may_be_played(
    tmp_path: Path, shards: int, damaged: str, is_elsewhere: bool
) -> None:
    store, place = made(tmp_path, "objects", shards)
    takes.new(store, "a")
    takes.new(store, "b")
    below = "/generation-0/1" if shards > 1 else ""
    log = open_log(f"{store}#a", name="", shard=shards - 1, shards=shards)
    if is_elsewhere:
        let_go(f"{store}/takes/a{below}")  # as of another process
    part = place / f"takes/a{below}"
    [entry] = part.glob("log/*/*0000")
    {"an entry": entry, "its manifest": part / "ensemble.json"}.get(damaged, place / "takes/a/ensemble.json").write_bytes(b"{")
    why = r"it is being played in this process|it is damaged .*byte 0.* remove .*/takes/a/ensemble.json"

    with pytest.raises(Unavailable, match=f"take 'a' can't be dropped now: .*({why})"):
        takes.drop(store, "a")
    kept.make_current(store, "a")
    with pytest.raises(Unavailable, match=f"take 'a' can't be left now: .*({why})"):
        takes.use(store, "b")
    assert kept.current(store) == "a"

    log.close()
    takes.use(store, "b")
    takes.drop(store, "a")
    assert names(store) == ["main", "b"]


def test_a_damaged_take_of_an_object_store_whose_player_was_ended_is_left_once_its_manifest_is_removed(tmp_path: Path) -> None:
    store, place = made(tmp_path, "objects", 1)
    takes.new(store, "a")
    takes.use(store, "a")
    log = open_log(f"{store}#a", name="")
    let_go(f"{store}/takes/a")  # as of another process
    [entry] = (place / "takes/a").glob("log/*/*0000")
    entry.write_bytes(b"{")
    with pytest.raises(Unavailable, match=r"remove .*/takes/a/ensemble.json"):
        takes.use(store, "main")

    (place / "takes/a/ensemble.json").unlink()
    takes.use(store, "main")

    assert names(store) == ["main"]
    log.close()
    assert takes.new(store, "a").parent == "main"


def test_a_damaged_trunk_of_an_object_store_is_not_left_while_it_may_be_played(tmp_path: Path) -> None:
    store, place = made(tmp_path, "objects", 1)
    takes.new(store, "a", 0)
    log = open_log(store, name="")
    let_go(store)  # as of another process
    [entry] = place.glob("log/*/*0000")
    entry.write_bytes(b"{")

    with pytest.raises(Unavailable, match=r"take 'main' can't be left now: .* write the name of another .*/current"):
        takes.use(store, "a")

    log.close()


def test_a_damaged_take_is_not_made_current(folder: Path) -> None:
    segment = damage(folder)

    with pytest.raises(LogCorrupt, match=f"take 'a' is damaged, so what is current stays: {segment}: byte"):
        takes.use(str(folder), "a")

    assert kept.current(str(folder)) == "main"


def test_what_a_damaged_take_stands_on_is_not_dropped_before_it(folder: Path) -> None:
    takes.new(f"{folder}#a", "b")
    (folder / "takes/b/ensemble.json").write_bytes(b"{")

    with pytest.raises(LogCorrupt, match="on which take 'b' stands can't be read; drop that first, or mend it"):
        takes.drop(str(folder), "a")

    takes.drop(str(folder), "b")
    takes.drop(str(folder), "a")
    assert names(folder) == ["main"]


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize("parent", ["main", "a"])
def test_two_takes_that_are_damaged_are_dropped_in_any_order(folder: Path, parent: str, first: str) -> None:
    takes.new(f"{folder}#{parent}", "b")
    takes.new(str(folder), "c")
    for name in ("a", "b"):
        (folder / "takes" / name / "ensemble.json").write_bytes(b"{")
    with pytest.raises(LogCorrupt, match="on which take 'a' stands can't be read"):
        takes.drop(str(folder), "c")

    takes.drop(str(folder), first)
    takes.drop(str(folder), "b" if first == "a" else "a")

    assert names(folder) == ["main", "c"]


def test_what_stands_on_a_damaged_take_is_dropped_before_it(folder: Path) -> None:
    takes.new(f"{folder}#a", "b")
    takes.new(f"{folder}#b", "c")
    (folder / "takes/a/ensemble.json").write_bytes(b"{")
    for name, above in (("a", "b"), ("b", "c")):
        with pytest.raises(Unavailable, match=f"{above} stands on take '{name}'; drop that first"):
            takes.drop(str(folder), name)

    for name in ("c", "b", "a"):
        takes.drop(str(folder), name)

    assert names(folder) == ["main"]


def test_a_lock_that_was_left_is_still_seen_to_be_left_after_a_look(folder: Path) -> None:
    Lock(folder).forget()  # as a crash does

    takes.use(str(folder), "a")

    assert Lock(folder).was_left


# A full disk


def test_a_take_is_dropped_where_nothing_can_be_written(folder: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))  # every write fails, as on a full disk
    try:
        with pytest.raises(Unavailable, match="the file would be larger"):
            takes.new(str(folder), "b")
        takes.drop(str(folder), "a")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert names(folder) == ["main"]
    assert list((folder / "takes").iterdir()) == []


# Archives


@pytest.mark.parametrize("kind", ["", "objects:"], ids=["directory", "objects"])
def test_an_archive_has_no_takes(tmp_path: Path, kind: str) -> None:
    store, cold = f"{tmp_path}/store", f"{kind}{tmp_path}/cold"
    played(store, 1)
    known = manifest.read(Path(store))
    assert known is not None
    shelf_at(cold, 0, 1).begin(known._replace(store=store))
    before = sorted(tmp_path.rglob("cold/*"))

    for ask in (lambda: takes.new(cold, "a"), lambda: replay(SCORE, 0, store=cold, calls=PLAYERS)):
        with pytest.raises(Unavailable, match=f"this is the archive of .*store, and is only read; .*: --store .*{store}"):
            ask()

    assert sorted(tmp_path.rglob("cold/*")) == before


# One makes a take, the other drops that on which it stands


def outcome(*calls: Callable[[], object]) -> list[str]:
    """What each of these says, which are called at once; empty: it is done."""
    told = [""] * len(calls)

    def call(ix: int) -> None:
        try:
            calls[ix]()
        except Unavailable as error:
            told[ix] = str(error)

    threads = [threading.Thread(target=call, args=(ix,)) for ix in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return told


def test_a_take_is_not_dropped_while_another_is_made_of_it(store: str) -> None:
    for _ in range(8):
        if not said_anything(store):
            played(store, 1)
        takes.new(store, "a")

        made, dropped = outcome(lambda: takes.new(f"{store}#a", "b"), lambda: takes.drop(store, "a"))

        assert made or dropped
        there = names(store)
        assert "b" not in there or "a" in there
        for name in ("b", "a"):
            if name in there:
                takes.drop(store, name)


def said_anything(store: str) -> bool:
    with suppress(Unavailable):
        return bool(said(store))
    return False


def test_who_makes_a_take_of_one_that_was_dropped_meanwhile_is_refused(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    played(store, 1)
    takes.new(store, "a")
    make = kept.make

    def late(*given: Any) -> None:
        takes.drop(store, "a")
        make(*given)

    monkeypatch.setattr(kept, "make", late)
    with pytest.raises(Unavailable, match=r"take 'a' was dropped just now; make this take of another one"):
        takes.new(f"{store}#a", "b")

    assert names(store) == ["main"]


def test_in_an_object_store_one_of_the_two_sees_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = f"objects:{tmp_path}/store"
    played(store, 1)
    takes.new(store, "a")
    remove = kept.remove
    told: list[str] = []

    def late(*given: Any) -> None:  # the other has looked whether one stands on it, and found none
        monkeypatch.undo()
        with pytest.raises(Unavailable) as refused:
            takes.new(f"{store}#a", "b")
        told.append(str(refused.value))
        remove(*given)

    monkeypatch.setattr(kept, "remove", late)
    takes.drop(store, "a")

    assert "take 'a' is being dropped, or somebody was ended while he did; drop it again" in told[0]
    assert names(store) == ["main"]


def test_in_an_object_store_one_who_fails_to_drop_a_take_leaves_the_mark_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = f"objects:{tmp_path}/store"
    played(store, 1)
    takes.new(store, "a")
    remove = kept.remove

    def late(*given: Any) -> None:  # the first has looked whether one stands on it, and found none
        monkeypatch.undo()
        with pytest.raises(RuntimeError), kept.dropping(store, "a"):
            raise RuntimeError
        with pytest.raises(Unavailable, match="take 'a' is being dropped"):
            takes.new(f"{store}#a", "b")
        remove(*given)

    monkeypatch.setattr(kept, "remove", late)
    takes.drop(store, "a")

    assert names(store) == ["main"]
    assert takes.new(store, "a").name == "a"
    assert not kept.is_dropped(store, "a")


def test_who_was_ended_while_he_dropped_a_take_of_an_object_store_drops_it_again(tmp_path: Path) -> None:
    store = f"objects:{tmp_path}/store"
    played(store, 1)
    takes.new(store, "a")
    takes.new(f"{store}#a", "b")
    with pytest.raises(Unavailable, match="b stands on take 'a'"):
        takes.drop(store, "a")
    takes.new(f"{store}#a", "c")  # no mark is left

    ended = kept.dropping(store, "a")
    ended.__enter__()
    with pytest.raises(Unavailable, match="take 'a' is being dropped"):
        takes.new(f"{store}#a", "d")
    for name in ("c", "b", "a"):
        takes.drop(store, name)

    assert names(store) == ["main"]
    assert takes.new(store, "a").name == "a"
    assert takes.new(f"{store}#a", "b").parent == "a"


class Ended(BaseException):
    """In the place of a kill: nothing is written, nor asked for, any more."""


def is_done_before(monkeypatch: pytest.MonkeyPatch, at: int, what: Callable[[], object]) -> bool:
    """Whether this is done before the request number `at` of those that may write to an object store: it is ended there."""
    requests = count()

    def ending(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Objects, *given: Any) -> Any:
            if next(requests) >= at:
                raise Ended
            return method(self, *given)

        return call

    with monkeypatch.context() as patch:
        for name in ("call", "create", "put", "delete"):
            patch.setattr(Objects, name, ending(getattr(Objects, name)))
        try:
            what()
        except Ended:
            return False
    return True


def test_wherever_who_makes_a_take_in_several_shards_is_ended_takes_are_dropped_and_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    half_made = set()
    for at in count():
        store, _ = made(tmp_path / str(at), "objects", 2)
        takes.new(store, "b")
        if is_done_before(monkeypatch, at, partial(takes.new, store, "a")):
            break
        for shard in range(2):
            let_go(f"{store}/takes/a/generation-0/{shard}")  # as of another process

        takes.drop(store, "b")

        if "a" in kept.names(store):
            begun = len(OwnInObjects(f"{store}/takes/a").begun())
            if begun < 2:
                half_made.add(begun)
                with pytest.raises(Unavailable, match=r"take 'a' can't be read: .*; or drop it: ensemble take drop a"):
                    takes.listed(store)
                with pytest.raises(Unavailable, match=r"there is a take 'a' already; .*or drop it: ensemble take drop a"):
                    takes.new(store, "a")
            else:
                for shard in range(2):  # all of it is there, and it may be played: so it is, once more
                    open_log(f"{store}#a", name="", shard=shard, shards=2).close()
            takes.drop(store, "a")
        assert names(store) == ["main"]
        assert takes.new(store, "a").parent == "main"
    assert half_made == {0, 1}


def test_a_take_in_several_shards_of_an_object_store_is_not_dropped_while_one_of_them_is_played(tmp_path: Path) -> None:
    store, _ = made(tmp_path, "objects", 2)
    takes.new(store, "a")
    for shard in range(2):
        with closing(open_log(f"{store}#a", name="", shard=shard, shards=2)):
            with pytest.raises(Unavailable, match=r"take 'a' can't be dropped now: .* is being played"):
                takes.drop(store, "a")
            let_go(f"{store}/takes/a/generation-0/{shard}")  # as of another process
            with pytest.raises(Unavailable, match=r"take 'a' can't be dropped now: .* it is played by process"):
                takes.drop(store, "a")

    takes.drop(store, "a")
    assert names(store) == ["main"]


def test_where_there_are_no_locks_it_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(directory, "fcntl", SimpleNamespace(flock=refused, LOCK_EX=fcntl.LOCK_EX))
    for ask in (partial(takes.new, name="b"), partial(takes.drop, name="a"), partial(takes.use, name="a")):
        with pytest.raises(Unavailable, match=f"{folder}/takes: can't be locked: .*; this file system has no locks"):
            ask(str(folder))
    assert names(folder) == ["main", "a"]


def test_a_take_that_can_not_be_read_is_named_with_what_to_do(folder: Path) -> None:
    shutil.rmtree(folder / "takes/a/shard-0")

    with pytest.raises(Unavailable, match=r"take 'a' can't be read: .*; or drop it: ensemble take drop a"):
        takes.listed(str(folder))
    with pytest.raises(Unavailable, match="can't be read"):
        takes.use(str(folder), "a")
    assert kept.current(str(folder)) == "main"
    takes.drop(str(folder), "a")
    assert names(folder) == ["main"]


def test_what_retention_takes_while_a_take_is_made_is_told(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    played(str(folder), 2)
    begin = DirectoryFrames.begin

    def later(self: DirectoryFrames) -> Any:  # as if all that was there had gone
        return self.end() if self.folder == folder and stood else begin(self)

    stood: list[str] = []
    make = kept.make

    def late(*given: Any) -> None:
        stood.append("the place was found")
        make(*given)

    monkeypatch.setattr(kept, "make", late)
    monkeypatch.setattr(DirectoryFrames, "begin", later)
    with pytest.raises(Unavailable, match="retention took what was before this place just now; choose a later one"):
        takes.new(str(folder), "b", 3)
    monkeypatch.undo()

    assert names(folder) == ["main", "a"]
