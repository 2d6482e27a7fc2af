"""What shards are to get together lies in the store, and whoever opens one of them appends its part, once."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import encode
from ensemble.log import open_log, pending
from ensemble.log.base import EventLog
from ensemble.log.objects.log import let_go
from ensemble.log.objects.protocol import Answer, Call, Unknown
from ensemble.log.objects.store import Objects
from ensemble.log.own import own_at
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


@pytest.fixture(params=["", "objects:"], ids=["directory", "objects"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"{request.param}{tmp_path}/store"


def lying(url: str) -> list[Path]:
    """What lies in the store of that."""
    place = Path(url.removeprefix("objects:")) / pending.PENDING
    return list(place.iterdir()) if place.is_dir() else [place] * place.exists()


def test_it_is_in_all_shards_once_however_often_they_are_opened(url: str) -> None:
    logs = opened(url)
    append(logs[0], [1], [2])
    pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    close(logs)

    for _ in range(2):
        logs = opened(url)
        assert [log.end().seq for log in logs] == [3, 1]
        assert lying(url)
        close(logs)
    logs = opened(url)
    pending.clear(own_at(url).board(), logs)
    pending.clear(own_at(url).board(), logs)
    assert not lying(url)
    close(logs)


def test_what_a_shard_has_not_yet_stays(url: str) -> None:
    logs = opened(url)
    pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    append(logs[0], [1])

    pending.clear(own_at(url).board(), logs)

    close(logs)
    logs = opened(url)
    assert [log.end().seq for log in logs] == [1, 1]
    close(logs)


def test_a_shard_that_went_on_has_its_part(url: str) -> None:
    logs = opened(url)
    pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    append(logs[0], [1])  # its part, and it plays on
    append(logs[0], [1])
    close(logs)

    logs = opened(url)

    assert [log.end().seq for log in logs] == [2, 1]
    close(logs)


def test_what_is_personal_lies_there_encrypted(url: str, tmp_path: Path) -> None:
    logs = opened(url, is_personal=True)
    said: dict[str, Any] = {"topics": ["said"], "data": [encode({"who": "ella", "name": "SECRET"})]}
    pending.decide(own_at(url).board(), logs, [[frame(log.end(), **said)] for log in logs])
    close(logs)

    assert not [path for path in tmp_path.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]
    for log in opened(url, is_personal=True):
        with closing(log):
            [read] = log.frames()
            assert read.rows is not None
            assert read.rows.event(0).data["name"] == "SECRET"


@pytest.mark.parametrize("data", [b"", b"\x92\x07\x90"], ids=["nothing", "another format"])
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
        pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    with pytest.raises(Unavailable, match="can't be read"):
        pending.clear(own_at(url).board(), logs)
    close(logs)
    with pytest.raises(Unavailable, match="can't be read"):
        opened(url)


def test_who_lost_the_lock_of_a_shard_decides_nothing(tmp_path: Path) -> None:
    url = str(tmp_path / "store")
    logs = opened(url)
    (tmp_path / "store/generation-0/1/lock").unlink()
    other = open_log(url, name="band", shard=1, shards=2)

    with pytest.raises(Unavailable, match="it was taken over by another writer"):
        pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])

    assert not lying(url)
    close([other, *logs])


# In an object store, where somebody may take a shard over at any moment


def break_in(monkeypatch: pytest.MonkeyPatch, at: int, meanwhile: Callable[[], None]) -> None:
    """Before the call number `at` of the protocol this happens, once. Calls of threads beside it count not."""
    call, left, ours = Objects.call, at, threading.get_ident()

    def late(self: Objects, what: Call) -> Answer:
        nonlocal left
        left -= threading.get_ident() == ours
        if left == -1 and threading.get_ident() == ours:
            meanwhile()
        return call(self, what)

    monkeypatch.setattr(Objects, "call", late)


@pytest.mark.parametrize("says", [False, True], ids=["and has said nothing", "and plays on"])
@pytest.mark.parametrize("shard", [0, 1])
def test_whenever_a_shard_is_taken_over_meanwhile_all_get_it_or_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shard: int, says: bool
) -> None:
    came = set()
    for at in count():
        url = f"objects:{tmp_path}/store-{at}"
        logs, told = opened(url), ""
        other: list[EventLog] = []

        def take_over(url: str = url, other: list[EventLog] = other) -> None:
            let_go(f"{url}/generation-0/{shard}")  # as of another process
            other.append(open_log(url, name="band", shard=shard, shards=2))
            if says:
                append(other[0], [1])

        with monkeypatch.context() as patch:
            break_in(patch, at, take_over)
            try:
                pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
            except Unavailable as error:
                told = str(error)
        close([*other, *logs])
        logs = opened(url)

        has = [log.end().seq - (says and bool(other) and log.shard == shard) for log in logs]
        assert has == ([0, 0] if told else [1, 1])
        assert not told or "was opened by somebody else meanwhile, and nothing was changed" in told
        came.add(told.partition(f"{at}: ")[2].partition(" was opened")[0] if other else "nobody came")
        close(logs)
        if not other:
            break

    assert came == {"one of its shards", f"its shard {shard}", "nobody came"}


@pytest.mark.parametrize("is_lost", [False, True], ids=["it never came to be", "its answer was lost"])
def test_what_is_not_known_to_be_decided_is_said_and_decided_by_who_opens_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_lost: bool
) -> None:
    url = f"objects:{tmp_path}/store"
    logs = opened(url)
    call = Objects.call

    def silent(self: Objects, what: Call) -> Answer:
        if what.name.kind != "decision":
            return call(self, what)
        if is_lost:
            call(self, what)
        return Unknown()

    with monkeypatch.context() as patch:
        patch.setattr(Objects, "call", silent)
        patch.setattr(Objects, "wait", lambda self, trial: None)
        with pytest.raises(Unavailable, match=r"gave no answer 4 times.*; whether the shards get it is not known now"):
            pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    close(logs)

    logs = opened(url)
    assert [log.end().seq for log in logs] == [int(is_lost)] * 2
    close(logs)


def test_a_decision_that_is_none_is_said(tmp_path: Path) -> None:
    url = f"objects:{tmp_path}/store"
    logs = opened(url)
    pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    close(logs)
    [decided] = (tmp_path / "store/decided").iterdir()
    decided.write_bytes(b"perhaps")

    with pytest.raises(LogCorrupt, match=r"decided/\w+: byte 0: b'perhaps' is no decision; restore this object from a copy"):
        opened(url)


@pytest.mark.parametrize("phase", ["withdraw", "clear"])
def test_a_delete_that_is_refused_hides_nothing_and_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, phase: str
) -> None:
    url = f"objects:{tmp_path}/store"
    logs = opened(url)

    def refused(objects: Objects, call: Call) -> Answer:
        if call.verb == "delete":
            raise Unavailable("no right to delete")
        return real(objects, call)

    real = Objects.call
    monkeypatch.setattr(Objects, "call", refused)
    if phase == "withdraw":
        for shard in range(2):
            let_go(f"{url}/generation-0/{shard}")  # as of another process
        close(opened(url))
        with pytest.raises(Unavailable, match="opened by somebody else"):
            pending.decide(own_at(url).board(), logs, [[frame(log.end())] for log in logs])
    else:
        close(logs)
        (tmp_path / "store" / "pending").mkdir()
        (tmp_path / "store" / "pending" / "undecided").write_bytes(b"\x92\x01\x90")
    close(opened(url))
