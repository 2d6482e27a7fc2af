"""The frame's bytes: as docs/log-format.md says, there and back, and what is refused."""

from __future__ import annotations

import struct
import zlib
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from ensemble.errors import LogCorrupt
from ensemble.event import Frame, Rows
from ensemble.log import frame as frames
from ensemble.log.base import genesis
from ensemble.log.frame import check, decode, encode, peek
from ensemble.log.group import encode_record, peek_record
from tests.effort import some
from tests.log.log_samples import plain, rows

# The header, byte by byte


def test_the_header_stands_where_the_format_says(tmp_path: Path) -> None:
    prev = bytes(range(32))
    data = encode(Frame(7, 1_700_000_000_000_000, rows(2, 7), {"m": 1}, epoch=3, seq=5, prev=prev))

    assert data[:2] == b"\x9a\xce"
    assert struct.unpack_from(">I", data, 2) == (len(data),)
    assert struct.unpack_from(">I", data, 7) == (zlib.crc32(data[11:]),)
    assert [data[place] for place in (6, 11, 20, 29, 38, 43)] == [0xCE, 0xCF, 0xCF, 0xCF, 0xCE, 0xCF]
    assert struct.unpack_from(">QxQxQxIxQ", data, 12) == (3, 5, 7, 2, 1_700_000_000_000_000)
    assert data[52:54] == b"\xc4\x20"
    assert data[54:86] == prev


def test_any_messagepack_reader_can_read_a_frame_and_a_group() -> None:
    one = encode(Frame(7, 9, rows(2, 7, causes=range(3, 5), roots=[0, "x"]), {"m": [1]}, epoch=3, seq=5))
    two = encode(Frame(9, 9, None, {}, epoch=3, seq=6))
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(encode_record([one, two]) + one + two)

    record, first, second = unpacker

    assert record[0] == len(one) + len(two)
    assert record[2:] == [5, 7, 2]
    columns = [["order.placed"], 0, ["o-7", "o-8"], [b"\x81\xa1n\x07", b"\x81\xa1n\x08"], ["/test"], 0, {3: 2}, [0, "x"], None]
    assert first[2:] == [3, 5, 7, 2, 9, bytes(32), columns, {"m": [1]}]
    assert second[2:] == [3, 6, 9, 0, 9, bytes(32), None, {}]


def test_the_first_hash_is_that_of_the_logs_name() -> None:
    assert genesis("k3v", 0) == sha256(b"ensemble/k3v/0").digest()


def test_the_header_is_read_without_the_rest() -> None:
    data = encode(Frame(7, 9, rows(2, 7), {}, epoch=3, seq=5))

    header = peek(b"before" + data[: frames.HEADER_BYTES], 6)

    assert header == (len(data), zlib.crc32(data[11:]), 3, 5, 7, 2, 9, bytes(32))
    assert header.end == 9


# Columns


@pytest.mark.parametrize(
    ("column", "back"),
    [
        (range(5, 8), range(5, 8)),
        (range(5, 11, 2), [5, 7, 9]),
        ([5, 6, 7], [5, 6, 7]),
        ([5, 5, 5], [5, 5, 5]),
        ((4, "x-1", 4), [4, "x-1", 4]),
        (["x-1"] * 3, ["x-1"] * 3),
        (b"\x01\x02\x03", [1, 2, 3]),
    ],
)
def test_references_come_back_and_only_ranges_as_ranges(column: Any, back: Any) -> None:
    held = decode(encode(Frame(9, 9, rows(3, 9, causes=column, roots=column), {})), "log").rows

    assert held is not None
    assert held.causes == held.roots == back
    assert type(held.causes) is type(back)


@pytest.mark.parametrize(
    ("column", "back"), [(1, 1), ([1, 1, 1], 1), ([0, 1, 0], [0, 1, 0]), (range(3), range(3)), ((1, 0, 1), [1, 0, 1])]
)
def test_index_columns_come_back_in_their_shortest_form(column: Any, back: Any) -> None:
    held = decode(encode(Frame(9, 9, rows(3, 9, topics=["a", "b", "c"], topic_ix=column), {})), "log", 4).rows

    assert held is not None
    assert held.topic_ix == back
    assert [held.topic(i) for i in range(3)] == ["abc"[column if column == 1 else column[i]] for i in range(3)]
    assert (held.log_id, held.shard) == ("log", 4)


def test_a_key_that_all_rows_share_is_written_once() -> None:
    apart = encode(Frame(0, 0, rows(100, 0, keys=[f"{i:020d}" for i in range(100)]), {}))
    shared = encode(Frame(0, 0, rows(100, 0, keys=["0" * 20] * 100), {}))

    assert len(apart) - len(shared) > 2000
    held = decode(shared, "log").rows
    assert held is not None
    assert held.keys == ["0" * 20] * 100


def test_rows_without_events_are_a_frame_without_rows() -> None:
    empty = rows(0, 0)

    assert decode(encode(Frame(0, 0, empty, {"m": 1})), "log") == Frame(0, 0, None, {"m": 1})


text = st.text(max_size=5)
refs = st.one_of(st.integers(0, 2**62), text)
numbers = st.integers(0, 2**63 - 1)
scalars = st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(allow_nan=False), text, st.binary())
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.one_of(text, st.integers(0, 99)), inner)),
    max_leaves=6,
)


@st.composite
def random_frames(draw: st.DrawFn) -> Frame:
    n = draw(st.integers(0, 6))
    first = draw(st.integers(0, 2**62))

    def index(size: int) -> Any:
        return draw(st.one_of(st.integers(0, size - 1), st.lists(st.integers(0, size - 1), min_size=n, max_size=n)))

    def references() -> Any:
        start = draw(st.integers(0, 2**40))
        return draw(
            st.one_of(
                st.none(),
                st.just(range(start, start + n)),
                st.lists(refs, min_size=n, max_size=n),
                st.builds(lambda ref: [ref] * n, refs),
            )
        )

    topics, sources = draw(st.lists(text, min_size=1, max_size=3)), draw(st.lists(text, min_size=1, max_size=3))
    extra = st.dictionaries(text, st.one_of(text, st.integers(-(2**62), 2**62)), max_size=2)
    made = Rows(
        "log",
        0,
        first,
        0,
        topics,
        index(len(topics)),
        draw(st.lists(text, min_size=n, max_size=n)),
        draw(st.lists(st.binary(max_size=9), min_size=n, max_size=n)),
        sources,
        index(len(sources)),
        references(),
        references(),
        draw(st.one_of(st.none(), st.dictionaries(st.integers(0, max(n - 1, 0)), extra, max_size=2))),
    )
    marks = draw(st.dictionaries(text, values, max_size=3))
    prev = draw(st.binary(min_size=32, max_size=32))
    return Frame(first, draw(numbers), made if n else None, marks, draw(numbers), draw(numbers), prev)


def assert_comes_back(made: Frame) -> None:
    data = encode(made)
    back = decode(data, "log")
    assert peek(data).length == len(data)
    assert plain(back) == plain(made)
    assert (back.epoch, back.prev, back.end) == (made.epoch, made.prev, made.end)
    assert decode(encode(back), "log") == back


@settings(max_examples=some(300), deadline=None)
@given(random_frames())
def test_any_frame_comes_back_from_its_bytes(made: Frame) -> None:
    assert_comes_back(made)


@pytest.mark.parametrize("bug", ["constant", "run", "keys"])
def test_the_round_trip_fails_when_a_bug_is_planted(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = frames.rows_of
    planted: dict[str, tuple[str, Any]] = {
        "constant": ("_is_constant", lambda column: True),  # takes columns for constant whose ends are alike
        "run": ("_run", lambda column, n: range(next(iter(column)) + 1, next(iter(column)) + 1 + n)),
        "keys": ("rows_of", lambda *given: _reverse_keys(kept(*given))),
    }
    monkeypatch.setattr(frames, *planted[bug])

    @settings(max_examples=500, deadline=None, database=None, phases=[Phase.generate])
    @given(random_frames())
    def holds(made: Frame) -> None:
        assert_comes_back(made)

    with pytest.raises(AssertionError):
        holds()


def _reverse_keys(held: Rows) -> Rows:
    held.keys = held.keys[::-1]
    return held


# What is refused


def test_a_frame_cut_anywhere_or_with_any_bit_flipped_is_refused() -> None:
    data = encode(Frame(7, 9, rows(2, 7), {"m": 1}, epoch=3, seq=5))

    for size in range(len(data)):
        with pytest.raises(LogCorrupt):
            decode(data[:size], "log")
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(LogCorrupt):
            decode(bytes(flipped), "log")


def resealed(columns: Any, marks: Any = None, count: int = 2) -> bytes:
    """A frame with a right checksum and these contents."""
    body = msgspec.msgpack.encode(columns) + msgspec.msgpack.encode({} if marks is None else marks)
    head = bytearray(encode(Frame(0, 0, None, {}))[: frames.HEADER_BYTES])
    struct.pack_into(">I", head, 2, len(head) + len(body))
    struct.pack_into(">I", head, 39, count)
    struct.pack_into(">I", head, 7, zlib.crc32(head[11:] + body))
    return bytes(head) + body


GOOD = [["a", "b"], [0, 1], ["k", "l"], [b"", b""], ["/s"], 0, None, None, None]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, []),
        (1, 2),
        (1, -1),
        (1, [0, 2]),
        (1, [0]),
        (1, {0: 3}),
        (1, {1: 2}),
        (1, {0: 1, 1: 1}),
        (2, ["k"]),
        (3, [b""]),
        (3, ["text", "text"]),
        (5, None),
        (6, [1]),
        (6, {5: 3}),
        (6, {}),
        (7, [1, None]),
        (8, [1]),
    ],
)
def test_contents_that_do_not_fit_are_damage_though_the_checksum_holds(place: int, value: Any) -> None:
    assert decode(resealed(GOOD), "log").count == 2
    wrong = [*GOOD[:place], value, *GOOD[place + 1 :]]

    with pytest.raises(LogCorrupt, match="checksum holds, but it is not written as a frame is"):
        decode(resealed(wrong), "log")


@pytest.mark.parametrize(("columns", "count"), [(None, 1), (GOOD, 3), (GOOD[:-1], 2), ([*GOOD, 1], 2), (GOOD, 0), ("x", 2)])
def test_columns_that_are_not_as_announced_are_damage(columns: Any, count: int) -> None:
    with pytest.raises(LogCorrupt, match="is not written as a frame is"):
        decode(resealed(columns, count=count), "log")


@pytest.mark.parametrize("marks", [[], {1: 2}, 5])
def test_marks_that_are_no_map_of_names_are_damage(marks: Any) -> None:
    with pytest.raises(LogCorrupt, match="is not written as a frame is"):
        decode(resealed(GOOD, marks=marks), "log")


def test_the_length_and_the_checksum_are_named_in_what_is_said_of_a_damaged_frame() -> None:
    data = encode(Frame(7, 9, rows(2, 7), {}))

    with pytest.raises(LogCorrupt, match=f"should have {len(data)} bytes, {len(data) - 1} are there"):
        check(data[:-1])
    with pytest.raises(LogCorrupt, match=r"checksum is [0-9a-f]{8}, it should be [0-9a-f]{8}"):
        check(data[:-1] + b"\x01")
    with pytest.raises(LogCorrupt, match="no frame begins here"):
        peek(b"\x00" * 200)


def test_a_frame_that_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "BYTES_MAX", 200)

    with pytest.raises(ValueError, match="more than the log's format allows"):
        encode(Frame(0, 0, rows(20, 0), {}))


@pytest.mark.parametrize("columns", [{"keys": ["k"]}, {"roots": [1]}, {"topic_ix": [0]}])
def test_columns_of_unequal_length_are_refused(columns: Any) -> None:
    with pytest.raises(ValueError, match="keys, but"):
        encode(Frame(0, 0, rows(2, 0, **columns), {}))


def test_a_record_is_none_if_cut_or_with_any_bit_flipped() -> None:
    data = encode_record([encode(Frame(7, 9, rows(2, 7), {}, seq=5))])
    assert peek_record(data) is not None

    for size in range(len(data)):
        assert peek_record(data[:size]) is None
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        assert peek_record(flipped) is None
