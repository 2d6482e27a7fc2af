"""Data that can be encoded but not decoded: it is refused, and where a log has some, only its own event suffers."""

from __future__ import annotations

import dataclasses
import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import pytest

from ensemble import Event, InvalidEvent, emit
from ensemble.event import encode, payload_of
from ensemble.testing import ManualClock
from tests.conformance.stand import Stand, part

pytestmark = pytest.mark.solo("data goes in, and is read, by the same code on every stage")

ONCE = {"attempts": 1}


@dataclasses.dataclass(frozen=True)
class Point:
    x: int = 1


def nest(levels: int, *, of: Any = None) -> Any:
    """A value inside of so many lists and maps."""
    value = of
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value


UNREADABLE = [{Point(): 1}, [{"a": {Point(): 1}}], nest(201), nest(900), {"wide": ["x"] * 300, "deep": nest(200)}]
READABLE = [{1: 1}, {(1, 2): 3, b"k": 4, None: 5}, nest(200), {"wide": [nest(9)] * 300}, {"a": Point()}, "\x93" * 999]


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
def test_data_that_not_everybody_could_read_is_refused_when_it_is_published(stand: Stand, data: Any) -> None:
    band = stand.play({"hear": part(lambda event: None, "said")})

    with pytest.raises(InvalidEvent, match=r"said: data can't be written: "):
        band.publish("said", data)

    assert list(band.events()) == []


@pytest.mark.parametrize("data", READABLE, ids=range(len(READABLE)))
def test_data_that_everybody_can_read_is_written_as_it_was(data: Any) -> None:
    assert payload_of(data) == encode(data)


@pytest.mark.parametrize("data", UNREADABLE, ids=range(len(UNREADABLE)))
def test_a_player_that_says_or_keeps_such_data_fails_at_that_event(stand: Stand, data: Any) -> None:
    def say(event: Event) -> Any:
        return emit("answered", data if event.data == "bad" else 1)

    def keep(event: Event, ctx: Any) -> None:
        ctx.state["kept"] = data if event.data == "bad" else event.data

    parts = {"say": part(say, "said", emits=["answered"], retry=ONCE), "keep": part(keep, "said", retry=ONCE)}
    band = stand.play(parts)
    band.publish_many(["bad", "good"], topic="said")
    band.settle(30)

    assert sorted((letter.player, letter.event.data) for letter in band.dead()) == [("keep", "bad"), ("say", "bad")]
    assert dict(band.table("keep")) == {"": {"kept": "good"}}
    assert [event.data for event in band.events("answered")] == [1]


def test_a_player_by_a_path_fails_at_what_a_log_has_of_such_data_and_goes_on(stand: Stand) -> None:
    heard: list[Any] = []
    band = stand.play({"hear": part(lambda event: heard.append(event.data), "said", by="a", retry=ONCE)}, clock=ManualClock())
    batch = band._inlet.batch()
    batch.add_raw("said", "", encode({Point(): 1}))
    batch.add_raw("said", "", encode({"a": "good"}))
    band._stage.publish(band._inlet.publication(batch)).wait()
    band.settle()

    [letter] = band.dead()
    assert letter.error.startswith("DecodeError")
    assert heard == [{"a": "good"}]


@pytest.mark.parametrize("line", [b'{"topic": "said", "data": "\xff"}', b"\xff\xfe{}", b"[" * 3000 + b"]" * 3000])
def test_a_line_that_is_no_text_or_too_deep_is_refused_and_the_others_are_said(
    stand: Stand, tmp_path: Path, line: bytes
) -> None:
    file = tmp_path / "said.jsonl"
    file.write_bytes(b'"first"\n' + line + b'\n"last"\n')

    schema = {"said": {"schema": {"type": "string"}}}
    band = stand.play(events=schema, sources={"read": {"file": str(file), "topic": "said"}})
    band.settle(30)

    assert [event.data for event in band.events("said")] == ["first", "last"]
    assert band.status().sources["read"].refused == 1


def test_data_too_deep_for_its_schema_to_be_checked_is_refused(stand: Stand) -> None:
    band = stand.play(events={"said": {"schema": {"type": "object", "properties": {"id": {"type": "integer"}}}}})

    for levels in (201, 500, 900):
        with pytest.raises(InvalidEvent, match=r"said: "):
            band.publish("said", nest(levels, of=1))


def test_a_damaged_gzip_file_is_told_with_its_name_and_line(stand: Stand, tmp_path: Path) -> None:
    text = b"".join(json.dumps({"n": number, "text": str(number) * 9}).encode() + b"\n" for number in range(5000))
    packed = bytearray(gzip.compress(text))
    where = next(at for at in range(len(packed) // 2, len(packed)) if _breaks(packed, at))
    packed[where : where + 60] = b"\xff" * 60
    file = tmp_path / "said.jsonl.gz"
    file.write_bytes(packed)

    band = stand.play(sources={"read": {"file": str(file), "topic": "said"}})

    with pytest.raises(InvalidEvent, match=r"source read: .*said.jsonl.gz can't be read past line \d+: .*decompressing"):
        band.settle(30)


def _breaks(packed: bytes | bytearray, at: int) -> bool:
    """Whether 60 bytes of ones there break the stream itself, not its checksum only."""
    try:
        zlib.decompress(packed[:at] + b"\xff" * 60 + packed[at + 60 :], wbits=31)
    except zlib.error as error:
        return "incorrect data check" not in str(error)
    return False
