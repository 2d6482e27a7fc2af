"""A glance passes the groups that a close look finds right, and no other: bytes, headers and groups changed at random, most of
them with checksums that fit."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import pytest

from ensemble.log import Position
from ensemble.log.audit import glance as glances
from ensemble.log.audit.glance import glance
from ensemble.log.base import genesis
from ensemble.log.chain import Chain
from ensemble.log.frame import HEADER, peek
from ensemble.log.group import RECORD, RECORD_BYTES, encode_record, peek_record
from ensemble.log.recovery import check_group
from ensemble.log.segment import Damage, Window
from tests.log.log_samples import frame

FIELDS = (0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
"""Of a header, those that are changed: all but the checksum."""

BEGIN = Position(0, 0, genesis("log", 0), 0)


def groups_of(chance: random.Random) -> list[list[bytes]]:
    chain, groups = Chain(BEGIN, 3), []
    for _ in range(chance.randrange(2, 6)):
        if chance.random() < 0.3:
            chain.epoch += 1
        groups.append([chain.seal(frame(chain.at, chance.randrange(4))) for _ in range(chance.randrange(1, 4))])
    return groups


def mended(data: bytes) -> bytes:
    """A frame with a checksum that fits."""
    return data[:7] + crc32(data[11:]).to_bytes(4, "big") + data[11:]


def record_of(first: bytes, group: list[bytes]) -> bytes:
    """The record of a group that says that it begins with this frame, whatever stands in it."""
    known = peek(first)
    head = bytearray(
        RECORD.pack(0x95, 0xCE, sum(map(len, group)), 0xCE, 0, 0xCF, known.seq, 0xCF, known.first, 0xCE, len(group))
    )
    head[7:11] = crc32(head[11:], crc32(head[1:6])).to_bytes(4, "big")
    return bytes(head)


def changed(groups: list[list[bytes]], chance: random.Random) -> bytes:
    """The groups as bytes, something of them changed."""
    firsts = [group[0] for group in groups]
    groups = [list(group) for group in groups]
    group = chance.choice(groups)
    ix = chance.randrange(len(group))
    how = chance.randrange(8)
    if how == 0:
        fields = list(HEADER.unpack_from(group[ix]))
        at = chance.choice(FIELDS)
        value = fields[at]
        most = 255 if at == 17 or value < 256 else 1 << 31
        fields[at] = bytes(32) if at == 17 else max(0, min(value + chance.choice([-9, -1, 1, 2]), most))
        group[ix] = mended(HEADER.pack(*fields) + group[ix][HEADER.size :])
    elif how == 1:
        del group[ix]
    elif how == 2:
        group.insert(ix, group[ix])
    elif how == 3:
        other = chance.choice(groups)
        at = chance.randrange(len(other)) if other else 0
        if other:
            group[ix], other[at] = other[at], group[ix]
    elif how == 4:
        group[ix] = mended(group[ix][:-1] + bytes([group[ix][-1] ^ 1]))
    records = [record_of(first, each) if each else b"" for first, each in zip(firsts, groups, strict=True)]
    if how == 5:
        records[chance.randrange(len(records))] = record_of(firsts[0], groups[0])
    data = b"".join(record + b"".join(each) for record, each in zip(records, groups, strict=True))
    if how == 6:
        byte = chance.randrange(len(data))
        data = data[:byte] + bytes([data[byte] ^ (1 << chance.randrange(8))]) + data[byte + 1 :]
    return data[: chance.randrange(len(data))] if how == 7 else data


def looked_at(path: Path) -> tuple[int, Position, int, list[Position], list[int]]:
    """What a close look finds: how far the groups are right, and all places and ends until there."""
    byte, at, epoch, ends = 0, BEGIN, 0, []
    with Window(path) as window:
        while byte < window.stop:
            try:
                record, at, epoch = check_group(window, byte, at, epoch)
            except Damage:
                break
            byte += RECORD_BYTES + record.length
            ends.append(byte)
    return byte, at, epoch, [at] if byte else [], ends


def agree(folder: Path, seeds: range) -> int:
    """Hold a glance against a close look; how many were stopped."""
    stopped = 0
    path = folder / f"{0:020d}.seg"
    for seed in seeds:
        chance = random.Random(seed)
        groups = groups_of(chance)
        data = changed(groups, chance) if seed % 10 else b"".join(encode_record(group) + b"".join(group) for group in groups)
        path.write_bytes(data)
        passed: list[Position] = []
        ended: list[int] = []

        byte, at, epoch = glance(data, 0, BEGIN, 0, None, range(1 << 20), passed.append, range(1 << 20), ended.append)

        assert (byte, at, epoch, passed[-1:], ended) == looked_at(path), seed
        assert [place.seq for place in passed] == list(range(1, at.seq + 1)), "each place is told, once, and none beyond"
        stopped += byte < len(data)
    return stopped


def test_a_glance_passes_what_a_close_look_finds_right_and_nothing_else(tmp_path: Path) -> None:
    assert agree(tmp_path, range(1_500)) > 700


def test_large_frames_are_passed_and_stopped_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(glances, "LARGE_BYTES", 1)
    assert agree(tmp_path, range(1_500, 2_000)) > 200


def test_it_stops_before_the_frame_with_which_another_segment_begins(tmp_path: Path) -> None:
    groups = groups_of(random.Random(1))
    data = b"".join(encode_record(group) + b"".join(group) for group in groups)
    end = len(groups[0])

    byte, at, _ = glance(data, 0, BEGIN, 0, end, (), passed, (), passed)

    assert (byte, at.seq) == (RECORD_BYTES + sum(map(len, groups[0])), end)


def passed(place: object) -> None:
    raise AssertionError("nobody asked for it")


def no_checksums(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fits:
        def __ne__(self, other: object) -> bool:
            return False

        __hash__ = None  # type: ignore[assignment]

    monkeypatch.setattr(glances, "crc32", lambda data: Fits())


def no_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Same(bytes):
        def __ne__(self, other: object) -> bool:
            return False

        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = None  # type: ignore[assignment]

        def digest(self) -> bytes:
            return self

    monkeypatch.setattr(glances, "sha256", lambda data: Same())


def another_record(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = peek_record

    def peek(data: bytes, at: int) -> object:
        record = whole(data, at)
        return record if record is None else record._replace(frames=max(1, record.frames - 1))

    monkeypatch.setattr(glances, "peek_record", peek)


@pytest.mark.parametrize("bug", [no_checksums, no_hashes, another_record])
def test_the_comparison_fails_when_a_bug_is_planted(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bug(monkeypatch)
    with pytest.raises(AssertionError):
        agree(tmp_path, range(500))
