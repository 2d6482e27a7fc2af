"""Logs of each format, kept as bytes: what can no longer be read, or is written otherwise, is noticed here."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from ensemble.errors import OffsetError
from ensemble.log import open_log, read_log
from tests.log.golden.golden_logs import HERE, PACKED, build, build_packed
from tests.log.log_samples import append, contents, flat

GOLDEN = Path(__file__).parent / "golden"


PARTS = sorted(path.relative_to(HERE) for path in HERE.rglob("*") if path.suffix in (".seg", ".snap") or path.name == "epoch")


def test_the_same_history_gives_the_same_bytes(tmp_path: Path) -> None:
    build(tmp_path)

    assert sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.suffix in (".seg", ".snap")) == [
        path for path in PARTS if path.name != "epoch"
    ]
    assert len(PARTS) == 4
    for part in PARTS:
        assert (tmp_path / part).read_bytes() == (HERE / part).read_bytes(), part


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("format-?")), ids=lambda path: path.name)
def test_a_log_of_each_format_is_read_and_gone_on_with(golden: Path, tmp_path: Path) -> None:
    shutil.copytree(golden, tmp_path / "store")
    build(tmp_path / "now")
    told = contents(read_log(str(tmp_path / "now")))

    reader = read_log(str(tmp_path / "store"))
    assert (reader.id, reader.name) == ("k3vm2p9qxw7d", "golden")
    assert contents(reader) == told
    log = open_log(str(tmp_path / "store"), name="band")
    assert list(log.notes) == []
    found = log.snapshot()
    assert found is not None
    assert (found.at.seq, found.state) == (6, b"the broker's state")
    more = append(log, [2])
    log.close()
    assert contents(open_log(str(tmp_path / "store"), name="band")) == told + flat(more)


def test_a_log_with_packs_is_read_as_it_was_written(tmp_path: Path) -> None:
    shutil.copytree(PACKED, tmp_path / "store")
    build_packed(tmp_path / "whole", is_done=False)
    told = contents(read_log(str(tmp_path / "whole")))

    for log in (read_log(str(tmp_path / "store")), open_log(str(tmp_path / "store"), name="band")):
        found = contents(log)
        base = log.base()
        assert base is not None
        assert (base.state, base.at) == (b"the state there", log.begin())
        assert log.begin().seq == 3
        half, *rest = found[:3], *found[3:]
        assert rest == told[6:]
        for kept, was in zip(half, told[3:6], strict=True):
            assert kept["events"][0][:3] == ("_band.removed", "", b"\xc0")
            assert kept["events"][1] == was["events"][1]
            assert kept["marks"] == was["marks"]
        kept_of_past = log.frame_at(1).rows
        assert kept_of_past is not None
        assert (kept_of_past.topic(1), kept_of_past.keys[1]) == ("b", "l")
        with pytest.raises(OffsetError, match=r"retention took it: retain: \{time: 1d\} on 2023-11-14T22:13:20Z"):
            log.frame_at(0)
