"""The key ring: durable before it is used, gone for good once destroyed, whatever dies and whenever."""

from __future__ import annotations

import contextlib
import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from obstore.store import MemoryStore

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log.forgetting.cipher import Key, decrypt, encrypt
from ensemble.log.forgetting.object_ring import ObjectRing
from ensemble.log.forgetting.ring import HEAD, FileRing, MemoryRing, Ring
from ensemble.log.objects.store import Objects
from ensemble.score.personal import Rule
from tests.conformance.stand import returns_before
from tests.log.log_samples import Failing, Plug, Quick

WHOLE = Rule(None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.ring"


def writer(path: Path, files: Quick | None = None) -> FileRing:
    return FileRing(path, files or Quick(), is_writer=True)


def made(ring: Ring, *subjects: str) -> list[Key]:
    keys = [ring.key_for(subject) for subject in subjects]
    ring.sync()
    return keys


def opens(ring: Ring, key: Key) -> bool:
    """Whether what this key encrypted can be read by the ring; False: it is forgotten."""
    found = ring.find(key.id)
    if found is None:
        return False
    assert decrypt(encrypt(b"\xa1x", "x", WHOLE, key), found) == b"\xa1x"
    return True


def test_a_subject_has_one_key_and_it_is_there_again(path: Path) -> None:
    ring = writer(path)
    [ella, miles] = made(ring, "ella", "miles")

    assert ring.key_for("ella") is ella and ella.id != miles.id
    again = writer(path)
    assert again.key_for("ella").id == ella.id
    assert opens(again, ella) and opens(FileRing(path), miles)
    assert again.subjects() == ["ella", "miles"]


def test_only_its_user_may_read_it(path: Path) -> None:
    writer(path)

    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("make", [lambda path: MemoryRing(), writer], ids=["memory", "file"])
def test_what_was_destroyed_is_gone_and_a_later_key_is_another(path: Path, make: Callable[[Path], Ring]) -> None:
    ring = make(path)
    [ella, miles] = made(ring, "ella", "miles")

    assert ring.destroy("ella") == 1
    [later] = made(ring, "ella")

    assert not opens(ring, ella) and opens(ring, miles) and opens(ring, later)
    assert ring.destroy("ella") == 1 and ring.destroy("ella") == 0
    assert ring.subjects() == ["miles"]


def test_nothing_of_a_destroyed_key_is_in_the_file_not_even_whose_it_was(path: Path) -> None:
    ring = writer(path)
    made(ring, "ella", "miles")
    before = path.read_bytes()
    key = before[HEAD.size - 32 : HEAD.size]

    ring.destroy("ella")

    after = path.read_bytes()
    assert key in before and key not in after
    assert b"ella" in before and b"ella" not in after and b"miles" in after
    assert not opens(writer(path), Key(before[12:28], "ella", ring.key_for("miles").cipher))


def test_who_reads_sees_at_once_what_its_writer_does(path: Path) -> None:
    ring = writer(path)
    reader = FileRing(path)
    [ella] = made(ring, "ella")
    assert opens(reader, ella)

    ring.destroy("ella")
    reader.refresh()

    assert not opens(reader, ella)


def test_a_key_that_nobody_destroyed_and_that_is_not_there_is_damage(path: Path) -> None:
    ring = writer(path)
    [ella] = made(ring, "ella")
    path.unlink()

    with pytest.raises(LogCorrupt, match="nobody destroyed it; restore the key ring"):
        writer(path).find(ella.id)


def test_every_byte_that_is_changed_is_told_or_costs_the_last_key_which_is_then_missed(path: Path) -> None:
    ring = writer(path)
    keys = made(ring, "ella", "miles", "nina")
    ring.destroy("miles")
    data = path.read_bytes()
    lost = keys[1]
    for byte in range(len(data)):
        path.write_bytes(data[:byte] + bytes([data[byte] ^ 0x04]) + data[byte + 1 :])
        try:
            found = FileRing(path)
            read = [opens(found, key) for key in keys if key is not lost]
        except LogCorrupt:
            continue
        assert all(read), "never taken for forgotten"


def test_every_torn_end_is_cut_and_the_keys_before_it_are_there(path: Path) -> None:
    ring = writer(path)
    [ella] = made(ring, "ella")
    whole = len(path.read_bytes())
    made(ring, "miles")
    data = path.read_bytes()
    for size in range(whole, len(data)):
        path.write_bytes(data[:size])
        assert opens(FileRing(path), ella)
        again = writer(path)
        assert again.subjects() == ["ella"]
        [nina] = made(again, "nina")
        assert opens(writer(path), nina)


@pytest.mark.parametrize("error", [None, errno.ENOSPC, errno.EIO], ids=["plug", "full", "broken"])
def test_whatever_dies_and_whenever_a_key_is_there_whole_or_gone_for_good(tmp_path: Path, error: int | None) -> None:
    came = set()
    fails_at = 0
    is_done = False
    while not is_done:
        fails_at += 1
        path = tmp_path / f"{fails_at}.ring"
        ring = writer(path)
        [ella, miles] = made(ring, "ella", "miles")
        key = path.read_bytes()[HEAD.size - 32 : HEAD.size]
        disk = Failing(fails_at, error)
        dying = FileRing(path, disk, is_writer=True) if fails_at > 0 else ring
        try:
            dying.destroy("ella")
            is_done = True
        except (Plug, Unavailable):
            pass

        again = writer(path)
        is_there = opens(again, ella)
        came.add(is_there)
        assert opens(again, miles)
        assert is_there or key not in path.read_bytes(), "what was left to do is done at the next opening"
        assert not (is_done and is_there)
        assert is_there == ("ella" in again.subjects())
    assert came == {True, False} and fails_at > 4


@pytest.mark.parametrize("error", [None, errno.ENOSPC], ids=["plug", "full"])
def test_whatever_dies_while_a_key_is_made_the_others_are_there(tmp_path: Path, error: int | None) -> None:
    for fails_at in range(1, 4):
        path = tmp_path / f"{fails_at}.ring"
        [ella] = made(writer(path), "ella")
        dying = FileRing(path, Failing(fails_at, error), is_writer=True)
        with contextlib.suppress(Plug, Unavailable):
            made(dying, "miles")

        assert opens(writer(path), ella)


# In an object store


def in_objects(kept: Any, now_s: Callable[[], float] = lambda: 0.0, *, is_writer: bool = False) -> ObjectRing:
    objects = Objects(kept, "s3://bucket/shop", pause=lambda seconds: None)
    return ObjectRing(objects, "log", is_writer=is_writer, now_s=now_s)


def kept_keys(kept: Any) -> list[str]:
    return Objects(kept, "s3://bucket/shop").list("keys/of")


def test_keys_are_objects_and_an_opening_reads_none_of_them() -> None:
    kept = MemoryStore()
    [ella, miles] = made(in_objects(kept, is_writer=True), "ella", "miles")
    objects = Objects(kept, "s3://bucket/shop")

    ring = ObjectRing(objects, "log", is_writer=True)
    assert dict(objects.requests) == {"put": 1, "get": 1}
    assert ring.knows("ella") and not ring.knows("nina")
    assert opens(ring, ella) and opens(in_objects(kept), miles)
    [later] = made(ring, "nina")
    assert len(kept_keys(kept)) == 3 and opens(in_objects(kept), later)


def test_all_keys_that_a_subject_ever_had_are_deleted_and_nothing_says_whose_they_were() -> None:
    kept = MemoryStore()
    keys = [key for _ in range(3) for key in made(in_objects(kept, is_writer=True), "ella", "miles")]

    assert in_objects(kept, is_writer=True).destroy("ella") == 3

    assert len(kept_keys(kept)) == 3
    assert [opens(in_objects(kept), key) for key in keys] == [False, True] * 3
    assert not in_objects(kept, is_writer=True).knows("ella")


def test_a_reader_looks_every_few_seconds_whether_somebody_was_forgotten() -> None:
    kept, now = MemoryStore(), [100.0]
    ring = in_objects(kept, is_writer=True)
    [ella] = made(ring, "ella")
    reader = in_objects(kept, lambda: now[0])
    assert opens(reader, ella)
    reader.refresh()

    ring.destroy("ella")
    reader.refresh()
    assert opens(reader, ella)
    now[0] += 5
    reader.refresh()
    assert not opens(reader, ella)


def test_whatever_request_a_forgetting_writer_dies_at_somebody_is_forgotten_or_not() -> None:
    came = set()
    for dies_at in range(1, 40):
        kept = MemoryStore()
        keys = made(in_objects(kept, is_writer=True), "ella", "miles")
        ring = in_objects(kept, is_writer=True)
        keys += made(ring, "ella")
        objects, calls = ring._objects, [0]

        def patiently(attempt: Callable[[], Any], objects: Any = objects, calls: Any = calls, dies_at: int = dies_at) -> Any:
            calls[0] += 1
            if calls[0] == dies_at:
                raise Plug
            return Objects.patiently(objects, attempt)

        objects.patiently = patiently  # type: ignore[method-assign]
        try:
            ring.destroy("ella")
            is_done = True
        except Plug:
            is_done = False

        again = in_objects(kept, is_writer=True)
        there = [opens(again, key) for key in keys]
        assert there in ([True, True, True], [False, True, False])
        came.add(there[0])
        if not there[0]:
            assert len(kept_keys(kept)) == 1, "what was left to delete is deleted at the next opening"
        if is_done:
            break
    assert came == {True, False} and is_done and not there[0]


def test_two_that_forget_at_once_lose_neither() -> None:
    kept = MemoryStore()
    one, other = in_objects(kept, is_writer=True), in_objects(kept, is_writer=True)
    [ella, miles] = made(one, "ella", "miles")

    one.destroy("ella")
    other.destroy("miles")

    assert [opens(in_objects(kept), key) for key in (ella, miles)] == [False, False]


def test_who_makes_a_key_or_finds_one_does_not_wait_for_the_store_to_keep_another() -> None:
    kept = MemoryStore()
    ring = in_objects(kept, is_writer=True)
    [ella] = made(ring, "ella")
    create, began, goes_on = ring._objects.create, threading.Event(), threading.Event()

    def slowly(path: str, data: bytes) -> None:
        began.set()
        assert goes_on.wait(20)
        create(path, data)

    ring._objects.create = slowly  # type: ignore[method-assign]
    ring.key_for("miles")
    keeping = threading.Thread(target=ring.sync)
    keeping.start()
    assert began.wait(20)
    found: list[Key | None] = []
    is_back = returns_before(lambda: found.extend([ring.key_for("nina"), ring.find(ella.id)]), goes_on)
    keeping.join(20)

    assert is_back
    assert found[1] is ella
    ring.sync()
    assert found[0] is not None and opens(in_objects(kept), found[0])
    assert len(kept_keys(kept)) == 3


def test_a_key_that_is_damaged_or_lost_is_told_and_not_taken_for_forgotten() -> None:
    kept = MemoryStore()
    [ella] = made(in_objects(kept, is_writer=True), "ella")
    [path] = kept_keys(kept)
    objects = Objects(kept, "s3://bucket/shop")
    data = objects.get(path)
    objects.put(path, data[:-1] + b"b")
    with pytest.raises(LogCorrupt, match="this key is damaged"):
        in_objects(kept).find(ella.id)
    objects.delete(path)
    with pytest.raises(LogCorrupt, match="nobody destroyed it"):
        in_objects(kept).find(ella.id)
