"""What shards are to get together lies in the store as one file, and whoever opens one of them appends its part, once."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import encode
from ensemble.log import open_log, pending
from ensemble.log.base import EventLog
from ensemble.score import load
from ensemble.score.personal import personal
from ensemble.score.vocabulary import Vocabulary
from tests.log.log_samples import append, frame

DOCUMENT = {
    "ensemble": 1,
    "name": "band",
    "events": {"said": {"personal": {"subject": "who", "fields": ["name"]}}},
}


def opened(url: str, *, is_personal: bool = False) -> list[EventLog]:
    score = load(DOCUMENT)
    rules = personal(score, Vocabulary(score)) if is_personal else None
    return [open_log(url, name="band", shard=shard, shards=2, personal=rules) for shard in range(2)]


def close(logs: list[EventLog]) -> None:
    for log in logs:
        log.close()


def test_it_is_in_all_shards_once_however_often_they_are_opened(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logs = opened(url)
    append(logs[0], [1], [2])
    pending.put(url, logs, [[frame(log.end())] for log in logs])
    close(logs)

    for _ in range(2):
        logs = opened(url)
        assert [log.end().seq for log in logs] == [3, 1]
        close(logs)
    pending.clear(url)
    pending.clear(url)
    assert not (tmp_path / "store" / pending.PENDING).exists()


def test_a_shard_that_went_on_has_its_part(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logs = opened(url)
    pending.put(url, logs, [[frame(log.end())] for log in logs])
    append(logs[0], [1])  # its part, and it plays on
    append(logs[0], [1])
    close(logs)

    logs = opened(url)

    assert [log.end().seq for log in logs] == [2, 1]
    close(logs)


def test_what_is_personal_lies_there_encrypted(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logs = opened(url, is_personal=True)
    said: dict[str, Any] = {"topics": ["said"], "data": [encode({"who": "ella", "name": "SECRET"})]}
    pending.put(url, logs, [[frame(log.end(), **said)] for log in logs])
    close(logs)

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    for log in opened(url, is_personal=True):
        with closing(log):
            [read] = log.frames()
            assert read.rows is not None
            assert read.rows.event(0).data["name"] == "SECRET"


@pytest.mark.parametrize("data", [b"", b"\x92\x07\x90", b"\x92\x01\x90"], ids=["nothing", "another format", "other shards"])
def test_what_can_not_be_read_is_said(tmp_path: Path, data: bytes) -> None:
    url = str(tmp_path / "store")
    close(opened(url))
    (tmp_path / "store" / pending.PENDING).write_bytes(data)

    with pytest.raises(LogCorrupt, match="this should be what the shards are to get, and can't be read"):
        opened(url)


def test_what_can_not_be_written_is_not_so(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logs = opened(url)
    (tmp_path / "store" / pending.PENDING).mkdir()

    with pytest.raises(Unavailable, match="what its shards are to get can't be written"):
        pending.put(url, logs, [[frame(log.end())] for log in logs])
    with pytest.raises(Unavailable, match="can't be removed"):
        pending.clear(url)
    close(logs)
    with pytest.raises(Unavailable, match="can't be read"):
        opened(url)
