"""Every picture in docs/motifs.md, played: by the definition, and by a band from whose log it is heard."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

import ensemble
from ensemble.motif import How
from ensemble.testing import ManualClock
from tests.broker.matching.histories import MINUTE, read
from tests.broker.matching.oracle import Said, heard

DOCUMENT = Path(__file__).parents[1] / "docs/motifs.md"
BLOCK = re.compile(r"^```motif\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LATER = 60


@dataclass(frozen=True)
class Picture:
    """A motif, what is said, and what is heard of it: `7: A0 B2`."""

    motif: Any
    named: dict[str, Any]
    said: list[Said]
    own: list[int] | None
    """The minutes that the events' publishers gave."""
    heard: list[str]


def picture(text: str) -> Picture:
    written, _, drawn = text.partition("\n\n")
    *names, motif = written.strip().splitlines()
    rows: dict[str, list[str]] = {"heard": []}
    for line in drawn.strip().splitlines():
        name, *cells = line.split()
        if name == "heard":
            rows["heard"].append(" ".join(cells))
        else:
            rows[name] = cells
    said = []
    for at, (minute, cell) in enumerate(zip(rows["minute"], rows["said"], strict=True)):
        topic, _, given = cell.partition("(")
        data = {name: int(value) for name, value in re.findall(r"(\w+)=(\d+)", given)}
        said.append(Said(at, int(minute) * MINUTE, topic, rows.get("key", ["k"] * (at + 1))[at], data))
    own = [int(minute) for minute in rows["time"]] if "time" in rows else None
    return Picture(
        yaml.safe_load(motif), {k: v for name in names for k, v in yaml.safe_load(name).items()}, said, own, rows["heard"]
    )


PICTURES = [
    pytest.param(picture(found[1]), id=f"{DOCUMENT.read_text().count(chr(10), 0, found.start()) + 1}")
    for found in BLOCK.finditer(DOCUMENT.read_text(encoding="utf-8"))
]


@pytest.mark.parametrize("drawn", PICTURES)
def test_a_picture_is_what_the_definition_says(drawn: Picture) -> None:
    motif = read(drawn.motif, **drawn.named)
    if drawn.named or getattr(motif, "how", How()).time == "event":
        pytest.skip("the definition knows one motif, and the broker's time")
    topics = {said.at: said.topic for said in drawn.said}

    told = heard(motif, drawn.said, (int(drawn.said[-1].time_us) // MINUTE + LATER) * MINUTE)

    assert [
        f"{int(each.time_us) // MINUTE}: " + " ".join(f"{topics[at]}{drawn.said[at].time_us // MINUTE}" for at in each.offsets)
        for each in told
    ] == drawn.heard


@pytest.mark.parametrize("drawn", PICTURES)
def test_a_picture_is_what_a_band_hears(drawn: Picture, tmp_path: Path) -> None:
    clock = ManualClock("1970-01-01T00:00:00Z")
    told: list[str] = []

    def minute(event: ensemble.Event) -> int:
        return round(event.time.timestamp()) // 60

    def ear(match: ensemble.Match) -> None:
        told.append(f"{minute(match)}: " + " ".join(f"{part.topic}{minute(part)}" for part in match.events))

    score = {"ensemble": 1, "name": "picture", "motifs": drawn.named, "players": {"ear": {"on": drawn.motif}}}
    with ensemble.open(score, store=str(tmp_path / "store"), clock=clock, players={"ear": ear}) as band:
        for said in drawn.said:
            clock.advance(seconds=said.time_us / 1e6 - clock.now_us() / 1e6)
            own = None if drawn.own is None else f"1970-01-01T00:{drawn.own[said.at]:02d}:00Z"
            band.publish(said.topic, said.data, key=said.key, time=own)
        clock.advance(minutes=LATER)

    assert told == drawn.heard
