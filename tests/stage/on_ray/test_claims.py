"""Large data goes to an instance by its name; it gets it from the store where it can, else from the shard."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from ensemble.broker import Batch
from ensemble.errors import LogCorrupt, Unavailable
from ensemble.event import Event, Frame, Match, Rows, encode
from ensemble.log import open_log
from ensemble.log.blobs import Claim, Claimed
from ensemble.player import Work
from ensemble.stage.on_ray.claims import Claims, bring, is_elsewhere
from ensemble.stage.on_ray.peers import Peers
from ensemble.stage.on_ray.wire import Shared, pack_frame, pack_work, shared, unpack_frame, unpack_work
from ensemble.stage.tape import Tape

LARGE = encode("x" * 5_000)
DIGEST = sha256(LARGE).digest()


class Shard(Peers):
    """A shard that is asked: it has what it is said to have."""

    def __init__(self, *has: bytes) -> None:
        super().__init__(["shard"], 0)
        self.has = has
        self.asked: list[tuple[Any, ...]] = []

    def ask(self, number: int, verb: str, *given: Any) -> Any:
        self.asked.append((number, verb, *given))
        if not self.has:
            raise LogCorrupt("this data is missing")
        return self.has[given[1]]


def claims(url: str, *shard_has: bytes) -> tuple[Claims, Shard]:
    made, shard = Claims(url, ["shard"]), Shard(*shard_has)
    made._peers = shard
    return made, shard


def lay(store: Path, data: bytes) -> None:
    """Put data where that with the digest is to lie."""
    path = store / "blobs" / DIGEST.hex()[:2] / DIGEST.hex()
    path.parent.mkdir(parents=True)
    path.write_bytes(data)


def claim(key_id: bytes = b"", offset: int = 0) -> Claim:
    return Claim(DIGEST, len(LARGE), key_id, offset)


@pytest.mark.parametrize("kind", ["directory", "objects"])
def test_it_comes_from_the_store_and_the_shard_is_not_asked(kind: str, tmp_path: Path) -> None:
    url = str(tmp_path) if kind == "directory" else f"objects:{tmp_path}/o"
    log = open_log(url, name="band", blob_above=1_000)
    log.append([log.seal(Frame(0, 1, Rows("log", 0, 0, 1, ["came"], 0, ["k"], [LARGE], ["/a"], 0), {}))])
    log.close()
    got, shard = claims(url)

    assert [got.of(0)(claim()) for _ in range(2)] == [LARGE] * 2
    assert not shard.asked


@pytest.mark.parametrize("url", ["memory:", "nowhere", "objects:nowhere", "s3://nobody/knows"])
def test_where_the_store_can_not_be_reached_the_shard_is_asked_by_the_offset(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    if url.startswith("s3"):
        monkeypatch.setattr("ensemble.stage.on_ray.claims.blobs_at", refused)
    got, shard = claims(url, b"", b"", LARGE)

    assert [got.of(0)(claim(offset=2)) for _ in range(3)] == [LARGE] * 3
    assert shard.asked == [(0, "data", "", 2)], "what was got last is at hand"


def refused(url: str, shard: int) -> None:
    raise Unavailable("no credentials were found")


def test_what_lies_there_under_its_name_and_is_not_it_is_not_taken(tmp_path: Path) -> None:
    lay(tmp_path, b"another")
    got, shard = claims(str(tmp_path), LARGE)

    assert got.of(0)(claim()) == LARGE
    assert shard.asked == [(0, "data", "", 0)]


def test_what_is_encrypted_the_shard_opens_whenever_it_is_looked_at(tmp_path: Path) -> None:
    lay(tmp_path, LARGE)
    plain = encode("plain")
    got, shard = claims(str(tmp_path), plain)

    assert [got.of(0)(claim(b"key")) for _ in range(2)] == [plain] * 2
    assert shard.asked == [(0, "data", "", 0)] * 2, "it may be forgotten in between"


def test_what_the_shard_gives_is_taken_only_if_it_is_what_was_named() -> None:
    got, _ = claims("memory:", b"another")

    with pytest.raises(LogCorrupt, match="not what was handed out"):
        got.of(0)(claim())


# On the wire


def held(first: int = 4) -> Rows:
    """Four events: the second and the third are large, the third is encrypted too."""
    data = [b"\x01", b"", b"", b"\x04"]
    rows = Rows("log", 0, first, 1, ["came"], 0, list("abcd"), data, ["/a"], 0, extras={3: {"id": "own"}})
    column = {1: Claim(b"B", 9_000, b"", first + 1), 2: Claim(b"C", 9_000, b"key", first + 2)}
    rows.data = Claimed(rows.data, column, untouched)
    return rows


def untouched(claim: Claim) -> bytes:
    raise AssertionError("nobody looked at it")


@pytest.mark.parametrize("offsets", [range(4, 8), range(5, 6), [5, 7], [7, 6]])
@pytest.mark.parametrize("is_shared", [False, True])
def test_a_batch_only_names_what_is_large(offsets: Any, is_shared: bool) -> None:
    rows = held()
    tape = Tape(None)  # type: ignore[arg-type]
    tape.keep(Frame(4, 1, rows, {}), 1)
    events, refs, roots = tape.events(offsets)
    along: list[Shared] = []

    def share(shown: Rows, ixs: Any) -> int | None:
        assert max(map(len, shown.data)) < 10, "what is shared names it too"
        along.append(shared(shown))
        return len(along) - 1 if is_shared else None

    packed = pack_work(Work(Batch("p", offsets, [e.key for e in events], {}, 0), events, refs, roots, {}), share)
    got: list[Claim] = []
    there = unpack_work(packed, along, lambda claim: got.append(claim) or encode(claim.offset))  # type: ignore[func-returns-value]

    assert [event.id for event in there.events] == [event.id for event in events]
    assert not got
    known = {4: 1, 5: 5, 6: 6, 7: 4}
    assert [event.data for event in there.events] == [known[offset] for offset in offsets]
    assert {each.offset: (each.digest, each.size, each.key_id) for each in got} == {
        offset: {5: (b"B", 9_000, b""), 6: (b"C", 9_000, b"key")}[offset] for offset in offsets if offset in (5, 6)
    }
    assert [event._rows.extras for event in there.events if event.offset == 4] in ([], [{3: {"id": "own"}}], [None])


def test_the_parts_of_a_match_are_only_named_too() -> None:
    rows = held()
    parts = [rows.event(1), rows.event(3)]
    match = Rows("log", 0, 8, 1, ["both"], 0, ["a"], [encode({})], ["/m"], 0, extras={0: {"causes": [5, 7], "root": 5}})
    work = Work(Batch("p", [8], ["a"], {}, 0), [Match(match, 0, Event(match, 0)._data, parts)], [8], [5], {})

    [there] = unpack_work(pack_work(work), fetch=lambda claim: encode(claim.offset)).events

    assert isinstance(there, Match)
    assert [part.data for part in there.events] == [5, 4]


def test_a_frame_that_is_read_from_afar_is_the_frame_with_what_went_of_it() -> None:
    before = Frame(4, 9, held(), {"heard": {"p": [4]}}, epoch=3, seq=2, prev=b"p" * 32, removed={"gone": 2, "went": 1})

    there = unpack_frame(pack_frame(before), "log", 0, lambda claim: encode(claim.offset))

    assert (there.removed, there.marks, there.first, there.time_us) == (before.removed, before.marks, 4, 9)
    assert (there.epoch, there.seq, there.prev) == (3, 2, b"p" * 32)
    assert there.rows is not None
    assert [there.rows.event(ix).data for ix in range(4)] == [1, 5, 6, 4]
    assert there.rows.extras == {3: {"id": "own"}}


def test_an_asynchronous_player_has_it_before_it_looks_and_what_can_not_be_had_is_left_to_it() -> None:
    def fetch(claim: Claim) -> bytes:
        if claim.offset == 6:
            raise LogCorrupt("it is missing")
        return encode(claim.offset)

    rows = held()
    rows.data = Claimed(rows.data, rows.data.claims, fetch)  # type: ignore[attr-defined]
    work = Work(Batch("p", range(4, 8), list("abcd"), {}, 0), [rows.event(ix) for ix in range(4)], range(4, 8), range(4, 8), {})
    assert [is_elsewhere(event) for event in work.events] == [False, True, True, False]

    bring(work, [1, 2])

    assert [is_elsewhere(event) for event in work.events] == [False, False, True, False]
    assert (work.events[1].offset, work.events[1].key, work.events[1].data) == (5, "b", 5)
    with pytest.raises(LogCorrupt):
        _ = work.events[2].data
