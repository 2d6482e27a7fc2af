"""A store in several shards: how many there are, where each lies, and what is refused."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.log import count_shards, division, has_log, open_log, read_log
from ensemble.log.division import Division
from tests.log.log_samples import FULL, Failing, append


def shards_json(**entries: Any) -> bytes:
    check = sha256(json.dumps(entries, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    return json.dumps({**entries, "check": check}).encode()


def test_a_new_store_is_divided_as_it_is_asked_for_and_stays_so(tmp_path: Path) -> None:
    store = tmp_path / "shop"

    for shard in range(3):
        log = open_log(str(store), name="shop", shard=shard, shards=3)
        append(log, [shard + 1])
        log.close()

    assert division.read(store) == Division(3, 0)
    assert count_shards(str(store)) == 3
    assert has_log(str(store))
    assert [(read_log(str(store), shard).shard, read_log(str(store), shard).end().offset) for shard in range(3)] == [
        (0, 1), (1, 2), (2, 3),
    ]  # fmt: skip
    assert sorted(path.name for path in store.iterdir()) == ["generation-0", "shards.json"]


def test_a_store_of_one_shard_says_nothing_of_shards(tmp_path: Path) -> None:
    open_log(str(tmp_path), name="shop").close()

    assert division.read(tmp_path) is None
    assert count_shards(str(tmp_path)) == 1
    assert division.place(tmp_path, 0, 1) == tmp_path
    assert count_shards(str(tmp_path / "not there")) is None


@pytest.mark.parametrize(
    ("there", "asked", "said"),
    [
        (1, 3, "it has one shard, and 3 are asked for; play it with one, or divide it anew: ensemble reshard {store} 3"),
        (
            3,
            1,
            "it has 3 shards, and one is asked for; play it with stage: {{kind: ray, shards: 3}}, or divide it anew: "
            "ensemble reshard {store} 1",
        ),
        (
            3,
            2,
            "it has 3 shards, and 2 are asked for; play it with stage: {{kind: ray, shards: 3}}, or divide it anew: "
            "ensemble reshard {store} 2",
        ),
    ],
)
def test_another_number_of_shards_is_refused_with_what_to_do(tmp_path: Path, there: int, asked: int, said: str) -> None:
    open_log(str(tmp_path), name="shop", shards=there).close()

    with pytest.raises(Unavailable) as refused:
        open_log(str(tmp_path), name="shop", shards=asked)

    assert str(refused.value) == f"store {tmp_path}: {said.format(store=tmp_path)}"


DAMAGED = [b"", b"{", b"[]", b"{}", b"null", b'{"format": 1, "shards": 2, "generation": 0, "check": "x"}']


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_file_stops_all_who_ask(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "shards.json").write_bytes(data)

    store = str(tmp_path)

    for ask in (lambda: division.read(tmp_path), lambda: count_shards(store), lambda: open_log(store, name="x")):
        with pytest.raises(LogCorrupt) as refused:
            ask()
        assert str(refused.value) == (
            f"{tmp_path / 'shards.json'}: byte 0: it was changed or damaged; restore this file from a copy of the store"
        )


def test_a_newer_format_is_refused_with_both_numbers(tmp_path: Path) -> None:
    (tmp_path / "shards.json").write_bytes(shards_json(format=2, shards=2, generation=0))

    with pytest.raises(Unavailable) as refused:
        division.read(tmp_path)

    assert str(refused.value) == (
        f"store {tmp_path}: it is divided by format 2, this version of Ensemble knows 1; use the version of Ensemble that "
        "wrote it, or a newer one"
    )


def test_a_file_that_cannot_be_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "shards.json").mkdir()

    with pytest.raises(Unavailable, match=r"shards\.json: can't be read: Is a directory"):
        division.read(tmp_path)


def test_a_folder_with_other_things_is_not_divided(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("x")

    with pytest.raises(Unavailable) as refused:
        open_log(str(tmp_path), name="shop", shards=2)

    assert str(refused.value) == (
        f"store {tmp_path}: this folder has other things in it (thesis.tex) and is no Ensemble store; choose an empty or a new "
        "folder"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_file_in_the_place_of_the_folder_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("x")

    with pytest.raises(Unavailable, match=r"store .*shop: can't be looked at"):
        division.place(tmp_path / "shop", 0, 2)


def test_a_full_disk_leaves_the_store_as_it_was_divided(tmp_path: Path) -> None:
    division.write(tmp_path, Division(2, 0))

    for step in range(1, 6):
        with pytest.raises(Unavailable, match=f"store {tmp_path}: can't be divided: No space left on device; the disk is full"):
            division.write(tmp_path, Division(3, 1), Failing(step, FULL))
        left = division.read(tmp_path)
        assert left == Division(2, 0) or step > 4  # the folder's entry may not be synced; the file is there whole


def test_a_log_that_was_divided_anew_on_the_way_to_its_lock_is_not_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_log(str(tmp_path), name="shop").close()
    places = iter([tmp_path, tmp_path / "generation-1/0"])
    monkeypatch.setattr(division, "place", lambda store, shard, shards: next(places))

    with pytest.raises(Unavailable, match="it was divided anew just now; open it again"):
        open_log(str(tmp_path), name="shop")

    monkeypatch.undo()
    open_log(str(tmp_path), name="shop").close()  # it was let go of
