"""The archive: nothing is taken from a log before it lies there, and what lies there reads as the log that it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

import ensemble
from ensemble.auditing import audit
from ensemble.broker.state import State
from ensemble.errors import LogCorrupt, OffsetError, Unavailable
from ensemble.event import decode, encode
from ensemble.log import Snapshot, count_shards, open_log, read_log
from ensemble.log import shelf as shelves
from ensemble.log.archive import Archive
from ensemble.log.audit import audit_log
from ensemble.log.base import Refused
from ensemble.log.cut import goes_through
from ensemble.log.directory import open_directory
from ensemble.log.forgetting import forgetting_of
from ensemble.log.memory import forget_memory_store
from ensemble.log.shelf import FolderShelf
from tests.log.archive_samples import Trimmed, archive_at, is_all_there, lies_in, ruled
from tests.log.log_samples import Failing, Plug, Quick, plain
from tests.log.past_samples import said
from tests.log.test_forgetting import ORDER, PERSONAL, say
from tests.s3 import S3

BY_TOPIC: dict[str, Any] = {"retain": {}, "events": {"a": {"retain": {"size": "100B"}}, "b": {"compact": True}}}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelves, "Files", Quick)


@pytest.fixture
def kept(tmp_path: Path) -> Trimmed:
    """A log of which there is something to take."""
    kept = Trimmed(tmp_path / "store")
    kept.say(30)
    kept.save()
    kept.say(2)
    return kept


# What lies there


@pytest.mark.parametrize("how", [{}, BY_TOPIC, {"retain": {"time": "10s"}, "events": BY_TOPIC["events"]}])
def test_the_archive_and_what_is_left_are_the_whole_log(kept: Trimmed, tmp_path: Path, how: dict[str, Any]) -> None:
    archive = tmp_path / "cold"
    for _ in range(3):
        assert kept.trim(ruled(archive, **how))
        assert is_all_there(kept, archive)
        kept.say(20)
        kept.save()

    assert audit_log(str(archive)).findings == []
    assert audit_log(str(kept.folder)).findings == []


def test_an_archive_is_read_as_the_log_that_it_was(kept: Trimmed, tmp_path: Path) -> None:
    frames = [plain(frame) for frame in kept.log.frames()]
    kept.trim(ruled(tmp_path / "cold"))

    archive = read_log(str(tmp_path / "cold"))
    end = archive.end()

    assert (archive.id, archive.name, archive.begin().seq, count_shards(str(tmp_path / "cold"))) == ("log", "band", 0, 1)
    assert end == kept.log.begin()
    assert [plain(frame) for frame in archive.frames()] == frames[: end.seq]
    assert plain(archive.frame_at(7)) == frames[3]
    assert [frame.first for frame in archive.rows(8)] == list(range(8, end.offset, 2))
    assert archive.base() is archive.snapshot() is None
    assert 0 < archive.size_bytes() < sum(map(len, kept.sealed[: end.seq])), "it is compressed"
    with pytest.raises(OffsetError):
        archive.frame_at(end.offset)
    with pytest.raises(OffsetError, match=rf"retention took it: retain: .*, archived in {tmp_path}/cold on 1970-"):
        kept.log.frame_at(7)
    with pytest.raises(Unavailable, match=rf"the archive of band band, which .* not played; play its store, {kept.folder}"):
        open_log(str(tmp_path / "cold"), name="band")


def test_an_archive_that_is_being_read_goes_on_as_more_is_put_there(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    archive = read_log(str(tmp_path / "cold"))
    before = archive.end()
    kept.say(30)
    kept.save()

    kept.trim(ruled(tmp_path / "cold"))

    assert archive.end().seq > before.seq
    assert [frame.seq for frame in archive.frames(before.seq)] == list(range(before.seq, archive.end().seq))


def test_where_retention_took_something_before_the_archive_begins_with_what_is_left(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "other"), 3)
    shutil.rmtree(tmp_path / "other")
    base, begin = kept.log.base(), kept.log.begin()
    kept.say(30)
    kept.save()

    kept.trim(ruled(tmp_path / "cold"), 3)

    archive = read_log(str(tmp_path / "cold"))
    assert (archive.begin(), archive.base(), archive.snapshot()) == (begin, base, base)
    assert archive.snapshot(begin.seq - 1) is None
    assert plain(archive.frame_at(3)) == plain(kept.log.frame_at(3)), "what was needed lies there too"
    _, end, frames = lies_in(tmp_path / "cold")
    assert frames == kept.sealed[begin.seq : end.seq]
    found = audit_log(str(tmp_path / "cold"))
    assert (found.findings, found.notes, found.begin) == ([], [], begin)
    packing = kept.log.packing()
    assert packing is not None
    Archive(str(tmp_path / "past"), kept.log, 1).keep(packing, begin.seq)
    found = audit_log(str(tmp_path / "past"))
    assert (found.findings, found.begin, found.end) == ([], kept.log.begin(), kept.log.begin())
    assert "what it took is said in the log that it is of, and not here" in found.notes[0]


def test_the_archive_of_several_shards_is_divided_as_their_store(tmp_path: Path) -> None:
    from ensemble.log.division import place

    for shard in (1, 0):
        kept = Trimmed(place(tmp_path / "store", shard, 2), log_id=f"log-{shard}", shard=shard)
        kept.say(30)
        kept.save()
        rules = ruled(tmp_path / "cold")
        rules.shards = 2
        kept.trim(rules)

    assert count_shards(str(tmp_path / "cold")) == 2
    assert [read_log(str(tmp_path / "cold"), shard).id for shard in (0, 1)] == ["log-0", "log-1"]
    whole = Trimmed(tmp_path / "whole")
    whole.say(30)
    whole.save()
    with pytest.raises(Refused, match="of a store of 2 shards, and this one has 1"):
        whole.trim(ruled(tmp_path / "cold"))


def test_large_data_goes_along(tmp_path: Path) -> None:
    large = [encode(f"{n}" * 500) for n in range(40)]
    kept = Trimmed(tmp_path / "store")
    from ensemble.log.blobs import ClaimLog, DirectoryBlobs

    kept.log = ClaimLog(kept.log, DirectoryBlobs(kept.folder, Quick()), 400)
    for n in range(40):
        made = said(kept.log, [("a", "k")], kept.now_us)
        assert made.rows is not None
        made.rows.data = [large[n]]
        kept.append(made)
    kept.save()

    kept.trim(ruled(tmp_path / "cold"))

    archive = read_log(str(tmp_path / "cold"))
    end = archive.end().offset
    assert 20 < end < 40
    assert [frame.rows.data[0] for frame in archive.rows()] == large[:end]  # type: ignore[union-attr]
    assert len(list((kept.folder / "blobs").glob("*/*"))) == 40 - end, "it was swept from the store"
    assert audit_log(str(tmp_path / "cold")).findings == []
    [first, *_] = sorted((tmp_path / "cold" / "blobs").glob("*/*"))
    first.write_bytes(b"something else")
    [finding] = audit_log(str(tmp_path / "cold")).findings
    assert finding.file == str(first)


# On every kind of place


@pytest.fixture(params=["directory", "memory", "objects"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of a store in small parts."""
    monkeypatch.setitem(open_directory.__kwdefaults__ or {}, "segment_bytes", 700)
    monkeypatch.setattr("ensemble.log.memory_packing.PART_BYTES", 700)
    monkeypatch.setattr("ensemble.log.objects.codec.BLOCK", 4)
    return {"directory": f"{tmp_path}/s", "memory": f"memory:{tmp_path}", "objects": f"objects:{tmp_path}/o"}[request.param]


@pytest.fixture(params=["folder", "objects", pytest.param("s3", marks=pytest.mark.everywhere("the folder shows the same"))])
def cold(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "s3":
        server: S3 = request.getfixturevalue("s3")
        return server.url()
    return {"folder": f"{tmp_path}/cold", "objects": f"objects:{tmp_path}/cold"}[request.param]


def test_whatever_kind_of_store_is_archived_in_whatever_kind_of_place(store: str, cold: str, tmp_path: Path) -> None:
    large = [encode(f"{n}" * 500) for n in range(60)]
    kept = Trimmed(tmp_path, log=open_log(store, name="band", id="log", blob_above=400))
    for n in range(60):
        made = said(kept.log, [("a", "k")], kept.now_us + n)
        assert made.rows is not None
        made.rows.data = [large[n]]
        kept.append(made)
    kept.save()
    whole = [plain(frame) for frame in kept.log.frames()]
    kept.trim(ruled(cold))
    kept.say(40)
    kept.save()
    kept.trim(ruled(cold))

    archive = read_log(cold)
    end = archive.end()
    assert (archive.id, archive.name, archive.begin().seq) == ("log", "band", 0)
    assert end.seq > 50
    assert [plain(frame) for frame in archive.frames()][:60] == whole[: min(60, end.seq)]
    assert kept.log.begin().seq <= end.seq and goes_through(kept.log, end)
    assert plain(archive.frame_at(7)) == whole[7]
    assert audit_log(cold).findings == []
    found = audit(store)
    assert (found.findings, [(past.url, past.end) for past in found.archives]) == ((), [(cold, end)])
    with pytest.raises(OffsetError, match=f"archived in {cold} on 1970-"):
        kept.log.frame_at(7)
    with pytest.raises(OffsetError, match=f"log {cold}: there is no event "):
        archive.frame_at(end.offset)
    with pytest.raises(Unavailable, match=f"store {cold}: this is the archive of band band"):
        open_log(cold, name="band")
    kept.log.close()


def test_an_archive_is_read_with_the_keys_of_its_log_and_not_without(store: str, tmp_path: Path) -> None:
    log = open_log(store, name="shop", personal=PERSONAL)
    for n in range(30):
        say(log, "order.placed", (f"o-{n}", ORDER))
    for _ in range(2):
        log.save(Snapshot(log.end(), State().dump()))
        say(log, "order.placed", ("o", ORDER))
    packing = log.packing()
    assert packing is not None
    Archive(str(tmp_path / "cold"), log, 1).keep(packing, log.end().seq)

    def names() -> set[str]:
        rows = [frame.rows for frame in read_log(str(tmp_path / "cold")).rows()]
        return {decode(data)["name"] for each in rows if each is not None for data in each.data}

    assert names() == {"SECRET-1"}
    assert all(b"SECRET" not in path.read_bytes() for path in (tmp_path / "cold").rglob("*.pack"))
    forgetting = forgetting_of(log)
    assert forgetting is not None
    forgetting.forget("ella")
    assert names() == {"(forgotten)"}
    log.close()
    if store.startswith("memory:"):
        forget_memory_store(store.removeprefix("memory:"))
    else:
        Path(store.removeprefix("objects:")).rename(tmp_path / "away")
    with pytest.raises(Unavailable, match=f"the key ring of store {store} is not here"):
        names()


def test_an_archive_of_which_nothing_is_personal_needs_no_store(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    kept.log.close()
    kept.folder.rename(tmp_path / "away")

    assert [frame.seq for frame in read_log(str(tmp_path / "cold")).frames()]


def test_the_archive_of_several_shards_in_objects_is_divided_as_their_store(tmp_path: Path) -> None:
    cold = f"objects:{tmp_path}/cold"
    for shard in (1, 0):
        kept = Trimmed(tmp_path / str(shard), log_id=f"log-{shard}", shard=shard)
        kept.say(30)
        kept.save()
        rules = ruled(cold)
        rules.shards = 2
        kept.trim(rules)

    assert count_shards(cold) == 2
    assert [read_log(cold, shard).id for shard in (0, 1)] == ["log-0", "log-1"]
    assert [audit_log(cold, shard).findings for shard in (0, 1)] == [[], []]
    whole = Trimmed(tmp_path / "whole")
    whole.say(30)
    whole.save()
    with pytest.raises(Refused, match="of a store of 2 shards, and this one has 1"):
        whole.trim(ruled(cold))
    (tmp_path / "things").mkdir()
    (tmp_path / "things/letters.txt").write_text("dear")
    with pytest.raises(Refused, match=r"this prefix has other things below it \(letters.txt\)"):
        whole.trim(ruled(f"objects:{tmp_path}/things"))
    with pytest.raises(Refused, match="it lies in the store itself"):
        whole.trim(ruled(f"objects:{tmp_path}/whole/cold"))


@pytest.mark.parametrize("kind", ["", "objects:"])
def test_a_shard_that_has_let_nothing_go_yet_is_an_empty_log_in_the_archive_of_all(tmp_path: Path, kind: str) -> None:
    cold = f"{kind}{tmp_path}/cold"
    kept = [Trimmed(tmp_path / str(shard), log_id=f"log-{shard}", shard=shard) for shard in range(2)]
    rules = ruled(cold)
    rules.shards = 2
    for each in kept:
        each.say(30)
        each.save()
    kept[1].trim(rules)

    empty = read_log(cold, 0)

    assert (empty.begin().seq, empty.end().seq, list(empty.frames()), empty.snapshot()) == (0, 0, [], None)
    assert (empty.name, empty.shard, audit_log(cold, 0).findings) == ("band", 0, [])
    with ensemble.read(cold) as reader:
        assert reader.status().events == len(list(reader.events())) > 0
    assert [past.shard for past in audit(cold).logs] == [0, 1]
    kept[0].trim(rules)
    assert empty.end().seq > 0
    assert empty.id == "log-0"
    assert len(list(empty.frames())) == empty.end().seq
    assert audit(cold).is_whole


def test_damage_in_an_archive_of_objects_is_told_by_object(kept: Trimmed, tmp_path: Path) -> None:
    cold = f"objects:{tmp_path}/cold"
    kept.trim(ruled(cold))
    [first, second, *_] = sorted((tmp_path / "cold/shard-0").glob("*.pack"))
    for path in (first, tmp_path / "cold/ensemble.json"):
        data = path.read_bytes()
        for byte in range(0, len(data), 11):
            path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x40]) + data[byte + 1 :])
            assert [finding for finding in audit_log(cold).findings if finding.file.endswith(path.name)], (path, byte)
        path.write_bytes(data)
    first.rename(first.with_name("kept"))
    assert "it does not follow frame" in audit_log(cold).findings[0].wrong
    second.rename(first)
    assert "is called after another" in audit_log(cold).findings[0].wrong


def test_what_was_put_there_by_one_that_died_before_it_could_say_so_is_found_there(tmp_path: Path) -> None:
    for cold in (str(tmp_path / "cold"), f"objects:{tmp_path}/objects"):
        kept = Trimmed(tmp_path / f"of-{len(cold)}")
        kept.say(30)
        kept.save()
        packing = kept.log.packing()
        assert packing is not None
        end = packing.parts()[2].end_seq
        one, other = Archive(cold, kept.log, 1), Archive(cold, kept.log, 1)
        one.keep(packing, packing.parts()[0].end_seq)
        other.keep(packing, packing.parts()[0].end_seq)

        one.keep(packing, end)
        other.keep(packing, end)

        assert read_log(cold).end().seq == end
        assert audit_log(cold).findings == []


# Crashes


def test_a_plug_that_is_pulled_at_any_step_leaves_all_in_one_place_or_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for step in range(1, 200):
        folder, archive = tmp_path / f"store-{step}", tmp_path / f"cold-{step}"
        kept = Trimmed(folder)
        kept.say(12)
        kept.save()
        disk = Failing(10_000, None)
        kept.log.close()
        kept.log = kept.opened(disk)
        monkeypatch.setattr(shelves, "Files", lambda disk=disk: disk)
        disk.fails_at = disk.done + step
        try:
            kept.trim(ruled(archive, {"size": "500B"}, BY_TOPIC["events"]))
            is_done = True
        except Plug:
            is_done = False
        monkeypatch.setattr(shelves, "Files", Quick)
        kept.come_back()
        if not (archive / "ensemble.json").exists():
            assert kept.lies() == kept.sealed, step
        else:
            assert is_all_there(kept, archive), step
        kept.trim(ruled(archive, {"size": "500B"}, BY_TOPIC["events"]))
        assert is_all_there(kept, archive), step
        assert not list(archive.rglob("*.tmp")), step
        assert audit_log(str(archive)).findings == []
        kept.log.close()
        shutil.rmtree(folder)
        shutil.rmtree(archive)
        if is_done:
            assert step > 20
            return
    raise AssertionError("it never came to an end")


def test_who_is_being_closed_archives_no_more_than_the_part_that_is_on_its_way(kept: Trimmed, tmp_path: Path) -> None:
    packing = kept.log.packing()
    assert packing is not None
    archive = Archive(str(tmp_path / "cold"), kept.log, 1)
    whole = packing.copy

    def copy(part: Any) -> Any:
        archive.is_ending = part.seq > 0
        return whole(part)

    packing.copy = copy  # type: ignore[method-assign]
    parts = packing.parts()
    with pytest.raises(Refused, match="the band is being closed"):
        archive.keep(packing, parts[-1].end_seq)

    assert read_log(str(tmp_path / "cold")).end().seq == parts[1].end_seq
    archive.is_ending = False
    packing.copy = whole  # type: ignore[method-assign]
    archive.keep(packing, parts[-1].end_seq)
    assert read_log(str(tmp_path / "cold")).end().seq == parts[-1].end_seq


# Refused


def test_what_does_not_belong_there_is_refused_and_nothing_is_taken(kept: Trimmed, tmp_path: Path) -> None:
    other = Trimmed(tmp_path / "other", log_id="other")
    other.say(30)
    other.save()
    other.trim(ruled(tmp_path / "others"))
    (tmp_path / "full").mkdir()
    (tmp_path / "linked").symlink_to(tmp_path / "store")
    (tmp_path / "full/letters.txt").write_text("dear")
    (tmp_path / "file").write_text("dear")

    for place, why in {
        "others": "it is that of log other .band., not of log .band.; name another place",
        "other": "there is a store there, and an archive is to have a place of its own",
        "store": "it lies in the store itself",
        "store/cold": "it lies in the store itself",
        "others/../store/cold": "it lies in the store itself",
        "linked/cold": "it lies in the store itself",
        "full": "this folder has other things in it .letters.txt.",
        "file": "this is a file",
        "file/cold": "this is a file",
    }.items():
        before = kept.lies()
        with pytest.raises(Refused, match=f"^archive {tmp_path / place}: .*{why}.*; nothing is taken from the log until then$"):
            kept.trim(ruled(tmp_path / place))
        assert kept.lies() == before
        assert not list(kept.folder.rglob("*.tmp"))
    assert (tmp_path / "store-beside").exists() is False
    kept.trim(ruled(tmp_path / "store-beside"))
    assert is_all_there(kept, tmp_path / "store-beside")


def test_compression_goes_on_where_the_archive_refuses(kept: Trimmed, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("dear")
    rules = ruled(tmp_path / "file")
    rules.compress = True
    before = kept.log.size_bytes()

    with pytest.raises(Refused):
        kept.trim(rules)

    assert kept.log.size_bytes() < 0.7 * before
    assert kept.log.begin().seq == 0


def test_an_archive_that_is_gone_though_the_log_says_that_its_past_is_there_is_refused(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    kept.say(30)
    kept.save()
    (tmp_path / "cold").rename(tmp_path / "unmounted")

    with pytest.raises(Refused, match="it is empty, and the log says that its past lies there: is the disk there"):
        kept.trim(ruled(tmp_path / "cold"))

    assert not (tmp_path / "cold").exists()
    (tmp_path / "unmounted").rename(tmp_path / "cold")
    kept.trim(ruled(tmp_path / "cold"))
    assert is_all_there(kept, tmp_path / "cold")


def test_an_archive_that_ends_elsewhere_than_the_log_goes_on_is_refused(kept: Trimmed, tmp_path: Path) -> None:
    kept.log.close()
    shutil.copytree(kept.folder, tmp_path / "copy")
    kept.log = kept.opened(Quick())
    kept.trim(ruled(tmp_path / "cold"))
    kept.say(30)
    kept.save()
    kept.trim(ruled(tmp_path / "cold"))
    older = Trimmed(tmp_path / "copy")  # restored from a copy, and played on otherwise
    older.say(40, "c")
    older.save()

    with pytest.raises(Refused, match=r"the log does not go on from there: .* or the store is an older copy"):
        older.trim(ruled(tmp_path / "cold"))

    kept.trim(ruled(tmp_path / "elsewhere", {"size": "100B"}))
    kept.say(30)
    kept.save()
    with pytest.raises(Refused, match="some of it went without being archived"):
        kept.trim(ruled(tmp_path / "cold"))


def test_what_lies_there_already_is_not_put_there_again_unless_it_is_something_else(
    kept: Trimmed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    shelf = FolderShelf(tmp_path / "cold")
    data = (tmp_path / "cold/shard-0" / f"{0:020d}.1.pack").read_bytes()

    assert shelf.add(0, b"other") is False
    assert (tmp_path / "cold/shard-0" / f"{0:020d}.1.pack").read_bytes() == data

    kept.say(30)
    kept.save()
    seq = archive_at(tmp_path / "cold").end().seq
    (tmp_path / f"cold/shard-0/{seq:020d}.1.pack.tmp").write_bytes(b"half of")
    kept.trim(ruled(tmp_path / "cold"))
    assert is_all_there(kept, tmp_path / "cold")


def test_damage_in_an_archive_is_told_by_file_and_byte_to_who_reads_it_and_by_an_audit(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    paths = sorted((tmp_path / "cold/shard-0").glob("*.pack"))
    assert len(paths) > 3
    for path in (paths[0], paths[1], tmp_path / "cold/ensemble.json"):
        data = path.read_bytes()
        for byte in range(0, len(data), 1 if path.suffix == ".json" else 7):
            path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x40]) + data[byte + 1 :])
            findings = audit_log(str(tmp_path / "cold")).findings
            assert [finding for finding in findings if finding.file == str(path)], (path, byte)
        with pytest.raises(LogCorrupt, match=path.name):
            list(read_log(str(tmp_path / "cold")).frames())
        path.write_bytes(data)
    paths[1].unlink()
    [finding] = audit_log(str(tmp_path / "cold")).findings
    assert "it does not follow frame" in finding.wrong
    with pytest.raises(LogCorrupt, match="it does not follow frame"):
        read_log(str(tmp_path / "cold")).end()


@pytest.mark.parametrize("kind", ["", "objects:"])
def test_an_archive_without_its_manifest_is_damaged_and_not_a_place_to_choose(kept: Trimmed, tmp_path: Path, kind: str) -> None:
    cold = f"{kind}{tmp_path}/cold"
    kept.trim(ruled(cold))
    (tmp_path / "cold/blobs").mkdir()
    (tmp_path / "cold/ensemble.json").unlink()

    kept.say(30)
    kept.save()
    packing = kept.log.packing()
    assert packing is not None
    with pytest.raises(LogCorrupt, match=r"cold/ensemble.json: byte 0: the manifest is missing; restore this "):
        Archive(cold, kept.log, 1).keep(packing, kept.log.end().seq)
    if not kind:
        assert "the manifest is missing" in audit_log(cold).findings[0].wrong


def test_a_folder_where_a_pack_should_be_is_told_by_its_path(kept: Trimmed, tmp_path: Path) -> None:
    kept.trim(ruled(tmp_path / "cold"))
    for store in (kept.folder, tmp_path / "cold"):
        path = sorted((store / "shard-0").glob("*.pack"))[0]
        path.rename(path.with_name("kept"))
        path.mkdir()
        for look in (audit_log, lambda url: list(read_log(url).frames())):
            with pytest.raises(Unavailable, match=f"{path}: byte 0 can't be read: .*; a folder is where a file should be"):
                look(str(store))
        path.rmdir()
        path.with_name("kept").rename(path)


def test_what_is_rehearsed_is_not_archived(kept: Trimmed, tmp_path: Path) -> None:
    from ensemble.broker.needs import Needs
    from ensemble.log.retention import Retention

    packing = kept.log.packing()
    assert packing is not None
    for packed in Retention(kept.log, ruled(tmp_path / "cold"), is_rehearsal=True).pack(
        Needs(kept.log.end().offset, []), kept.now_us
    ):
        assert packed.removals[0].rule.endswith(f", archived in {tmp_path / 'cold'}")
        packing.drop(packed)

    assert not (tmp_path / "cold").exists()
