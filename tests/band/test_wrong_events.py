"""The corpus of wrong events: each is refused with exactly the text beside its name, and nothing of it is written.

`wrong_events.txt` says what a publisher reads. `pytest tests/band/test_wrong_events.py --regenerate` writes it anew; commit a
difference only if the new text is the better one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest

import ensemble
from ensemble import Band, InvalidEvent

TEXTS = Path(__file__).with_name("wrong_events.txt")


class Payment(msgspec.Struct):
    order_id: str
    cents: int


EVENTS: dict[str, Any] = {
    "order.placed": {
        "key": "order_id",
        "schema": {
            "type": "object",
            "required": ["order_id"],
            "properties": {
                "order_id": {"type": "string"},
                "status": {"enum": ["new", "paid"]},
                "at": {"type": "string", "format": "date-time"},
                "items": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}},
                },
            },
            "additionalProperties": False,
        },
    },
    "payment.captured": {"key": "order_id", "type": f"{__name__}:Payment"},
    "customer.moved": {"key": "customer.id"},
}
ITSELF: list[Any] = []
ITSELF.append(ITSELF)
DEEP: Any = 1
for _ in range(2000):
    DEEP = [DEEP]
CLOUD = {"specversion": "1.0", "id": "e-1", "source": "/shop", "type": "said", "data": 1}

Act = Callable[[Band], Any]


def publish(*given: Any, **more: Any) -> Act:
    return lambda band: band.publish(*given, **more)


def many(*items: Any, topic: str | None = None) -> Act:
    return lambda band: band.publish_many(items, topic=topic)


def cloud(**fields: Any) -> Act:
    return many({name: value for name, value in {**CLOUD, **fields}.items() if value is not ...})


ORDER = {"order_id": "o-1"}

SPOKEN: dict[str, Act] = {
    # topics
    "publish topic wildcard": publish("order.*", {}),
    "publish topic tail wildcard": publish("order.>"),
    "publish topic empty": publish(""),
    "publish topic empty part": publish("order..placed"),
    "publish topic trailing dot": publish("order."),
    "publish topic space": publish("order placed"),
    "publish topic umlaut": publish("bestellung.gelöst"),
    "publish topic newline": publish("said\n"),
    "publish topic number": publish(7),
    "publish topic none": publish(None),
    "publish topic bytes": publish(b"said"),
    "publish topic of the band": publish("_band.dead", {}),
    "publish topic too long": publish("a" * 256),
    # keys and ids
    "publish key number": publish("said", 1, key=7),
    "publish key bytes": publish("said", 1, key=b"k"),
    "publish key too long": publish("said", 1, key="k" * 4097),
    "publish key surrogate": publish("said", 1, key="\ud800"),
    "publish key missing in data": publish("customer.moved", {"customer": {"name": "ann"}}),
    "publish key missing without data": publish("customer.moved"),
    "publish key a list": publish("customer.moved", {"customer": {"id": [1]}}),
    "publish key a mapping": publish("customer.moved", {"customer": {"id": {}}}),
    "publish id empty": publish("said", 1, id=""),
    "publish id number": publish("said", 1, id=7),
    "publish id too long": publish("said", 1, id="i" * 4097),
    "publish id surrogate": publish("said", 1, id="\udfff"),
    # times
    "publish time word": publish("said", 1, time="yesterday"),
    "publish time without zone": publish("said", 1, time="2026-01-01T12:00:00"),
    "publish time number": publish("said", 1, time=1767268800),
    "publish time month 13": publish("said", 1, time="2026-13-01T12:00:00Z"),
    "publish time naive": publish("said", 1, time=datetime(2026, 1, 1, 12)),
    # data
    "publish data object": publish("said", object()),
    "publish data function": publish("said", len),
    "publish data integer beyond 64 bit": publish("said", {"n": 2**64}),
    "publish data integer below 64 bit": publish("said", [-(2**63) - 1]),
    "publish data surrogate": publish("said", {"name": "\ud800"}),
    "publish data too deep": publish("said", DEEP),
    "publish data in itself": publish("said", ITSELF),
    # schemas and types
    "publish schema no data": publish("order.placed"),
    "publish schema list": publish("order.placed", ["o-1"]),
    "publish schema missing": publish("order.placed", {}),
    "publish schema near miss": publish("order.placed", {"orderid": "o-1"}),
    "publish schema wrong type": publish("order.placed", {"order_id": 7}),
    "publish schema unknown field": publish("order.placed", {**ORDER, "colour": "red"}),
    "publish schema enum": publish("order.placed", {**ORDER, "status": "sent"}),
    "publish schema format": publish("order.placed", {**ORDER, "at": "noon"}),
    "publish schema nested": publish("order.placed", {**ORDER, "items": [{"price": 1}, {"price": -1}]}),
    "publish schema nested type": publish("order.placed", {**ORDER, "items": [{"price": "1"}]}),
    "publish schema not a number": publish("order.placed", {**ORDER, "items": [{"price": float("nan")}]}),
    "publish schema many faults": publish("order.placed", {"a": 1, "status": 1, "at": 1, "items": 1}),
    "publish type missing": publish("payment.captured", ORDER),
    "publish type wrong": publish("payment.captured", {**ORDER, "cents": "9"}),
    "publish type fraction": publish("payment.captured", {**ORDER, "cents": 9.5}),
    "publish type other": publish("payment.captured", "9"),
    # many
    "many item number": many(7),
    "many item list": many(["said", 1]),
    "many item none": many(None),
    "many item text": many('{"topic": "said"}'),
    "many no topic": many({"data": 1}),
    "many near miss of topic": many({"topc": "said", "data": 1}),
    "many near miss of data": many({"topic": "said", "dat": 1}),
    "many unknown field": many({"topic": "said", "colour": 1}),
    "many unknown field that is no text": many({"topic": "said", 7: 1}),
    "many topic none": many({"topic": None}),
    "many topic wildcard": many({"topic": "a.*"}),
    "many topic given wildcard": many(1, topic="a.>"),
    "many topic given and schema broken": many({"order_id": 1}, topic="order.placed"),
    "many key number": many({"topic": "said", "key": 1}),
    "many id list": many({"topic": "said", "id": ["a"]}),
    "many time word": many({"topic": "said", "time": "now"}),
    # CloudEvents
    "cloudevent version": cloud(specversion="0.3"),
    "cloudevent version number": cloud(specversion=1.0),
    "cloudevent no id": cloud(id=...),
    "cloudevent empty id": cloud(id=""),
    "cloudevent number as id": cloud(id=7),
    "cloudevent no source": cloud(source=...),
    "cloudevent no type": cloud(type=...),
    "cloudevent type wildcard": cloud(type="order.*"),
    "cloudevent type of the band": cloud(type="_band.dead"),
    "cloudevent base64": cloud(data_base64="aGk="),
    "cloudevent subject number": cloud(subject=7),
    "cloudevent partitionkey too long": cloud(partitionkey="k" * 4097),
    "cloudevent time": cloud(time="2026-01-01"),
    "cloudevent traceparent short": cloud(traceparent="00-abc-def-01"),
    "cloudevent traceparent zeros": cloud(traceparent=f"00-{'0' * 32}-{'1' * 16}-01"),
    "cloudevent traceparent capitals": cloud(traceparent=f"00-{'A' * 32}-{'1' * 16}-01"),
    "cloudevent traceparent number": cloud(traceparent=7),
    "cloudevent correlationid number": cloud(correlationid=7),
    "cloudevent causationid list": cloud(causationid=["e-0"]),
    "cloudevent schema": cloud(type="order.placed", data={"order_id": 7}),
}

WRITTEN: dict[str, bytes] = {
    "line not json": b"topic: said",
    "line half": b'{"topic": "said", "data": ',
    "line two values": b'{"topic": "said"} {"topic": "said"}',
    "line single quotes": b"{'topic': 'said'}",
    "line comma at the end": b'{"topic": "said",}',
    "line not a number": b'{"topic": "said", "data": NaN}',
    "line infinite": b'{"topic": "said", "data": Infinity}',
    "line half a surrogate pair": rb'{"topic": "said", "data": "\ud800"}',
    "line integer beyond 64 bit": b'{"topic": "said", "data": 18446744073709551616}',
    "line fraction beyond all": b'{"topic": "said", "data": 1e999}',
    "line too deep": b'{"topic": "said", "data": ' + b"[" * 2000 + b"]" * 2000 + b"}",
    "line nul": b"\0",
    "line number": b"7",
    "line list": b'["said"]',
    "line null": b"null",
    "line no topic": b'{"data": 1}',
    "line near miss": b'{"topc": "said"}',
    "line wildcard": b'{"topic": "order.*"}',
    "line key number": b'{"topic": "said", "key": 7}',
    "line time": b'{"topic": "said", "time": 7}',
    "line schema": b'{"topic": "order.placed", "data": {"order_id": "o-1", "items": [{"price": -1}]}}',
    "line type": b'{"topic": "payment.captured", "data": {"order_id": "o-1"}}',
    "line cloudevent version": json.dumps({**CLOUD, "specversion": "2.0"}).encode(),
    "line cloudevent no source": json.dumps({**CLOUD, "source": None}).encode(),
    "line cloudevent traceparent": json.dumps({**CLOUD, "traceparent": "00"}).encode(),
}


def expected() -> Mapping[str, str]:
    lines = TEXTS.read_text().splitlines()
    return dict(line.split(" | ", 1) for line in lines)


@pytest.fixture(scope="module")
def texts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """What is read for each, by its name; written down first if that was asked for."""
    told = {**{name: refusal_of(act) for name, act in SPOKEN.items()}, **refusals_of(WRITTEN, tmp_path_factory.mktemp("in"))}
    if request.config.getoption("--regenerate"):
        TEXTS.write_text("".join(f"{name} | {text}\n" for name, text in told.items()))
    return told


def refusal_of(act: Act) -> str:
    """What a publisher reads. It must be all that comes of it."""
    with ensemble.open({"ensemble": 1, "name": "test", "events": EVENTS}, store="memory:") as band:
        before = band.publish("said", 0)
        with pytest.raises(InvalidEvent) as refused:
            act(band)
        after = band.publish("said", 0)
        assert (before.offset, after.offset, band.status().frames) == (0, 1, 3), "something of it was written"
    return str(refused.value)


def refusals_of(lines: Mapping[str, bytes], folder: Path) -> dict[str, str]:
    """What is kept of each line of a file that is refused. Lines that are right stand between, and are said."""
    file = folder / "in.jsonl"
    right = b'{"topic": "said"}'
    file.write_bytes(b"".join(line + b"\n" + right + b"\n" for line in lines.values()))
    score = {"ensemble": 1, "name": "test", "events": EVENTS, "sources": {"in": {"file": str(file)}}}
    with ensemble.open(score, store="memory:") as band:
        band.settle(60)
        refused = {event.data["line"]: event.data["reason"] for event in band.events("_band.refused")}
        assert [event.data for event in band.events()] == [None] * len(lines), "something of a wrong line was said"
    assert sorted(refused) == [2 * number + 1 for number in range(len(lines))]
    return {name: refused[2 * number + 1] for number, name in enumerate(lines)}


@pytest.mark.parametrize("name", [*SPOKEN, *WRITTEN])
def test_a_wrong_event_gives_the_text_that_its_publisher_needs_and_nothing_is_written(
    name: str, texts: Mapping[str, str]
) -> None:
    assert texts[name] == expected()[name]
    assert len(texts[name]) <= 500, "a text for people"
    assert "\n" not in texts[name]


def test_the_corpus_holds_every_text_once_and_no_text_without_its_event(texts: Mapping[str, str]) -> None:
    assert list(expected()) == list(texts)
    assert len(texts) >= 40
