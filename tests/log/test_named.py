"""Events that have the ids of another log, one after the other: told in one line, and read as if each had its own."""

from __future__ import annotations

from typing import Any

import msgpack  # type: ignore[import-untyped]
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ensemble.errors import LogCorrupt
from ensemble.event import Frame, Named, Rows
from ensemble.log.frame import decode, encode
from ensemble.log.own import Terms, open_own
from ensemble.log.remnant import decode_remnant, encode_remnant
from tests.log.log_samples import frame, rows

MOST = 6
odd = st.dictionaries(
    st.integers(0, MOST - 1),
    st.fixed_dictionaries(
        {"time_us": st.just(7)}, optional={"id": st.just("own"), "as": st.just("was-3"), "born": st.just("b-1")}
    ),
)
named = st.builds(
    lambda first, own, more: Named("was", first, MOST, own, more), st.integers(0, 99), st.sets(st.integers(0, MOST - 1)), odd
)


def both(extras: Named) -> tuple[Rows, Rows]:
    """The same rows, by the run and by the row."""
    one = msgspec.structs.replace(rows(MOST, 40, extras=extras), log_id="now")
    return one, msgspec.structs.replace(one, extras=dict(extras.items()))


@given(named, st.integers(0, MOST - 1), st.integers(1, MOST))
def test_a_run_of_ids_reads_as_if_each_row_had_its_own(extras: Named, lo: int, hi: int) -> None:
    run, each = both(extras)

    for ask in (
        lambda rows: rows.ids(),
        lambda rows: [rows.ref(ix) for ix in range(MOST)],
        lambda rows: [rows.root(ix) for ix in range(MOST)],
        lambda rows: [rows.born(ix) for ix in range(MOST)],
        lambda rows: [rows.extra(ix, "time_us") for ix in range(MOST)],
        lambda rows: list(rows.refs(min(lo, hi), hi)),
        lambda rows: rows.between(min(lo, hi), hi).ids(),
        lambda rows: rows.pick([0, MOST - 1]).id(1),
    ):
        assert ask(run) == ask(each)
    assert (len(extras), list(extras)) == (len(each.extras or ()), list(each.extras or ()))
    assert all((ix in extras) == (ix in (each.extras or ())) for ix in range(-1, MOST + 1))


@given(named)
def test_it_is_kept_as_a_run_and_read_back(extras: Named) -> None:
    run, each = both(extras)

    back = decode(encode(Frame(40, 1, run, {"m": 1})), "now")

    assert back.rows is not None
    assert type(back.rows.extras) is Named
    assert (dict(back.rows.extras), back.marks) == (each.extras or {}, {"m": 1})
    assert encode(back) == encode(Frame(40, 1, run, {"m": 1}))


def test_it_takes_next_to_nothing() -> None:
    plain, run = rows(1000, 0), rows(1000, 0, extras=Named("was", 0, 1000, [3, 500]))

    assert len(encode(Frame(0, 1, run, {}))) - len(encode(Frame(0, 1, plain, {}))) < 30


def test_what_is_left_of_such_a_frame_keeps_its_ids() -> None:
    run, _ = both(Named("was", 7, MOST, [2]))

    left = decode_remnant(encode_remnant(Frame(40, 1, run, {}), bytes(32), [1, 2], has_marks=False), "now", 0)

    assert left.rows is not None
    assert [left.rows.id(1), left.rows.id(2)] == ["was-8", "now-42"]


def test_data_that_lies_beside_the_log_leaves_ids_as_they_are() -> None:
    log = open_own("memory:", Terms("band", blob_above=10))
    made = frame(log.end(), 3, data=[b"\xc0", b"\xc4\x14" + bytes(20), b"\xc0"], extras=Named("was", 5, 3))
    log.append([log.seal(made)])

    [read] = log.frames()

    assert read.rows is not None
    assert (read.rows.ids(), read.rows.data[1]) == (["was-5", "was-6", "was-7"], b"\xc4\x14" + bytes(20))
    log.close()


@pytest.mark.parametrize("mark", [3, ["was"], ["was", "x", []], ["was", 1, 5]])
def test_a_mark_that_is_none_is_damage(mark: Any) -> None:
    with pytest.raises(LogCorrupt, match="it is not written as a frame is"):
        decode(encode(Frame(0, 1, rows(2, 0), {"ids": mark})), "now")


def test_any_reader_finds_the_mark() -> None:
    unpacker = msgpack.Unpacker(strict_map_key=False)
    unpacker.feed(encode(Frame(0, 1, rows(2, 0, extras=Named("was", 5, 2, [1], {0: {"time_us": 3}})), {})))

    [read] = unpacker

    assert read[8][8] == {0: {"time_us": 3}}
    assert read[9] == {"ids": ["was", 5, [1]]}
