"""Damage that lies behind a snapshot is found when it is read, and told in one sentence."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import ensemble


@pytest.fixture
def damaged(tmp_path: Path) -> str:
    """A store with a snapshot, in which an event before it has lost a byte."""
    url = str(tmp_path / "store")
    with ensemble.open({"ensemble": 1, "name": "test"}, store=url) as band:
        for number in range(3):
            band.publish("said", f"number {number}")
    segment = next(Path(url).rglob("*.seg"))
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b"number 1", b"nunber 1"))
    return url


def hear(event: ensemble.Event) -> None: ...


def test_a_band_opens_over_damage_behind_a_snapshot_and_stops_in_one_sentence_when_it_is_read(
    damaged: str, caplog: pytest.LogCaptureFixture
) -> None:
    score = {"ensemble": 1, "name": "test", "players": {"hear": {"on": "said"}}}

    with ensemble.open(score, store=damaged, players={"hear": hear}) as band, pytest.raises(ensemble.LogCorrupt):
        band.settle(20)

    [record] = [each for each in caplog.records if each.name == "ensemble.stage"]
    assert "the loop of band test stopped: " in record.getMessage()
    assert ".seg: byte " in record.getMessage()
    assert record.levelno == logging.ERROR
    assert record.exc_info is None


def test_reading_all_events_finds_it(damaged: str) -> None:
    with ensemble.read(damaged) as reader, pytest.raises(ensemble.LogCorrupt, match=r"\.seg: byte [0-9]+"):
        list(reader.events())
